"""What follows a job's end: jobs that have waited for it go on, or end without having run.

::

    its end is stored ---> link not met: cancelled ---> and so on with those that follow this one
                      +--> link met ---> no other link left: queued
                      +--> all are done: not tied any more

Whoever has ended a tied job takes these steps, each a commit of its own. Each may be taken twice,
or by two processes at a time: of those who see that no link is left, one moves the job. After a
crash between two of them the job is still tied, and a chore begins again.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from taskbus.core.cancel import cancelled
from taskbus.core.chores import BITE, Chore, place
from taskbus.core.retention import STANDARD_RETENTION, Retention
from taskbus.model.job import FINAL, Change, Job, Link, Placement, State, move
from taskbus.model.json import load
from taskbus.model.options import END, FAILURE, SUCCESS
from taskbus.model.policy import Policy
from taskbus.port.clock import Clock
from taskbus.port.links import Ended, Links
from taskbus.port.queue import Queue
from taskbus.port.store import Store

# What each end meets. Who cancels a job knows that it did not run to its end: nobody need be told
# of a failure, and nobody may go on as after a success.
MET: dict[State, frozenset[str]] = {
    State.SUCCEEDED: frozenset({SUCCESS, END}),
    State.FAILED: frozenset({FAILURE, END}),
    State.DEAD: frozenset({FAILURE, END}),
    State.CANCELLED: frozenset({END}),
}
# What a task is told of the jobs before its own: characters of one result, or error, as JSON, and
# of all of them together.
LARGEST_BODY, LARGEST_BODIES = 1_000_000, 4_000_000

_ACTOR = "follow-up"
# A job that ended that long ago and is still tied was left by whoever ended it.
_UNFOLLOWED = 2.0
_AT_ONCE = 50
_MOST = 200
# As many results as are read at a time.
_READ = 30


class FollowUps:
    """Follows ends, and tells of them."""

    def __init__(
        self,
        store: Store,
        links: Links,
        clock: Clock,
        retention: Retention = STANDARD_RETENTION,
    ) -> None:
        self._store = store
        self._links = links
        self._clock = clock
        self._retention = retention

    def after(self, ended: Sequence[Job], most: int = _MOST) -> list[Placement]:
        """Take the steps for these jobs, which are tied and have ended, and for those that are
        cancelled in turn, up to ``most`` of them: the others are left to the chore.

        Returns what the queue is to be told of.
        """
        todo = deque(ended)
        freed: list[Job] = []
        while todo and most > 0:
            batch = [todo.popleft() for _ in range(min(len(todo), _AT_ONCE, most))]
            most -= len(batch)
            todo += self._follow(batch, freed)
        return [job.placement for job in freed if job.state is State.QUEUED]

    def _follow(self, batch: Sequence[Job], freed: list[Job]) -> list[Job]:
        """One step for each of these; the tied ones among the jobs that it has cancelled."""
        ended = {job.id: job for job in batch}
        links = self._links.of(ended)
        unmet = {link.after: link for link in links if not _is_met(link, ended)}
        dropped = self._cancel(unmet, ended)
        if links:
            for state in {job.state for job in batch}:
                self._links.meet([job.id for job in batch if job.state is state], MET[state])
            # Looked at after the commit: of two who end the last jobs before it, one sees both.
            freed += self._free({link.after: ended[link.before] for link in links}, ended)
        self._links.untie(ended)
        return [job for job in dropped if job.tied]

    def _cancel(self, unmet: dict[str, Link], ended: dict[str, Job]) -> list[Job]:
        if not unmet:
            return []
        now = self._clock()
        return self._applied(
            [
                cancelled(job, _ACTOR, now, self._retention, _why(unmet[job.id], ended))
                for job in self._links.waiting(unmet)
            ]
        )

    def _free(self, last: dict[str, Job], ended: dict[str, Job]) -> list[Job]:
        now = self._clock()
        found = sorted(self._links.free(ended))
        return self._applied([_freed(job, last[job.id], now) for job in found])

    def _applied(self, changes: Sequence[Change]) -> list[Job]:
        """The jobs after those changes that nobody else was quicker with.

        Not durable: a power failure that undoes one leaves the job before it tied.
        """
        done = self._store.advance(changes, durable=False) if changes else []
        return [change.after for change, ok in zip(changes, done, strict=True) if ok]

    def unfollowed(self) -> list[Job]:
        """Jobs that ended a while ago, and whose followers may not know."""
        return self._links.tied(self._clock() - _UNFOLLOWED, BITE)

    def before(self, job: Job) -> list[dict[str, Any]] | None:
        """How the jobs before this one have ended, as its task finds it in ``details.after``: job,
        uri, state, and result or error; None where there are none.

        What would make it too large is left out, with a note of it under ``left_out``.
        """
        # Most jobs follow nobody, and their details are not even read here.
        ids = load(job.details).get("after") if '"after":' in job.details else None
        if not ids:
            return None
        room = LARGEST_BODIES
        told = []
        for begin in range(0, len(ids), _READ):
            chunk = ids[begin : begin + _READ]
            found = self._links.outcomes(chunk, min(room, LARGEST_BODY))
            ended = {one.job: one for one in found}
            for job_id in chunk:
                entry, size = _told(job_id, ended.get(job_id), room)
                room -= size
                told.append(entry)
        return told


class Ends:
    """The chore: ends that nobody has followed to the last."""

    def __init__(self, follow_ups: FollowUps, store: Store, queue: Queue) -> None:
        self._follow_ups = follow_ups
        self._store = store
        self._queue = queue

    def chores(self) -> tuple[Chore, ...]:
        """For the table."""
        return (Chore("follow ends that nobody has followed", 1.0, self.follow),)

    def follow(self) -> int:
        """Let those go on whose predecessors have ended."""
        found = self._follow_ups.unfollowed()
        place(self._store, self._queue, self._follow_ups.after(found, 2 * BITE))
        return len(found)


def has_ended(job: Job) -> bool:
    """Whether other jobs may wait for this end."""
    return job.tied == 1 and job.state in FINAL


def _is_met(link: Link, ended: dict[str, Job]) -> bool:
    return link.on in MET[ended[link.before].state]


def _why(link: Link, ended: dict[str, Job]) -> str:
    return f"it waited for the {link.on} of job {link.before}, which is {ended[link.before].state}"


def _freed(job: Job, last: Job, now: float) -> Change:
    delay = Policy.of(job.policy).delay
    due = max(now, job.due) if delay is None else now + delay
    state = State.SCHEDULED if due > now else State.QUEUED
    reason = f"job {last.id}, the last before it, is {last.state}"
    return move(job, state, now, reason=reason, actor=_ACTOR, due=due)


def _told(job: str, ended: Ended | None, room: int) -> tuple[dict[str, Any], int]:
    """The entry of one job, and how much of the room it takes."""
    if ended is None:
        return {"job": job, "state": "forgotten"}, 0
    kind = "result" if ended.state is State.SUCCEEDED else "error"
    entry = {"job": job, "uri": ended.uri, "state": ended.state.value}
    if ended.body is None or ended.size > room:
        left_out = {"left_out": f"its {kind}, {ended.size} characters of JSON"}
        return entry | (left_out if ended.size else {}), 0
    body = load(ended.body)
    body.pop("traceback", None)
    return entry | {kind: body}, ended.size
