"""A job, its states and every change that a job can go through.

::

      submit                    claim                settle
     --+---> waiting ---+     +-------> running --+--> succeeded
       |        ^       | free|            |      +--> failed
       |        | limit v     |            |      +--> retrying --+
       +-----> queued --------+            |      +--> dead       |
       |           ^ ^ ^                   |                      |
       |           | | +-------------------+ worker lost          |
       +---> scheduled (due)                                      |
                   | +--------------------------------------------+ due
                   +--- replayed, from failed, dead and cancelled

    Whatever has not ended can become cancelled.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from taskbus.model.json import dump
from taskbus.model.options import DEFAULT_QUEUE, HIGHEST_PRIORITY

# A job's own topic has its id behind this.
JOB_TOPIC = "taskbus.job."

# The kind of an event, and what it says.
Note = tuple[str, dict[str, Any]]


class State(StrEnum):
    """What is true of a job now."""

    SCHEDULED = "scheduled"  # accepted, waits in the store until its time
    WAITING = "waiting"  # waits for other jobs: those before it, or those that fill its limit
    QUEUED = "queued"  # due, waits for a worker
    RUNNING = "running"  # one attempt is under way
    RETRYING = "retrying"  # an attempt failed, the next one waits for its backoff
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the task said so, and no further attempt was left
    DEAD = "dead"  # nobody said anything: too many workers died with it in hand
    CANCELLED = "cancelled"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset({State.QUEUED, State.CANCELLED}),
    State.WAITING: frozenset({State.QUEUED, State.SCHEDULED, State.CANCELLED}),
    State.QUEUED: frozenset({State.RUNNING, State.WAITING, State.CANCELLED}),
    State.RUNNING: frozenset(
        {
            State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED, State.DEAD,
            State.CANCELLED,
        }
    ),
    State.RETRYING: frozenset({State.QUEUED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.DEAD: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}  # fmt: skip
FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED})
# The dead letters, and what somebody stopped: an operator may queue these again.
REPLAYABLE = frozenset(state for state in FINAL if TRANSITIONS[state])


class Job(NamedTuple):
    """One accepted call. Times are seconds since the epoch; ``args``, ``kwargs``, ``details`` and
    ``error`` are JSON texts. ``seq`` counts the job's journal and fences every write to it;
    ``failures`` and ``losses`` count attempts that failed, and whose worker died, since the job was
    submitted or replayed. ``cancel`` is who has asked the attempt under way to end.

    ``policy`` is a ``taskbus.model.policy.Policy``, ``tags`` a list of texts, both JSON. ``tied``
    is 1 where other jobs, or a unique key, wait for this one's end. ``lane`` is the limit that a
    waiting job waits for, that a queued one has waited for, and in which a running one has a place
    for as long as its attempt lasts. ``expires`` is when the ended job is forgotten.
    """

    id: str
    uri: str
    state: State
    priority: int
    timeout: float
    retries: int
    args: str
    kwargs: str
    details: str
    created: float
    due: float
    queue: str = DEFAULT_QUEUE
    policy: str = "{}"
    tags: str = "[]"
    tied: int = 0
    lane: str | None = None
    expires: float | None = None
    started: float | None = None
    finished: float | None = None
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    worker: str | None = None
    lease: float | None = None
    error: str | None = None
    cancel: str | None = None
    seq: int = 0

    @property
    def placement(self) -> "Placement":
        """How the queue is told of this job."""
        return Placement(self.id, self.priority, self.queue, self.seq)


class Event(NamedTuple):
    """One line of a job's journal. ``kind`` is a State, ``progress`` or ``output``."""

    job: str
    seq: int
    at: float
    kind: str
    data: str


class Placement(NamedTuple):
    """A job id on its way to the queue; ``seq`` is the job's since it was queued."""

    job: str
    priority: int
    queue: str = DEFAULT_QUEUE
    seq: int = 1

    @property
    def urgency(self) -> int:
        """The priority as beanstalkd counts: lower runs earlier."""
        return HIGHEST_PRIORITY - self.priority


class Key(NamedTuple):
    """A name that one job holds: ``until`` a time, or until the job has ended.

    ``request`` is a digest of what the name was first used for, ``label`` what its user calls it.
    """

    name: str
    job: str
    until: float | None
    request: str = ""
    label: str = ""


class Link(NamedTuple):
    """The job ``after`` waits for the end of the job ``before``: ``on`` success, failure or end."""

    before: str
    after: str
    on: str


class Submission(NamedTuple):
    """A job that is valid but not accepted yet, with all that is stored together with it."""

    job: Job
    event: Event
    keys: tuple[Key, ...] = ()
    links: tuple[Link, ...] = ()


class Place(NamedTuple):
    """A job's place in the lane of a limit, the ``nth`` from 0 on: taken until a time, or (None)
    until the job's attempt has ended.
    """

    lane: str
    nth: int
    job: str
    until: float | None


class Change(NamedTuple):
    """One atomic step: the job before and after, its events, and its result once it has one.

    A store applies it only where the job still is at ``before.seq``, nobody holds the ``keys``
    that a replayed job takes again, and its ``places`` are free.
    """

    before: Job
    after: Job
    events: tuple[Event, ...]
    result: str | None = None
    keys: tuple[Key, ...] = ()
    places: tuple[Place, ...] = ()


def born(job: Job, reason: str, actor: str) -> Event:
    """The first event of a job that is not stored yet (its ``seq`` is 1)."""
    return Event(job.id, job.seq, job.created, job.state, dump({"reason": reason, "actor": actor}))


def move(
    job: Job,
    state: State,
    at: float,
    *,
    reason: str,
    actor: str,
    data: dict[str, Any] | None = None,
    result: str | None = None,
    **fields: Any,
) -> Change:
    """The change that brings a job into ``state``; raises ValueError where there is no such way.

    The job leaves its lane, unless ``lane`` is among the fields.
    """
    if state not in TRANSITIONS[job.state]:
        raise ValueError(f"job {job.id}: no transition from {job.state} to {state}")
    after = job._replace(state=state, seq=job.seq + 1, **{"lane": None, **fields})
    body = {"reason": reason, "actor": actor, "attempt": after.attempt, **(data or {})}
    return Change(job, after, (Event(job.id, after.seq, at, state, dump(body)),), result)


def note(job: Job, at: float, notes: list[Note]) -> Change:
    """The change that adds events (kind, data) to a job and leaves its state."""
    events = tuple(
        Event(job.id, job.seq + nth, at, kind, dump(data))
        for nth, (kind, data) in enumerate(notes, 1)
    )
    return Change(job, job._replace(seq=job.seq + len(events)), events)
