"""Streams over HTTP: readers of all speeds share one live call, and miss nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from taskbus.gateway.feed import Feeds, Subject, job_subject, journal_subject
from taskbus.gateway.follow import follow
from taskbus.gateway.reader import STALL_SECONDS, Reader, Stalled
from taskbus.model.errors import StoreUnavailable
from tests.support.following import Bus, Caller, Happenings, said
from tests.support.values import added, applied, running, succeeded


class Client:
    """One reader, that takes what it gets when the test says so."""

    def __init__(self, site: "Gateway", subject: Subject, after: int = 0) -> None:
        self.after = after
        self.data = b""
        self.is_full = False
        self._waiting: list[Deferred[None]] = []
        self.outcome: list[Any] = []
        self.reader = Reader(site.clock, self)
        coroutine = follow(site.feeds, site.session, subject, after, self.reader)
        self.stream: Deferred[int] = Deferred.fromCoroutine(coroutine)
        self.stream.addBoth(self.outcome.append)

    def write(self, data: bytes) -> "Deferred[None]":
        """As the writer of a stream."""
        self.data += data
        done: Deferred[None] = Deferred()
        if self.is_full:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done

    def drain(self) -> None:
        """Take everything."""
        self.is_full = False
        while self._waiting:
            self._waiting.pop(0).callback(None)

    @property
    def numbers(self) -> list[int]:
        """Of what it got."""
        events = self.data.split(b"\n\n")[:-1]
        ids, bodies = (
            zip(*(one.split(b"\n") for one in events), strict=True) if events else ((), ())
        )
        numbers = [int(one.removeprefix(b"id: ")) for one in ids]
        told = [json.loads(one.removeprefix(b"data: ")) for one in bodies]
        assert numbers == [one.get("position", one["seq"]) for one in told]
        return numbers


class Gateway:
    """One identity's session, and who follows with it."""

    def __init__(self) -> None:
        self.bus, self.clock, self.feeds = Bus(), Clock(), Feeds()
        self.session = Caller(self.bus)

    def live(self) -> int:
        """How many live calls were made."""
        return sum(uri.endswith(".follow") for uri in self.session.calls)


@pytest.fixture
def site() -> Gateway:
    return Gateway()


class Story(Happenings):
    """One job, those who follow it or the journal, and what happens to them."""

    def __init__(self) -> None:
        self.site = Gateway()
        super().__init__(self.site.bus)
        self.clients: list[Client] = []
        self.watchers: list[Client] = []

    def settle(self, _number: int) -> None:
        self.bus.settle()

    def join(self, number: int) -> None:
        after = min(number, self.job.seq)
        self.clients.append(Client(self.site, job_subject(self.job.id), after))

    def watch(self, number: int) -> None:
        after = min(number, self.bus.store.position())
        self.watchers.append(Client(self.site, journal_subject(), after))

    def fill(self, number: int) -> None:
        for one in (*self.clients, *self.watchers)[number % 3 :: 3]:
            one.is_full = True

    def drain(self, number: int) -> None:
        for one in (*self.clients, *self.watchers)[number % 2 :: 2]:
            one.drain()

    def leave(self, number: int) -> None:
        for clients in (self.clients, self.watchers):
            if len(clients) > number:
                clients.pop(number).stream.cancel()


STEPS = (
    "write", "relay", "work", "tell", "settle", "join", "watch", "fill", "drain", "leave",
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=80))
def test_no_gap_and_no_double(steps: list[tuple[str, int]]) -> None:
    story = Story()
    for step, number in steps:
        getattr(story, step)(number)
    bus = story.bus
    for ends in (False, True):
        if ends:
            story.job = applied(bus.store, succeeded(story.job))
        # Some only read on when they have room again.
        for _ in range(3):
            bus.settle()
            for one in (*story.clients, *story.watchers):
                one.drain()
        for one in story.clients:
            assert one.numbers == list(range(one.after + 1, story.job.seq + 1))
            assert one.outcome == ([story.job.seq] if ends else [])
        for one in story.watchers:
            assert one.numbers == list(range(one.after + 1, bus.store.position() + 1))
    assert len(bus.following) == (1 if story.watchers else 0)
    for one in story.watchers:
        one.stream.cancel()
    assert len(bus.following) == 0


