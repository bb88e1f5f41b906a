"""Maintenance, as a table: how often, what. Each chore works in bounded bites."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskbus.model.errors import TaskbusError
from taskbus.model.job import Placement, State, move
from taskbus.port.clock import Clock
from taskbus.port.queue import Queue
from taskbus.port.store import Store

BITE = 500
# A job stored that long ago and still not placed was forgotten by whoever accepted it.
_FORGOTTEN = 5.0


def _in_its_rhythm() -> None:
    return None


class Chore(NamedTuple):
    """``run`` returns how many jobs it moved; a full bite means that there may be more. ``sooner``
    is the time when there is something to do, where that is known.
    """

    name: str
    every: float
    run: Callable[[], int]
    sooner: Callable[[], float | None] = _in_its_rhythm


class Chores:
    """What has to be done from time to time, by one process at a time or by several: each step
    is fenced, so two of them do no harm.
    """

    def __init__(self, store: Store, queue: Queue, clock: Clock, *others: Chore) -> None:
        """``others``: what else there is to do."""
        self._store = store
        self._queue = queue
        self._clock = clock
        self.table = (
            Chore("queue jobs that are due", 0.5, self.queue_due, store.next_due),
            Chore("queue jobs that the queue may not know", 2.0, self.queue_forgotten),
            *others,
        )
        self._next = dict.fromkeys((chore.name for chore in self.table), 0.0)

    def run(self) -> float:
        """Run every chore whose time has come; returns how long to sleep, in seconds.

        Raises the first error once all have had their turn: a queue that is down keeps nobody from
        forgetting old jobs.
        """
        now = self._clock()
        failed: TaskbusError | None = None
        for chore in self.table:
            try:
                self._run(chore, now)
            except TaskbusError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return max(0.0, min(self._next.values()) - self._clock())

    def _run(self, chore: Chore, now: float) -> None:
        # What is further away was meant by a clock that has been set back since.
        self._next[chore.name] = min(self._next[chore.name], now + chore.every)
        if self._next[chore.name] <= now:
            moved = chore.run()
            self._next[chore.name] = now if moved >= BITE else now + chore.every
        sooner = chore.sooner()
        if sooner is not None:
            self._next[chore.name] = min(self._next[chore.name], sooner)

    def queue_due(self) -> int:
        """Scheduled and retrying jobs whose time has come."""
        now = self._clock()
        changes = [
            move(job, State.QUEUED, now, reason="due", actor="chores")
            for job in self._store.due(now, BITE)
        ]
        if changes:
            done = self._store.advance(changes)
            after = [change.after for change, ok in zip(changes, done, strict=True) if ok]
            place(self._store, self._queue, [job.placement for job in after])
        return len(changes)

    def queue_forgotten(self) -> int:
        """Jobs accepted while the queue was down, or by a process that died before it put them."""
        found = self._store.unplaced(self._clock() - _FORGOTTEN, BITE)
        place(self._store, self._queue, found)
        return len(found)


def place(store: Store, queue: Queue, placements: Sequence[Placement]) -> None:
    """Tell the queue, and the store that the queue knows; raises QueueUnavailable."""
    if placements:
        queue.put(placements)
        store.placed(placements)
