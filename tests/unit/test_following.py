"""Following: whatever happens in whatever order, everybody gets everything once."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from taskbus.core.permit import Permit
from taskbus.model.access import parse_scope
from taskbus.model.errors import InvalidArgument, JobNotFound, Stopped, StoreUnavailable
from taskbus.model.job import State, move
from tests.support.following import Bus, Happenings, said
from tests.support.values import added, applied, failed, running, start, succeeded


class Reader:
    """One caller."""

    def __init__(self, follow: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.got: list[Any] = []
        self.messages: list[int] = []
        self.outcome: list[Any] = []
        self.call: Deferred[Any] = follow(SimpleNamespace(progress=self._hear), *args, **kwargs)
        self.call.addBoth(self.outcome.append)

    def _hear(self, items: list[Any]) -> None:
        self.messages.append(len(items))
        self.got += items

    @property
    def seqs(self) -> list[int]:
        """Of the events it got."""
        return [one["seq"] for one in self.got]

    def error(self) -> BaseException:
        """How its call has failed."""
        [failure] = self.outcome
        assert isinstance(failure, Failure)
        assert failure.value is not None
        return failure.value


def joined(bus: Bus, *args: Any, **kwargs: Any) -> Reader:
    """One who follows a job and has read all there is."""
    reader = Reader(bus.following.job, *args, **kwargs)
    bus.settle()
    return reader


@pytest.fixture
def bus() -> Bus:
    return Bus()


class Story(Happenings):
    """One job, another one beside it, and those who come and go meanwhile."""

    def __init__(self) -> None:
        super().__init__(Bus())
        self.of_job: list[tuple[int, Reader]] = []
        self.of_all: list[tuple[int, Reader]] = []

    def join(self, number: int) -> None:
        after = min(number, self.job.seq)
        self.of_job.append((after, Reader(self.bus.following.job, self.job.id, after)))

    def watch(self, number: int) -> None:
        after = min(number, self.bus.store.position())
        self.of_all.append((after, Reader(self.bus.following.journal, after)))

    def fill(self, number: int) -> None:
        """As if the router took nothing: who is behind must read, whatever it has heard."""
        self.bus.outflow._beyond = number % 2 * 10**9

    def leave(self, number: int) -> None:
        if self.of_job:
            self.of_job.pop(number % len(self.of_job))[1].call.cancel()


STEPS = ("write", "relay", "work", "tell", "join", "watch", "fill", "leave")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=60))
def test_no_gap_and_no_double(steps: list[tuple[str, int]]) -> None:
    story = Story()
    for step, number in steps:
        getattr(story, step)(number)
    bus = story.bus
    bus.settle()
    for after, reader in story.of_job:
        assert reader.seqs == list(range(after + 1, story.job.seq + 1))
    for after, reader in story.of_all:
        positions = [one["position"] for one in reader.got]
        assert positions == list(range(after + 1, bus.store.position() + 1))
    job = applied(bus.store, succeeded(story.job))
    bus.settle()
    for after, reader in story.of_job:
        assert reader.seqs == list(range(after + 1, job.seq + 1))
        assert reader.outcome == [{"seq": job.seq, "ended": True}]
    assert len(bus.following) == len(story.of_all)


def test_what_is_new_while_a_page_is_read_is_read_as_well(bus: Bus) -> None:
    job = running(bus.store)
    reader = Reader(bus.following.job, job.id)
    bus.work()
    bus.tell()
    bus.work()  # It has seen two events, but nobody has heard of them yet.
    said(bus.store, job)
    bus.relay.run()
    assert reader.got == []
    bus.do_all()
    assert reader.seqs == [1, 2, 3]


def test_news_that_were_lost_are_read(bus: Bus) -> None:
    job = running(bus.store)
    readers = [joined(bus, job.id), Reader(bus.following.journal, 0)]
    bus.settle()
    job = said(bus.store, job)
    bus.following.deliver = lambda *_: None  # type: ignore[method-assign]
    bus.relay.run()
    del bus.following.deliver
    said(bus.store, job)
    bus.settle()
    assert [reader.seqs for reader in readers] == [[1, 2, 3, 4], [1, 2, 3, 4]]


def test_a_thousand_who_come_together_share_reads_and_live_events(bus: Bus) -> None:
    job = said(bus.store, running(bus.store), 5)
    readers = [Reader(bus.following.job, job.id) for _ in range(1000)]
    for _ in readers:
        bus.work()  # Each asks for the job itself.
    for _ in readers:
        bus.tell()
    bus.reads = 0
    bus.settle()
    # Four begin at a time; those who came meanwhile have one in common.
    assert bus.reads <= 5
    job = applied(bus.store, succeeded(said(bus.store, job)))
    bus.relay.run()
    assert bus.threads == []
    assert all(reader.seqs == list(range(1, job.seq + 1)) for reader in readers)
    # What each of them got is one object.
    assert len({id(reader.got[-1]) for reader in readers}) == 1


def test_it_ends_with_the_job_that_has_ended_now_not_earlier(bus: Bus) -> None:
    job = applied(bus.store, failed(running(bus.store, retries=1)))
    reader = joined(bus, job.id)
    assert reader.outcome == []
    queued = applied(bus.store, move(job, State.QUEUED, 1.0, reason="due", actor="chores"))
    job = applied(bus.store, succeeded(applied(bus.store, start(queued))))
    bus.settle()
    assert reader.outcome == [{"seq": job.seq, "ended": True}]
    assert joined(bus, job.id, job.seq).outcome == [{"seq": job.seq, "ended": True}]


def test_a_call_brings_no_more_than_its_limit(bus: Bus) -> None:
    job = applied(bus.store, succeeded(said(bus.store, running(bus.store), 7)))
    at, got = 0, []
    while True:
        reader = joined(bus, job.id, at, limit=4)
        got += reader.seqs
        at = reader.outcome[0]["seq"]
        assert at == got[-1]
        if reader.outcome[0]["ended"]:
            break
        assert len(reader.got) == 4
    assert got == list(range(1, job.seq + 1))


def test_large_events_come_in_small_messages_and_bounded_calls(bus: Bus) -> None:
    job = said(bus.store, running(bus.store), 90, "x" * 60_000)
    reader = joined(bus, job.id)
    assert max(reader.messages) <= 6
    [told] = reader.outcome
    assert not told["ended"]
    assert reader.seqs == list(range(1, told["seq"] + 1))
    assert 60 < told["seq"] < job.seq


def test_who_is_behind_is_served_in_pages_while_the_router_is_slow(bus: Bus) -> None:
    job = running(bus.store)
    reader = joined(bus, job.id)
    bus.wire.producer.pauseProducing()
    for _ in range(200):
        job = said(bus.store, job, 1, "x" * 100_000)
        bus.relay.run()
    held = len(reader.got)
    # What was sent is bounded.
    assert 15 < held < 35
    bus.do_all()
    # So is what was read: a page for each of the threads.
    assert len(reader.got) <= held + 4 * 10
    job = applied(bus.store, succeeded(job))
    while not reader.outcome:
        bus.settle()
    again = [joined(bus, job.id, reader.outcome[0]["seq"])]
    while not again[-1].outcome[0]["ended"]:
        again.append(joined(bus, job.id, again[-1].outcome[0]["seq"]))
    seqs = [*reader.seqs, *(seq for one in again for seq in one.seqs)]
    assert seqs == list(range(1, job.seq + 1))


def test_who_leaves_is_forgotten(bus: Bus) -> None:
    job = running(bus.store)
    of_job, of_all = joined(bus, job.id), Reader(bus.following.journal)
    bus.settle()
    assert len(bus.following) == 2
    for reader in (of_job, of_all):
        reader.call.cancel()
        assert isinstance(reader.error(), CancelledError)
    assert len(bus.following) == 0
    early = Reader(bus.following.job, job.id)
    early.call.cancel()
    bus.settle()
    assert len(bus.following) == 0


def test_when_the_bus_stops_everybody_is_told(bus: Bus) -> None:
    job = running(bus.store)
    readers = [joined(bus, job.id), Reader(bus.following.journal)]
    bus.settle()
    bus.following.end("the bus has stopped")
    assert all(isinstance(reader.error(), Stopped) for reader in readers)
    assert len(bus.following) == 0


def test_a_store_that_is_away_ends_it_with_an_error(bus: Bus) -> None:
    job = running(bus.store)
    reader = Reader(bus.following.job, job.id)
    bus.work()
    bus.tell()

    def away(*_: Any) -> Any:
        raise StoreUnavailable("the disk is full")

    bus.store.events = away  # type: ignore[assignment]
    bus.settle()
    assert isinstance(reader.error(), StoreUnavailable)
    assert len(bus.following) == 0


def test_a_store_that_was_away_for_a_moment_costs_nobody_an_event(bus: Bus) -> None:
    all_, job = Reader(bus.following.journal), running(bus.store)
    reader = joined(bus, job.id)
    seen, job = len(all_.got), said(bus.store, job)
    other = added(bus.store)

    def away(*_: Any) -> Any:
        raise StoreUnavailable("the disk is full")

    bus.store.job = away  # type: ignore[assignment]
    bus.relay.run()
    del bus.store.job
    assert reader.seqs == [1, 2, 3]
    bus.settle()
    assert [one["job"] for one in all_.got[seen:]] == [job.id, other.id]


def test_a_job_that_was_forgotten_meanwhile(bus: Bus) -> None:
    job = applied(bus.store, succeeded(running(bus.store)))
    reader = Reader(bus.following.job, job.id)
    bus.work()
    bus.tell()
    bus.store.remove([job.id])
    bus.settle()
    assert isinstance(reader.error(), JobNotFound)


@pytest.mark.parametrize(
    ("chosen", "kinds"),
    [
        ({"uri": "com.a.one"}, ["queued", "running", "succeeded"]),
        ({"uri": "com.a.*"}, ["queued", "running", "succeeded"]),
        ({"uri": "com.*"}, ["queued", "running", "queued", "succeeded"]),
        ({"tag": "red"}, ["queued"]),
        ({"tag": "red", "uri": "com.a.*"}, []),
        ({"kind": "succeeded"}, ["succeeded"]),
        ({"kind": ["running", "succeeded"]}, ["running", "succeeded"]),
    ],
)
def test_only_what_was_asked_for(bus: Bus, chosen: dict[str, Any], kinds: list[str]) -> None:
    live = Reader(bus.following.journal, **chosen)
    bus.settle()
    job = running(bus.store, uri="com.a.one")
    added(bus.store, uri="com.b.one", tags='["red"]')
    applied(bus.store, succeeded(job))
    bus.settle()
    later = Reader(bus.following.journal, 0, **chosen)
    bus.settle()
    assert [one["kind"] for one in live.got] == kinds
    assert later.got == live.got
    assert all(one["uri"] in ("com.a.one", "com.b.one") for one in live.got)


def test_what_is_not_kept_is_told(bus: Bus) -> None:
    first, kept, last = running(bus.store), added(bus.store), running(bus.store)
    bus.store.remove([applied(bus.store, succeeded(job)).id for job in (first, last)])
    reader = Reader(bus.following.journal, 0)
    bus.settle()
    got = [(one["position"], one["kind"], one["data"].get("after")) for one in reader.got]
    assert got == [(2, "gap", 0), (3, "queued", None)]
    assert reader.got[1]["job"] == kept.id
    # Only what comes next shows that there was more.
    added(bus.store)
    bus.settle()
    got = [(one["position"], one["kind"], one["data"].get("after")) for one in reader.got[2:]]
    assert got == [(7, "gap", 3), (8, "queued", None)]


def test_a_page_of_what_was_asked_for(bus: Bus) -> None:
    job = running(bus.store, uri="com.a.one")
    added(bus.store)

    def page(**asked: Any) -> Any:
        outcome: list[Any] = []
        told: Deferred[Any] = bus.following.read(SimpleNamespace(), **asked)
        told.addBoth(outcome.append)
        bus.settle()
        return outcome[0]

    told = page(after=1, uri="com.a.*")
    assert [one["position"] for one in told.pop("entries")] == [2]
    assert told == {"position": 3, "more": False}
    assert page() == {"entries": [], "position": 3, "more": False}
    said(bus.store, job, 1500)
    first = page(after=0, kind="progress")
    assert first["more"]
    rest = page(after=first["position"], kind="progress")
    assert len(first["entries"]) + len(rest["entries"]) == 1500


def test_a_key_follows_what_it_may_read(bus: Bus) -> None:
    bus.permit = Permit([parse_scope("read:com.a.*")])
    reader = Reader(bus.following.journal)
    bus.settle()
    ours, other = running(bus.store, uri="com.a.one"), running(bus.store, uri="com.b.one")
    bus.settle()
    assert {one["job"] for one in reader.got} == {ours.id}
    assert joined(bus, ours.id).seqs == [1, 2]
    assert isinstance(joined(bus, other.id).error(), JobNotFound)


def test_wrong_requests(bus: Bus) -> None:
    job = running(bus.store)

    def refused(follow: Callable[..., Any], *args: Any, **kwargs: Any) -> InvalidArgument:
        reader = Reader(follow, *args, **kwargs)
        bus.settle()
        error = reader.error()
        assert isinstance(error, InvalidArgument)
        return error

    of_job, of_all = bus.following.job, bus.following.journal
    assert refused(of_job, "x").about["field"] == "job"
    assert refused(of_job, job.id, after=3).about["field"] == "after"
    assert refused(of_job, job.id, after=-1).about["field"] == "after"
    assert refused(of_job, job.id, limit=0).about["field"] == "limit"
    assert refused(of_all, 3).about["field"] == "after"
    assert refused(of_all, kind="runing").about["field"] == "kind"
    assert refused(of_all, uri="com..x").about["field"] == "uri"
    assert refused(of_all, state="running").about["field"] == "state"
    silent: Deferred[Any] = of_job(SimpleNamespace(progress=None), job.id)
    outcome: list[Any] = []
    silent.addBoth(outcome.append)
    assert outcome[0].value.about["field"] == "receive_progress"
