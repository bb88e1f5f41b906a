"""Store and queue in the memory of one process: for tests, and to try things out."""

import os
import threading
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from taskbus.model.errors import KeyTaken, QueueUnavailable, StoreUnavailable
from taskbus.model.job import (
    FINAL,
    Change,
    Event,
    Job,
    Key,
    Link,
    Place,
    Placement,
    State,
    Submission,
)
from taskbus.model.json import load
from taskbus.model.options import DEFAULT_QUEUE
from taskbus.model.uri import covers
from taskbus.port.queue import Delivery, QueueStats
from taskbus.port.store import Entry

_WAITING = (State.SCHEDULED, State.RETRYING)


class MemoryStore:
    """A Store; see ``taskbus.port.store``. ``available = False`` makes it refuse everything."""

    def __init__(self) -> None:
        self.available = True
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._results: dict[str, str] = {}
        self._journal: list[Entry] = []
        self._position = 0
        self._unplaced: dict[Placement, float] = {}
        self._keys: dict[str, Key] = {}
        # Whether each is met.
        self._links: dict[Link, bool] = {}
        self._places: dict[tuple[str, int], Place] = {}
        self._records: dict[tuple[str, str], tuple[str, int]] = {}
        self._changes: Counter[str] = Counter()

    def add(self, submissions: Sequence[Submission], placed: Sequence[Placement] = ()) -> None:
        """See Store."""
        with self._locked():
            fresh = {one.job.id: one.job for one in submissions}
            if len(fresh) < len(submissions) or fresh.keys() & self._jobs.keys():
                raise StoreUnavailable("a job with this id is stored already")
            before = self._keys
            try:
                for one in submissions:
                    self._keys = self._with_keys(one.keys, one.job.created)
            except KeyTaken:
                self._keys = before
                raise
            self._links |= {link: False for one in submissions for link in one.links}
            self._forget(placed)
            self._jobs |= fresh
            self._record([one.event for one in submissions])
            self._unplaced |= {
                job.placement: job.created for job in fresh.values() if job.state is State.QUEUED
            }

    def placed(self, placements: Sequence[Placement]) -> None:
        """See Store."""
        with self._locked():
            self._forget(placements)

    def unplaced(self, before: float, limit: int) -> list[Placement]:
        """See Store."""
        with self._locked():
            return sorted(one for one, since in self._unplaced.items() if since < before)[:limit]

    def sync(self) -> None:
        """See Store. Nothing here outlives the process."""
        with self._locked():
            pass

    def advance(self, changes: Sequence[Change], durable: bool = True) -> list[bool]:  # noqa: ARG002
        """See Store."""
        done: list[bool] = []
        refused: set[str] = set()
        with self._locked():
            for change in changes:
                done.append(change.before.id not in refused and self._apply(change))
                if not done[-1]:
                    refused.add(change.before.id)
            for change, ok in zip(changes, done, strict=True):
                if ok and self._jobs[change.after.id].state is State.QUEUED is change.after.state:
                    # An earlier placement may never have been confirmed.
                    self._forget([change.after.placement])
                    self._unplaced[change.after.placement] = change.events[-1].at
        return done

    def _apply(self, change: Change) -> bool:
        before, after = change.before, change.after
        now = self._jobs.get(before.id)
        if now is None or now.seq != before.seq or not self._are_free(change):
            return False
        if after.state is State.RETRYING and now.cancel is not None:
            return False
        if change.keys:
            try:
                self._keys = self._with_keys(change.keys, change.events[-1].at)
            except KeyTaken:
                return False
        if before.lane is not None and before.state is State.RUNNING is not after.state:
            self._drop_places(lambda one: one.job == before.id and one.until is None)
        self._places |= {(one.lane, one.nth): one for one in change.places}
        if before.state is after.state:
            after = now._replace(seq=after.seq)
        elif before.state in FINAL:
            self._results.pop(after.id, None)
        else:
            after = after._replace(cancel=now.cancel)
        self._jobs[after.id] = after
        self._record(change.events)
        if change.result is not None:
            self._results[after.id] = change.result
        if after.state in FINAL and after.tied:
            self._drop_keys(lambda key: key.job == after.id and key.until is None)
        return True

    def renew(self, job: Job, lease: float) -> bool:
        """See Store."""
        with self._locked():
            now = self._jobs.get(job.id)
            if now is None or now.state is not State.RUNNING or now.attempt != job.attempt:
                return False
            self._jobs[job.id] = now._replace(lease=lease)
            return True

    def ask_to_end(self, job: Job, actor: str) -> bool:
        """See Store."""
        with self._locked():
            now = self._jobs.get(job.id)
            if now is None or now.state is not State.RUNNING or now.attempt != job.attempt:
                return False
            self._jobs[job.id] = now._replace(cancel=now.cancel or actor)
            return True

    def asked_to_end(self, jobs: Collection[str]) -> dict[str, str]:
        """See Store."""
        with self._locked():
            found = (self._jobs[job] for job in jobs if job in self._jobs)
            return {job.id: job.cancel for job in found if job.cancel is not None}

    def remove(self, jobs: Collection[str]) -> list[str]:
        """See Store."""
        with self._locked():
            known = [self._jobs[job] for job in jobs if job in self._jobs]
            needed = self._needed()
            ended = [job.id for job in known if job.state in FINAL and job.id not in needed]
            for job in ended:
                del self._jobs[job]
                self._results.pop(job, None)
            self._journal = [entry for entry in self._journal if entry.event.job not in ended]
            self._unplaced = {
                one: since for one, since in self._unplaced.items() if one.job not in ended
            }
            self._drop_keys(lambda key: key.job in ended)
            self._links = {
                link: is_met
                for link, is_met in self._links.items()
                if not {link.before, link.after} & set(ended)
            }
            return ended

    def job(self, job: str) -> Job | None:
        """See Store."""
        with self._locked():
            return self._jobs.get(job)

    def result(self, job: str) -> str | None:
        """See Store."""
        with self._locked():
            return self._results.get(job)

    def jobs(
        self,
        states: Collection[State] = (),
        uri: str = "",
        before: str = "",
        limit: int = 100,
        tag: str = "",
    ) -> list[Job]:
        """See Store."""
        with self._locked():
            newest = sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)
            return [
                job
                for job in newest
                if (not states or job.state in states)
                and (not uri or covers(uri, job.uri))
                and (not before or job.id < before)
                and (not tag or tag in load(job.tags))
            ][:limit]

    def due(self, now: float, limit: int) -> list[Job]:
        """See Store."""
        with self._locked():
            found = [job for job in self._jobs.values() if job.state in _WAITING and job.due <= now]
            return sorted(found, key=lambda job: job.due)[:limit]

    def next_due(self) -> float | None:
        """See Store."""
        with self._locked():
            waiting = (job.due for job in self._jobs.values() if job.state in _WAITING)
            return min(waiting, default=None)

    def events(self, job: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """See Store."""
        with self._locked():
            events = (event for _, event in self._journal)
            found = (event for event in events if event.job == job and event.seq > after)
            return sorted(found, key=lambda event: event.seq)[:limit]

    def journal(self, after: int, limit: int) -> list[Entry]:
        """See Store."""
        with self._locked():
            return [entry for entry in self._journal if entry.position > after][:limit]

    def position(self) -> int:
        """See Store."""
        with self._locked():
            return self._position

    def counts(self, states: Collection[State] = (), uri: str = "") -> Mapping[State, int]:
        """See Store."""
        with self._locked():
            return Counter(
                job.state
                for job in self._jobs.values()
                if (not states or job.state in states) and (not uri or covers(uri, job.uri))
            )

    def close(self) -> None:
        """See Store."""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if not self.available:
                raise StoreUnavailable("the store was made unavailable")
            yield

    def _needed(self) -> set[str]:
        """The jobs that one which has not ended waits for, or looks back on."""
        jobs = self._jobs
        return {
            link.before
            for link in self._links
            if link.after in jobs and jobs[link.after].state not in FINAL
        }

    def _holder(self, name: str, now: float) -> Key | None:
        held = self._keys.get(name)
        return held if held and (held.until is None or held.until > now) else None

    def _with_keys(self, keys: Sequence[Key], now: float) -> dict[str, Key]:
        """All keys, once these are held too."""
        for key in keys:
            if self._holder(key.name, now):
                raise KeyTaken(key.name)
        return self._keys | {key.name: key for key in keys}

    def _drop_keys(self, is_dropped: Callable[[Key], bool]) -> None:
        self._keys = {name: key for name, key in self._keys.items() if not is_dropped(key)}

    def _are_free(self, change: Change) -> bool:
        held = (self._places.get((one.lane, one.nth)) for one in change.places)
        now = change.events[-1].at
        return all(one is None or (one.until is not None and one.until <= now) for one in held)

    def _drop_places(self, is_dropped: Callable[[Place], bool]) -> None:
        self._places = {at: one for at, one in self._places.items() if not is_dropped(one)}

    def _record(self, events: Sequence[Event]) -> None:
        for event in events:
            self._position += 1
            self._journal.append(Entry(self._position, event))

    def _forget(self, placements: Sequence[Placement]) -> None:
        until = {one.job: one.seq for one in placements}
        self._unplaced = {
            one: since for one, since in self._unplaced.items() if one.seq > until.get(one.job, -1)
        }


class _Queued(NamedTuple):
    """An entry of the queue; they sort by priority, then by age."""

    urgency: int
    number: int
    job: str
    queue: str


class MemoryBroker:
    """What several MemoryQueues share. Reservations have no TTR: they end with their connection.

    Its methods are for MemoryQueue, which holds the lock, but for
    ``stop``, ``start`` and ``wipe``.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running = True
        self.starts = 1
        self.connections: set[MemoryQueue] = set()
        self.asking: list[MemoryQueue] = []
        self.reserved: dict[int, tuple[MemoryQueue, _Queued]] = {}
        self._count = 0
        self._ready: list[_Queued] = []
        self._delayed: dict[int, _Queued] = {}

    def stop(self) -> None:
        """Every connection breaks, and nobody can connect; entries stay."""
        with self.lock:
            self.running = False
            self.asking.clear()
            for queue in tuple(self.connections):
                self.leave(queue)
                queue.hang_up()

    def start(self) -> None:
        """Connections are accepted again."""
        with self.lock:
            self.running = True
            self.starts += 1

    def wipe(self) -> None:
        """Forget every entry that nobody has reserved."""
        with self.lock:
            self._ready.clear()
            self._delayed.clear()

    def put(self, placement: Placement) -> None:
        """One more entry."""
        self._count += 1
        self.add(_Queued(placement.urgency, self._count, placement.job, placement.queue))

    def add(self, entry: _Queued) -> None:
        """Ready for whoever asks, or has asked."""
        insort(self._ready, entry)
        self.serve()

    def serve(self) -> None:
        """Give what is ready to those who asked, in their order."""
        for queue in tuple(self.asking):
            entry = next((one for one in self._ready if one.queue in queue.queues), None)
            if entry is not None:
                self.asking.remove(queue)
                self._ready.remove(entry)
                self.reserved[entry.number] = queue, entry
                queue.give(entry)

    def delay(self, entry: _Queued, seconds: float) -> None:
        """Ready in so many seconds, whoever is connected then."""
        self._delayed[entry.number] = entry
        timer = threading.Timer(seconds, self._due, (entry,))
        timer.daemon = True
        timer.start()

    def remove(self, number: int) -> bool:
        """Delete an entry that nobody has reserved."""
        left = [entry for entry in self._ready if entry.number != number]
        removed = len(left) < len(self._ready)
        self._ready = left
        return self._delayed.pop(number, None) is not None or removed

    def leave(self, queue: "MemoryQueue") -> None:
        """Forget a connection; what it had reserved is ready again."""
        self.connections.discard(queue)
        if queue in self.asking:
            self.asking.remove(queue)
        for number, (owner, entry) in tuple(self.reserved.items()):
            if owner is queue:
                del self.reserved[number]
                self.add(entry)

    def stats(self, queues: Collection[str]) -> QueueStats:
        """Counts of these queues, or of all."""
        reserved = [entry for _, entry in self.reserved.values()]
        return QueueStats(
            *(
                sum(not queues or entry.queue in queues for entry in entries)
                for entries in (self._ready, reserved, self._delayed.values())
            )
        )

    def _due(self, entry: _Queued) -> None:
        with self.lock:
            if self._delayed.pop(entry.number, None):
                self.add(entry)


class MemoryQueue:
    """A Queue: one connection to a broker; see ``taskbus.port.queue``."""

    def __init__(self, broker: MemoryBroker, queues: Collection[str] = (DEFAULT_QUEUE,)) -> None:
        self._broker = broker
        self.queues = queues
        # Made with the connection; it becomes readable with an answer, or when the broker stops.
        self._bell: int | None = None
        self._given: _Queued | None = None
        self._broken = False
        self._taken: list[Placement] = []

    def put(self, placements: Sequence[Placement]) -> None:
        """See Queue."""
        with self._talk() as broker:
            for placement in placements:
                broker.put(placement)

    def offer(self, placements: Sequence[Placement]) -> None:
        """See Queue."""
        self.put(placements)
        self._taken += placements

    def taken(self) -> Sequence[Placement]:
        """See Queue."""
        taken, self._taken = self._taken, []
        return taken

    def request(self, done: Delivery | None = None) -> None:
        """See Queue."""
        if done is not None:
            self.delete(done)
        with self._talk() as broker:
            broker.asking.append(self)
            broker.serve()

    def fileno(self) -> int:
        """See Queue."""
        if self._bell is None:
            with self._talk():
                pass
        assert self._bell is not None  # noqa: S101
        return self._bell

    def take(self) -> Delivery | None:
        """See Queue."""
        os.eventfd_read(self.fileno())
        with self._talk():
            entry, self._given = self._given, None
            return Delivery(entry.number, entry.job) if entry else None

    def touch(self, delivery: Delivery) -> bool:
        """See Queue."""
        with self._talk() as broker:
            return self._has(broker, delivery)

    def delete(self, delivery: Delivery) -> bool:
        """See Queue."""
        with self._talk() as broker:
            if self._has(broker, delivery):
                del broker.reserved[delivery.number]
                return True
            return broker.remove(delivery.number)

    def release(self, delivery: Delivery, delay: float) -> bool:
        """See Queue."""
        with self._talk() as broker:
            if not self._has(broker, delivery):
                return False
            _, entry = broker.reserved.pop(delivery.number)
            if delay > 0:
                broker.delay(entry, delay)
            else:
                broker.add(entry)
            return True

    def stats(self, *queues: str) -> QueueStats:
        """See Queue."""
        with self._talk() as broker:
            return broker.stats(queues)

    def instance(self) -> str:
        """See Queue."""
        with self._talk() as broker:
            return str(broker.starts)

    def close(self) -> None:
        """See Queue."""
        with self._broker.lock:
            if self._bell is not None:
                os.close(self._bell)
            self._bell = self._given = None
            self._broken = False
            self._broker.leave(self)

    def give(self, entry: _Queued) -> None:
        """The broker's answer to ``request``."""
        assert self._bell is not None  # noqa: S101
        self._given = entry
        os.eventfd_write(self._bell, 1)

    def hang_up(self) -> None:
        """The broker stops: whoever uses or awaits this connection learns of it."""
        assert self._bell is not None  # noqa: S101
        self._broken = True
        os.eventfd_write(self._bell, 1)

    def _has(self, broker: MemoryBroker, delivery: Delivery) -> bool:
        return broker.reserved.get(delivery.number, (None,))[0] is self

    @contextmanager
    def _talk(self) -> Iterator[MemoryBroker]:
        """The broker, locked and connected to; a connection that broke is given up."""
        broker = self._broker
        with broker.lock:
            if self._broken or not broker.running:
                self.close()
                raise QueueUnavailable("the broker does not answer")
            if self._bell is None:
                self._bell = os.eventfd(0)
                broker.connections.add(self)
            yield broker
