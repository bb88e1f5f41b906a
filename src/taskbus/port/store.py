"""The store: jobs, their journal and their results. Every write is one atomic commit."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from taskbus.model.errors import JobNotFound
from taskbus.model.job import Change, Event, Job, Placement, State, Submission


class Entry(NamedTuple):
    """An event and its position in the journal of the whole store."""

    position: int
    event: Event


class Store(Protocol):
    """Safe to use from several threads. Every method may raise StoreUnavailable."""

    def add(self, submissions: Sequence[Submission], placed: Sequence[Placement] = ()) -> None:
        """Accept jobs with all that belongs to them. Queued ones are remembered as not yet placed
        in the queue; ``placed`` are earlier ones that the queue has taken since.
        Durable when it returns; raises KeyTaken, with nothing stored, where another job holds one
        of the keys.
        """

    def placed(self, placements: Sequence[Placement]) -> None:
        """The queue has taken these jobs. Those that have been queued once more since stay
        remembered: of that the queue may not know.
        """

    def unplaced(self, before: float, limit: int) -> list[Placement]:
        """Jobs that the queue may not know of, queued before this time; some may run meanwhile."""

    def advance(self, changes: Sequence[Change], durable: bool = True) -> list[bool]:
        """Apply each change whose job still is at ``before.seq``; says which were applied.

        A change that follows another of the same job in the same call is applied after it, and
        refused with it; so is one whose ``keys`` are held. A step to RETRYING is refused where
        somebody has asked the attempt to end: it has to be cancelled instead. ``cancel``, ``args``
        and ``kwargs`` are written by a replay alone. Not ``durable``: a power failure, not a crash,
        may undo it until the next ``sync``.

        ``places`` are free where nobody has them, or had them until a time that is no later than
        the change. A running job that has a lane gives its place there back with its next state.
        """

    def sync(self) -> None:
        """Whatever has been written outlives a power failure when it returns."""

    def renew(self, job: Job, lease: float) -> bool:
        """Extend the running attempt's lease; False when the attempt is no longer the job's."""

    def ask_to_end(self, job: Job, actor: str) -> bool:
        """Note who wants the running attempt to end; False when it is no longer the job's."""

    def asked_to_end(self, jobs: Collection[str]) -> dict[str, str]:
        """Who has asked each of these to end; nothing of those whom nobody has asked."""

    def remove(self, jobs: Collection[str]) -> list[str]:
        """Forget those that have ended, with journal and result; returns which. Those that a job
        which has not ended waits for, or looks back on, are kept.
        """

    def job(self, job: str) -> Job | None:
        """The job as it is now."""

    def result(self, job: str) -> str | None:
        """The result of a succeeded job, a JSON text."""

    def jobs(
        self,
        states: Collection[State] = (),
        uri: str = "",
        before: str = "",
        limit: int = 100,
        tag: str = "",
    ) -> list[Job]:
        """Newest first, older than the job ``before``; ``uri`` may end in ``.*``."""

    def due(self, now: float, limit: int) -> list[Job]:
        """Scheduled and retrying jobs whose time has come, the earliest first."""

    def next_due(self) -> float | None:
        """When the next scheduled or retrying job is due."""

    def events(self, job: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """The job's journal from ``seq > after``, in order."""

    def journal(self, after: int, limit: int) -> list[Entry]:
        """The journal of all jobs from ``position > after``, in order, without gaps."""

    def position(self) -> int:
        """The position of the newest entry of the journal."""

    def counts(self, states: Collection[State] = (), uri: str = "") -> Mapping[State, int]:
        """How many jobs are in each state, of these where some are named; ``uri`` may end in
        ``.*``, and is looked for among all jobs of those states.
        """

    def close(self) -> None:
        """Let go of files and connections."""


def existing(store: Store, job_id: str) -> Job:
    """The job, or JobNotFound."""
    job = store.job(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job
