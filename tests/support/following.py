"""Control's following, with a store and a relay, but neither threads nor a router."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from taskbus.adapter.memory import MemoryStore
from taskbus.core.permit import UNLIMITED
from taskbus.core.relay import Relay
from taskbus.edge.following import Following
from taskbus.edge.outflow import Outflow
from taskbus.edge.watchers import told
from taskbus.model.job import Job, note
from tests.support.values import applied, running


class Wire:
    """Twisted's transport, as far as its producer notices."""

    def __init__(self) -> None:
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None


class Bus:
    """A store, its relay, and followers; what is done in threads is done, and what it has found is
    told, when the test says so.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.wire, self.outflow = Wire(), Outflow()
        self.outflow.attach(self.wire)
        self.permit = UNLIMITED
        self.following = Following(
            self.store, self.outflow, lambda: None, lambda _: self.permit, self.in_thread
        )
        self.relay = Relay(self.store, self._deliver, lambda: len(self.following) > 0)
        self.threads: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.found: list[tuple[Deferred[Any], Deferred[Any]]] = []
        self.reads = 0

    def in_thread(self, work: Callable[..., Any], *args: Any) -> "Deferred[Any]":
        done: Deferred[Any] = Deferred()
        self.threads.append((lambda: work(*args), done))
        return done

    def _deliver(self, after: int, entries: Any) -> None:
        self.following.deliver(after, entries, self.following.labels(entries))

    def work(self, nth: int = 0) -> None:
        """One thread's work, if there is any."""
        if self.threads:
            work, done = self.threads.pop(nth % len(self.threads))
            self.reads += 1
            self.found.append((maybeDeferred(work), done))

    def tell(self, nth: int = 0) -> None:
        """What one thread has found, if there is any."""
        if self.found:
            found, done = self.found.pop(nth % len(self.found))
            found.chainDeferred(done)

    def settle(self) -> None:
        """Everything that anybody waits for."""
        self.outflow.resumeProducing()
        self.do_all()
        self.relay.run()
        self.do_all()

    def do_all(self) -> None:
        """The work of all threads."""
        while self.threads or self.found:
            self.work()
            self.tell()


def said(store: MemoryStore, job: Job, count: int = 1, text: str = "") -> Job:
    """The job after it has told its progress."""
    return applied(store, note(job, 1.0, [("progress", {"message": text})] * count))


class Caller:
    """A session that calls what control serves."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.calls: list[str] = []

    def call(self, uri: str, /, *args: Any, options: Any = None, **kwargs: Any) -> "Deferred[Any]":
        """As Autobahn's."""
        self.calls.append(uri)
        details = SimpleNamespace(progress=options and options.on_progress)
        if uri == "taskbus.job.events":
            return self._bus.in_thread(partial(self._events, *args, **kwargs))
        return self._bus.following.endpoints()[uri](details, *args, **kwargs)  # type: ignore[no-any-return]

    def _events(self, job: str, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        return [told(event) for event in self._bus.store.events(job, after, min(limit, 3))]


class Happenings:
    """A running job, and another one beside it: what may happen on the bus meanwhile."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.job, self._other = running(bus.store), running(bus.store)

    def write(self, count: int) -> None:
        self.job = said(self.bus.store, self.job, 1 + count % 3)
        self._other = said(self.bus.store, self._other)

    def relay(self, _number: int) -> None:
        self.bus.relay.run()

    def work(self, number: int) -> None:
        self.bus.work(number)

    def tell(self, number: int) -> None:
        self.bus.tell(number)
