"""Recovery: jobs that no delivery of the queue will ever bring back are queued again.

The queue may lose what it has: its log was wiped, the power failed, somebody deleted entries. The
store then still has the jobs, as queued, or as running with a worker that is gone. An entry too
many does no harm, as claims are fenced, so that what looks lost may be put there once more.
"""

import logging
from collections.abc import Sequence

from taskbus.core.chores import BITE, Chore, place
from taskbus.core.lease import is_lost, lease_seconds, take_over
from taskbus.core.retention import STANDARD_RETENTION, Retention
from taskbus.model.identity import new_job_id
from taskbus.model.job import Job, Placement, State
from taskbus.port.backlog import Backlog
from taskbus.port.clock import Clock
from taskbus.port.liveness import Liveness
from taskbus.port.queue import Queue, QueueStats
from taskbus.port.store import Store

log = logging.getLogger(__name__)

_EVERY = 2.0
# A dead worker's entry comes back by itself, and is claimed within this time.
_CLAIMED = 5.0


class Recovery:
    """What is lost is told by looking twice: between two looks, jobs on their way have arrived."""

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        queue: Queue,
        liveness: Liveness,
        clock: Clock,
        ttr: float,
        retention: Retention = STANDARD_RETENTION,
    ) -> None:
        """``ttr``: seconds within which a worker that lives renews a claim, where the job says
        nothing else.
        """
        self._store = store
        self._backlog = backlog
        self._queue = queue
        self._liveness = liveness
        self._clock = clock
        self._ttr = ttr
        self._retention = retention
        self._instance: str | None = None
        # While the queue is filled anew: the last job placed, and the first one not to be.
        self._filling: tuple[str, str] | None = None
        self._missing: set[str] = set()
        # Running jobs are looked at in turn, the newest first: which is next, and since when those
        # seem lost that were looked at in this turn, and in the last one.
        self._before = ""
        self._found: dict[Job, float] = {}
        self._lost: dict[Job, float] = {}

    def chores(self) -> tuple[Chore, ...]:
        """For the table."""
        return (
            Chore("queue again what the queue has lost", _EVERY, self.refill),
            Chore("take over what dead workers had", _EVERY, self.take_over),
        )

    def refill(self) -> int:
        """Queued jobs that the queue does not have."""
        instance, stats = self._queue.instance(), self._queue.stats()
        if instance != self._instance and self._has_settled():
            self._instance = instance
            self._compare(stats)
        if self._filling is None:
            return self._refill_where_empty(stats)
        after, end = self._filling
        found = self._backlog.queued(after, BITE)
        # What was accepted since has an entry of its own.
        lost = [placement for placement in found if placement.job < end]
        place(self._store, self._queue, lost)
        self._filling = (lost[-1].job, end) if len(lost) == BITE else None
        return len(lost)

    def _has_settled(self) -> bool:
        """All that was accepted some time ago has been put in the queue."""
        return not self._store.unplaced(self._clock() - _CLAIMED, 1)

    def _compare(self, stats: QueueStats) -> None:
        """The queue was started anew, or we were: does it have all that it should?"""
        queued = self._store.counts().get(State.QUEUED, 0)
        entries = stats.ready + stats.reserved + stats.delayed
        if entries < queued:
            log.warning("the queue has %d entries for %d jobs: filling it", entries, queued)
            self._filling = ("", new_job_id())

    def _refill_where_empty(self, stats: QueueStats) -> int:
        """Nothing waits there, and yet the same jobs have been waiting for two looks."""
        found: Sequence[Placement] = ()
        if stats.ready + stats.delayed == 0:
            found = self._backlog.queued("", BITE)
        lost = [placement for placement in found if placement.job in self._missing]
        self._missing = {placement.job for placement in found}
        if lost:
            log.warning("the queue has lost %d jobs or more: they are queued again", len(lost))
            place(self._store, self._queue, lost)
            if len(lost) == BITE:
                self._filling = (lost[-1].job, new_job_id())
        return len(lost)

    def take_over(self) -> int:
        """Running jobs that nobody runs."""
        now = self._clock()
        running = self._store.jobs([State.RUNNING], before=self._before, limit=BITE)
        lost = {
            job: self._lost.get(job, now) for job in running if is_lost(job, self._liveness, now)
        }
        due = [job for job, since in lost.items() if now >= since + self._patience(job)]
        self._found |= {job: since for job, since in lost.items() if job not in due}
        self._before = running[-1].id if len(running) == BITE else ""
        if not self._before:
            self._lost, self._found = self._found, {}
        changes = [take_over(job, now, "chores", self._retention) for job in due]
        if changes:
            done = self._store.advance(changes)
            after = [change.after for change, ok in zip(changes, done, strict=True) if ok]
            again = [job.placement for job in after if job.state is State.QUEUED]
            place(self._store, self._queue, again)
        return len(changes)

    def _patience(self, job: Job) -> float:
        """A worker whose claim is over may have been kept from renewing it, as by the store."""
        is_dead = job.worker is not None and self._liveness.is_dead(job.worker)
        return _CLAIMED if is_dead else lease_seconds(job, self._ttr)