def test_all_share_one_live_call_while_it_goes_on(site: Gateway) -> None:
    job = said(site.bus.store, running(site.bus.store), 10)
    clients = [Client(site, job_subject(job.id)) for _ in range(50)]
    site.bus.settle()
    later = Client(site, job_subject(job.id), 5)
    site.bus.settle()
    job = said(site.bus.store, job)
    site.bus.settle()
    assert all(one.numbers == list(range(1, job.seq + 1)) for one in clients)
    assert later.numbers == list(range(6, job.seq + 1))
    assert site.live() == 1
    for one in (*clients, later):
        one.stream.cancel()
        assert isinstance(one.outcome[0].value, CancelledError)
    # With the last one its live call has ended, and the next one begins anew.
    assert len(site.bus.following) == 0
    again = Client(site, job_subject(job.id), job.seq - 1)
    site.bus.settle()
    assert (again.numbers, site.live()) == ([job.seq], 2)


def test_who_was_still_reading_when_the_live_call_began_misses_nothing(site: Gateway) -> None:
    bus, session = site.bus, site.session
    job = running(bus.store)
    early = Client(site, job_subject(job.id), 2)
    bus.work()  # Its page is empty, but it does not know yet.
    job = said(bus.store, job, 2)
    late = Client(site, job_subject(job.id), 3)
    for _ in range(2):
        assert session.calls.count("taskbus.job.follow") == 0
        bus.work()
        bus.tell(1)
    assert session.calls[-1] == "taskbus.job.follow"
    bus.settle()
    assert (early.numbers, late.numbers) == ([3, 4], [4])


def test_who_reads_slowly_keeps_nobody_and_nothing(site: Gateway) -> None:
    job = running(site.bus.store)
    slow, fast = (Client(site, job_subject(job.id)) for _ in range(2))
    site.bus.settle()
    slow.is_full = True
    for _ in range(100):
        job = said(site.bus.store, job)
        site.bus.settle()
    assert fast.numbers[-1] == job.seq
    # What filled it is all that it got.
    assert slow.numbers == [1, 2, 3]
    slow.drain()
    site.bus.settle()
    assert slow.numbers == fast.numbers


def test_who_takes_nothing_is_dropped(site: Gateway) -> None:
    job = running(site.bus.store)
    client = Client(site, job_subject(job.id))
    site.bus.settle()
    client.is_full = True
    job = said(site.bus.store, job)
    site.bus.settle()
    site.clock.advance(STALL_SECONDS - 1)
    said(site.bus.store, job)
    site.bus.settle()
    assert client.outcome == []
    site.clock.advance(1)
    [failure] = client.outcome
    assert isinstance(failure, Failure)
    assert isinstance(failure.value, Stalled)
    assert len(site.bus.following) == 0


def test_who_stalls_while_nothing_happens_is_dropped_when_something_does(site: Gateway) -> None:
    job = running(site.bus.store)
    client = Client(site, job_subject(job.id))
    site.bus.settle()
    client.is_full = True
    job = said(site.bus.store, job)
    site.bus.settle()
    site.clock.advance(STALL_SECONDS)
    assert client.outcome == []
    said(site.bus.store, job)
    site.bus.settle()
    assert isinstance(client.outcome[0].value, Stalled)


def test_who_has_taken_something_in_time_is_not_dropped(site: Gateway) -> None:
    job = running(site.bus.store)
    client = Client(site, job_subject(job.id))
    site.bus.settle()
    for _ in range(3):
        client.is_full = True
        job = said(site.bus.store, said(site.bus.store, job))
        site.bus.settle()
        site.clock.advance(STALL_SECONDS - 1)
        client.drain()
        site.bus.settle()
    assert client.outcome == []
    assert client.numbers[-1] == job.seq


def test_an_error_of_the_bus_ends_all_streams(site: Gateway) -> None:
    job = running(site.bus.store)
    clients = [Client(site, job_subject(job.id)) for _ in range(2)]
    site.bus.settle()
    site.bus.following.end("the bus has stopped")
    assert [one.outcome[0].value.uri for one in clients] == ["taskbus.error.stopped"] * 2

    def away(*_: Any) -> Any:
        raise StoreUnavailable("the disk is full")

    site.bus.store.events = away  # type: ignore[assignment]
    client = Client(site, job_subject(job.id))
    site.bus.settle()
    assert isinstance(client.outcome[0].value, StoreUnavailable)


def test_only_what_is_chosen(site: Gateway) -> None:
    chosen = Client(site, journal_subject(uri="com.a.*", tag=None, kind=("queued",)))
    site.bus.settle()
    for uri in ("com.a.one", "com.b.one"):
        added(site.bus.store, uri=uri)
        running(site.bus.store, uri=uri)
    site.bus.settle()
    assert chosen.numbers == [1, 2]


def test_a_reader_with_nothing_to_read_is_kept_awake(site: Gateway) -> None:
    client = Client(site, journal_subject())
    reader = Reader(site.clock, client, b":\n\n")
    site.clock.pump([5] * 13)
    assert client.data == b":\n\n" * 4
    reader.close()
    site.clock.advance(60)
    assert client.data == b":\n\n" * 4
