"""Webhooks: who hears what, how endpoints are left alone, and what becomes of the journal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_sides import memory_sides
from taskbus.core.follow import FollowUps
from taskbus.core.intake import Intake
from taskbus.core.limit import Lane, lanes_of
from taskbus.core.settle import settle
from taskbus.core.webhook_book import HEALTH, Book
from taskbus.core.webhook_desk import Desk
from taskbus.core.webhook_fan import Fan
from taskbus.core.webhook_feed import FEED, POSITION, Feed
from taskbus.core.webhook_health import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Health,
    after_failure,
    why_disabled,
)
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.builtin import built_in
from taskbus.model.errors import (
    IdempotencyMismatch,
    InvalidArgument,
    JobNotFound,
    NotReplayable,
    StoreUnavailable,
    TaskFailure,
    TaskTimeout,
)
from taskbus.model.job import Job, State, Submission, move, note
from taskbus.model.json import dump, load
from taskbus.model.settings import Settings
from taskbus.model.webhook import (
    DELIVER,
    DISABLED,
    FAILED,
    GONE,
    THROTTLED,
    Endpoint,
    Event,
    HookNotFound,
    NotExposed,
    check_client,
    check_data,
    check_event_id,
    check_filter,
    check_topic,
    check_topics,
    check_url,
)
from tests.support.values import added, applied, start, succeeded

EXPOSED = ("com.example.shop.*", "job.*")
TOPIC = "com.example.shop.paid"
TASK = "com.example.t.task"
DAY = 86400.0


def event(topic: str = TOPIC, id_: str = "evt_1", **data: Any) -> Event:
    return Event(id_, topic, topic, 1000.0, data)


class Bell:
    def ring(self) -> None:
        """Nobody hears it."""


class Site:
    """All parts, on a store in memory, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.sides = memory_sides(self.store)
        self.queue = MemoryQueue(self.broker)
        settings = Settings(Path("/"), Path("/x.toml"), webhook_topics=EXPOSED)
        self.api = ApiMap(
            [Entry(TASK, "exec", ("true",), "background")], built_in=built_in(settings)
        )
        self.book = Book(self.sides.records, self.clock)
        bell = Bell()
        self.intake = Intake(self.store, self.sides.keys, self.queue, bell)
        self.desk = Desk(
            self.sides.records, self.store, self.queue, bell, self.book, self.api, self.clock,
            EXPOSED,
        )  # fmt: skip
        self.fan = Fan(
            self.api, self.book, self.store, self.queue,
            FollowUps(self.store, self.sides.links, self.clock), self.clock, self.accept,
        )  # fmt: skip
        self.disabled: list[tuple[str, str]] = []
        self.feed = self.new_feed()

    def new_feed(self) -> Feed:
        """As after a start of control."""
        return Feed(
            self.store, self.sides.links, self.sides.records, self.book, self.fan, self.clock,
            EXPOSED, 5 * DAY, self.disable,
        )  # fmt: skip

    def clock(self) -> float:
        return self.now

    def accept(self, submissions: Sequence[Submission]) -> list[str]:
        [answer] = self.intake.accept([submissions])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def disable(self, endpoint: Endpoint, why: str) -> None:
        self.disabled.append((endpoint.name, why))
        self.desk.disable(endpoint.name, why)

    def put(self, client: str = "ann", **options: Any) -> dict[str, Any]:
        """Register it; a URL and a topic where nothing is said."""
        if "call" not in options:
            options = {"url": f"https://{client}.example/"} | options
        options = {"topics": [TOPIC]} | options
        return self.desk.put(client, options, lambda _: True, lambda _: None)

    def send(self, one: Event, is_named: bool = False) -> list[Job]:
        ids = self.fan.send(one, self.fan.wanted_by(one), is_named)
        return [self.job(id_) for id_ in ids]

    def job(self, id_: str) -> Job:
        found = self.store.job(id_)
        assert found is not None
        return found

    def end(self, job: Job, error: str = "", at: float | None = None, **about: Any) -> Job:
        """An attempt ends, well unless there is an error."""
        self.now = self.now if at is None else at
        running = applied(self.store, start(self.job(job.id), self.now))
        body = '{"args":[],"kwargs":{}}'
        if error:
            body = failure_text(TaskFailure("no luck", error_uri=error, **about))
        return applied(self.store, settle(running, Outcome(not error, body), self.now))

    def health(self, client: str = "ann") -> Health | None:
        self.book.drop()
        return self.book.healths().get(client)


@pytest.fixture
def site() -> Site:
    return Site()


def anybody(_endpoint: Endpoint) -> bool:
    return True


# Who hears what


@pytest.mark.parametrize(
    ("topics", "filter_", "data", "is_wanted"),
    [
        ([TOPIC], {}, {}, True),
        (["com.example.shop.*"], {}, {}, True),
        (["com.example.shop.other"], {}, {}, False),
        (["com.example.shop.paid.*"], {}, {}, False),
        ([TOPIC], {"kind": "big"}, {"kind": "big"}, True),
        ([TOPIC], {"kind": "big"}, {"kind": "small"}, False),
        ([TOPIC], {"kind": "big"}, {}, False),
        ([TOPIC], {"kind": None}, {}, False),
        ([TOPIC], {"kind": None}, {"kind": None}, True),
        ([TOPIC], {"n": [1, 2]}, {"n": 2}, True),
        ([TOPIC], {"n": [1, 2]}, {"n": 3}, False),
        ([TOPIC], {"n": 1}, {"n": True}, False),
        ([TOPIC], {"n": 1}, {"n": 1.0}, True),
        ([TOPIC], {"a.b.c": "x"}, {"a": {"b": {"c": "x"}}}, True),
        ([TOPIC], {"a.b.c": "x"}, {"a": {"b": "x"}}, False),
        ([TOPIC], {"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ],
)
def test_topics_and_filters(
    site: Site, topics: list[str], filter_: dict[str, Any], data: dict[str, Any], is_wanted: bool
) -> None:
    site.put(topics=topics, filter=filter_)
    assert len(site.fan.wanted_by(event(**data))) == is_wanted


@pytest.mark.parametrize(
    "value", [None, [], "kind", {"": 1}, {"a..b": 1}, {"a": {}}, {"a": []}, {"a": [[1]]}, {1: 2}]
)
def test_a_filter_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_filter(value)
    assert caught.value.about["field"].startswith("filter")


@pytest.mark.parametrize(
    "value",
    [None, "", "x.example", "ftp://x.example/", "https:///path", "https://x.example/#a",
     "https://ann@x.example/", "https://ann:pw@x.example/", "https://x.example:port/",
     "https://x.example/ a", "https://x.example/\n", "https://" + "x" * 2000, "javascript:x"],
)  # fmt: skip
def test_a_url_that_is_none(value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_url(value)
    assert caught.value.about["field"] == "url"


def test_topics_are_exposed_ones() -> None:
    good = ["com.example.shop.paid", "com.example.shop.a.*", "job.failed.*", "job.*", "job.*"]
    assert check_topics(good, EXPOSED) == tuple(good[:4])
    for bad in ("com.example.*", "com.example.shop", "com.other.x", "taskbus.webhook.disabled"):
        with pytest.raises(NotExposed) as caught:
            check_topics([TOPIC, bad], EXPOSED)
        assert caught.value.about["field"] == "topics[1]"
    for none_at_all in ("Com.X", "*", "", 7, None):
        with pytest.raises(InvalidArgument):
            check_topics([none_at_all], EXPOSED)
    for none in ([], None, TOPIC, [TOPIC] * 101):
        with pytest.raises(InvalidArgument):
            check_topics(none, EXPOSED)


def test_nobody_sends_the_bus_own_events() -> None:
    assert check_topic(TOPIC, EXPOSED) == TOPIC
    for bad in ("job.failed.com.x.y", "taskbus.webhook.disabled", "wamp.x", "com.example.shop.*"):
        with pytest.raises(InvalidArgument):
            check_topic(bad, (*EXPOSED, "taskbus.webhook.disabled"))
    with pytest.raises(NotExposed):
        check_topic("com.example.other", EXPOSED)


def test_ids_and_data() -> None:
    assert check_client("A.b-c_1") == "A.b-c_1"
    assert check_event_id("order-7") == "order-7"
    for bad in ("", "a b", "a/b", "../x", "é", "x" * 101, None, 7, "-a"):
        with pytest.raises(InvalidArgument):
            check_client(bad)
        with pytest.raises(InvalidArgument):
            check_event_id(bad)
    wrongs: list[Any] = [[], "x", {"a": "x" * 300_000}, {"a": float("nan")}]
    for wrong in wrongs:
        with pytest.raises(InvalidArgument) as caught:
            check_data(wrong)
        assert caught.value.about["field"].startswith("data")


# Registering


def test_a_secret_is_made_and_told_once(site: Site) -> None:
    first = site.put()
    assert first["new"]
    assert first["secret"].startswith("whsec_")
    assert first["secrets"] == [{"until": None}]
    site.now += 5
    again = site.put()
    assert (again["new"], again["updated"], "secret" in again) == (False, 1000.0, False)
    assert site.desk.get("ann", anybody).keys(site.now) == [first["secret"]]
    changed = site.put(topics=["job.failed.*"])
    assert (changed["created"], changed["updated"]) == (1000.0, 1005.0)
    assert site.desk.get("ann", anybody).keys(site.now) == [first["secret"]]


def test_a_secret_of_the_client_s_own(site: Site) -> None:
    mine, other = ("whsec_" + letter * 40 for letter in "AB")
    assert "secret" not in site.put(secret=mine)
    assert site.desk.get("ann", anybody).keys(site.now) == [mine]
    site.put(secret=other)
    assert site.desk.get("ann", anybody).keys(site.now) == [other]


def test_secrets_overlap_for_a_time(site: Site) -> None:
    first = site.put()["secret"]
    second, _ = site.desk.rotate("ann", None, 100.0, anybody)
    third, endpoint = site.desk.rotate("ann", None, 50.0, anybody)
    assert endpoint.keys(site.now) == [third, second, first]
    assert endpoint.keys(site.now + 50) == [third]
    last, endpoint = site.desk.rotate("ann", None, 0.0, anybody)
    assert endpoint.secrets == ((last, None),)
    for _ in range(10):
        _, endpoint = site.desk.rotate("ann", None, 1000.0, anybody)
    assert len(endpoint.keys(site.now)) == 4


@pytest.mark.parametrize(
    "options",
    [{}, {"url": "https://x.example/", "call": TASK}, {"call": "Not A Uri"}, {"ordered": 1},
     {"description": "x" * 101}, {"secret": "whsec_short"}],
)  # fmt: skip
def test_what_cannot_be_registered(site: Site, options: dict[str, Any]) -> None:
    if options and not {"url", "call"} & options.keys():
        options = {"url": "https://x.example/"} | options
    with pytest.raises(InvalidArgument):
        site.desk.put("x", {"topics": [TOPIC], **options}, anybody, lambda _: None)
    with pytest.raises(HookNotFound):
        site.desk.get("x", anybody)


def test_who_may_not_see_it_learns_nothing(site: Site) -> None:
    site.put()

    def nobody(_endpoint: Endpoint) -> bool:
        return False

    for ask in (
        lambda: site.desk.get("ann", nobody),
        lambda: site.desk.delete("ann", nobody),
        lambda: site.desk.rotate("ann", None, 0.0, nobody),
        lambda: site.desk.deliveries("ann", (), "", 10, nobody),
        lambda: site.desk.replay_since("ann", 0.0, "x", nobody),
    ):
        with pytest.raises(HookNotFound):
            ask()
    with pytest.raises(InvalidArgument, match="somebody else's"):
        site.desk.put("ann", {"url": "https://y.example/", "topics": [TOPIC]}, nobody, print)
    assert site.desk.listed(nobody) == []


# Sending


def test_one_job_for_each_endpoint_in_one_commit(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in ("ann", "bob"):
        site.put(client)
    site.put("inner", call=TASK)
    accepted: list[int] = []
    accept = site.accept

    def counted(submissions: Sequence[Submission]) -> list[str]:
        accepted.append(len(submissions))
        return accept(submissions)

    monkeypatch.setattr(site.fan, "_accept", counted)
    jobs = site.send(event(n=1))
    assert accepted == [3]
    assert [job.uri for job in jobs] == [DELIVER, DELIVER, TASK]
    assert [load(job.tags) for job in jobs] == [
        ["webhook:ann"], ["webhook:bob"], ["webhook:inner"],
    ]  # fmt: skip
    told = {"id": "evt_1", "type": TOPIC, "data": {"n": 1}}
    assert load(jobs[0].kwargs) == {"endpoint": "ann", "event": told}
    assert load(jobs[2].args) == [told]
    assert (jobs[0].queue, jobs[0].retries) == ("webhooks", 9)


def test_nothing_is_accepted_where_the_store_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put()

    def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(site.store, "add", away)
    with pytest.raises(StoreUnavailable):
        site.send(event())


def test_a_named_event_is_sent_once(site: Site) -> None:
    site.put()
    [job] = site.send(event(n=1), is_named=True)
    site.now += 5
    assert site.send(event(n=1)._replace(timestamp=1005.0), is_named=True) == [job]
    # Who came since gets it.
    site.put("bob")
    assert len(site.send(event(n=1), is_named=True)) == 2
    with pytest.raises(IdempotencyMismatch):
        site.send(event(n=2), is_named=True)
    assert site.send(event(n=2)) != [job]


def test_a_uri_that_is_gone_keeps_nobody_else_from_hearing(site: Site) -> None:
    site.put("inner", call=TASK)
    site.put("ann")
    site.api.entries = {}
    assert [job.uri for job in site.send(event())] == [DELIVER]


def test_one_after_the_other(site: Site) -> None:
    site.put(ordered=True)
    one, two, three = (site.send(event(n=n))[0] for n in range(3))
    assert [site.job(job.id).state for job in (one, two, three)] == [
        State.QUEUED, State.WAITING, State.WAITING,
    ]  # fmt: skip
    ended = site.end(one, GONE)
    assert ended.state is State.FAILED
    site.fan.follow(one.id)
    assert site.job(two.id).state is State.QUEUED
    assert site.job(three.id).state is State.WAITING
    # Whoever comes after the end of all before it goes at once.
    site.end(two)
    site.fan.follow(two.id)
    site.end(three)
    assert site.send(event(n=3))[0].state is State.QUEUED


def test_the_one_before_may_end_while_the_next_is_stored(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put(ordered=True)
    [one] = site.send(event(n=1))
    accept = site.accept

    def slow(submissions: Sequence[Submission]) -> list[str]:
        site.end(one)
        site.sides.links.untie([one.id])
        return accept(submissions)

    monkeypatch.setattr(site.fan, "_accept", slow)
    [two] = site.send(event(n=2))
    assert two.state is State.QUEUED


def test_an_end_that_nobody_has_followed_is_found_at_the_next_start(site: Site) -> None:
    site.put(ordered=True)
    one, two = (site.send(event(n=n))[0] for n in range(2))
    site.end(one)
    site.sides.links.untie([one.id])
    site.fan.resume()
    assert site.job(two.id).state is State.QUEUED


# What a delivery is given


def test_a_delivery_finds_the_endpoint_as_it_is_now(site: Site) -> None:
    secret = site.put()["secret"]
    [job] = site.send(event())
    assert site.book.enclose(job) == {"url": "https://ann.example/", "secrets": [secret]}
    site.put(url="https://new.example/")
    assert (site.book.enclose(job) or {})["url"] == "https://new.example/"
    # Another process's book, too, which has looked at the endpoints just now.
    elsewhere = Book(site.sides.records, site.clock)
    elsewhere.endpoints()
    site.put(url="https://newer.example/")
    assert (elsewhere.enclose(job) or {})["url"] == "https://newer.example/"
    assert site.book.enclose(added(site.store)) is None
    site.desk.disable("ann", "why not")
    for _ in range(2):
        with pytest.raises(TaskFailure) as caught:
            site.book.enclose(job)
        assert caught.value.uri == DISABLED
        site.desk.delete("ann", anybody) if site.book.endpoints() else None


def test_a_clock_that_is_set_back_hides_no_change(site: Site) -> None:
    elsewhere = Book(site.sides.records, site.clock)
    assert elsewhere.endpoints() == {}
    site.put()
    site.now -= 3600
    assert list(elsewhere.endpoints()) == ["ann"]


def test_other_processes_learn_of_changes_and_read_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Book(site.sides.records, site.clock)
    assert elsewhere.endpoints() == {}
    site.put()
    assert elsewhere.endpoints() == {}
    site.now += 1
    assert list(elsewhere.endpoints()) == ["ann"]
    monkeypatch.setattr(site.sides.records, "all", None)
    for _ in range(3):
        site.now += 1
        assert list(elsewhere.endpoints()) == ["ann"]


# How endpoints are


def test_an_endpoint_that_fails_is_left_alone_and_looked_at_again() -> None:
    health = None
    for at in (0.0, 1.0):
        health = after_failure(health, at, FAILED)
        assert health.closed_until == 0.0
    health = after_failure(health, 2.0, FAILED)
    assert (health.failures, health.since, health.closed_until) == (3, 0.0, 2.0 + FIRST_PAUSE)
    # What was under way meanwhile makes it no longer.
    assert after_failure(health, 3.0, FAILED).closed_until == health.closed_until
    waits = []
    for _ in range(10):
        at = health.closed_until
        health = after_failure(health, at, FAILED)
        waits.append(health.closed_until - at)
    assert waits[:3] == [2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert waits[-1] == LONGEST_PAUSE


@pytest.mark.parametrize("error", [TaskTimeout.uri, THROTTLED])
def test_who_hangs_or_is_busy_is_left_alone_at_once(error: str) -> None:
    assert after_failure(None, 5.0, error).closed_until == 5.0 + FIRST_PAUSE


def test_who_asks_for_time_gets_it() -> None:
    health = after_failure(None, 0.0, THROTTLED, 3600.0)
    assert health.closed_until == 3600.0
    assert after_failure(health, 1.0, THROTTLED, 7200.0).closed_until == 7201.0
    assert after_failure(health, 1.0, THROTTLED, 5.0).closed_until == 3600.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from([FAILED, THROTTLED])), max_size=40))
def test_it_is_never_left_alone_for_longer_than_the_longest_pause(
    steps: list[tuple[float, str]],
) -> None:
    health, now = None, 0.0
    for step, error in steps:
        now += step
        health = after_failure(health, now, error)
        assert health.closed_until <= now + LONGEST_PAUSE


def test_when_an_endpoint_is_disabled() -> None:
    health = Health(9, 1000.0)
    assert why_disabled(health, 1000.0 + 5 * DAY - 1, FAILED, 5 * DAY) == ""
    assert why_disabled(health, 1000.0 + 5 * DAY, FAILED, 5 * DAY) == "it has failed for 5 days"
    assert why_disabled(Health(1, 0.0), 0.0, GONE, 5 * DAY) == "it answered HTTP 410"


def test_a_ping_waits_for_nothing(site: Site) -> None:
    site.put()
    endpoint = site.desk.get("ann", anybody)
    [job] = site.fan.send(event(), [endpoint], is_ping=True)
    ping = site.job(job)
    assert ping.retries == 0
    site.sides.records.put(HEALTH, "ann", Health(3, 0.0, site.now + 30, 1)._asdict(), 0)
    site.book.drop()
    [lane] = lanes_of(ping, site.api.of_job(DELIVER))
    assert site.book.valve(lane) == lane
    [lane] = lanes_of(site.send(event())[0], site.api.of_job(DELIVER))
    assert site.book.valve(lane).places == 0
    # Its success opens the other lane.
    site.feed.run()
    site.end(ping)
    site.feed.run()
    assert site.book.valve(lane) == lane


def test_the_lane_of_an_endpoint(site: Site) -> None:
    lane = Lane(f"{DELIVER}#ann", 4, None, "4 at a time")
    other = Lane("com.example.x#ann", 4, None, "4 at a time")
    site.put()
    assert site.book.valve(lane) == lane
    site.sides.records.put(HEALTH, "ann", Health(3, 0.0, site.now + 30, 1)._asdict(), 0)
    site.book.drop()
    assert site.book.valve(lane).places == 0
    assert "looked at again at 00:17:10 UTC" in site.book.valve(lane).rule
    assert site.book.valve(other) == other
    site.now += 30
    assert site.book.valve(lane).places == 1
    # Those that wait for a disabled one end at once.
    site.desk.disable("ann", "why not")
    assert site.book.valve(lane) == lane
    site.put(ordered=True)
    assert (site.health(), site.book.valve(lane).places) == (None, 1)


# The journal


def test_failures_and_successes_are_the_endpoint_s_health(site: Site) -> None:
    site.put()
    site.feed.run()
    one, two = site.send(event(n=1))[0], site.send(event(n=2))[0]
    site.end(one, FAILED, at=1001.0)
    site.feed.run()
    assert site.health() == Health(1, 1001.0)
    site.end(two, TaskTimeout.uri, at=1002.0)
    site.feed.run()
    assert site.health() == Health(2, 1001.0, 1002.0 + FIRST_PAUSE, 1)
    [third] = site.send(event(n=3))
    site.end(third, at=1003.0)
    site.feed.run()
    assert site.health() is None


def test_a_pause_that_was_asked_for(site: Site) -> None:
    site.put()
    site.feed.run()
    ended = site.end(site.send(event())[0], THROTTLED, retry_after=7200.0)
    assert ended.due == 1000.0 + 7200.0
    site.feed.run()
    assert site.health() == Health(1, 1000.0, 8200.0, 1)


def test_the_schedule(site: Site) -> None:
    site.put()
    [job] = site.send(event())
    waits = []
    while (ended := site.end(job, FAILED)).state is State.RETRYING:
        waits.append(ended.due - site.now)
        site.now = ended.due
        assert [one.id for one in site.store.due(site.now, 10)] == [job.id]
        applied(site.store, move(ended, State.QUEUED, site.now, reason="due", actor="chores"))
    wanted = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert len(waits) == 9
    assert all(0.9 * b <= a <= 1.1 * b for a, b in zip(waits, wanted, strict=True))
    assert len(set(waits) - set(map(float, wanted))) == 9
    assert ended.state is State.FAILED


def test_five_days_of_failures_disable_it(site: Site) -> None:
    site.put()
    site.feed.run()
    start_ = site.now
    for nth, at in enumerate((0, 2 * DAY, 5 * DAY - 1, 5 * DAY)):
        site.now = start_ + at
        site.end(site.send(event(n=nth))[0], FAILED)
        site.feed.run()
        assert bool(site.disabled) is (at == 5 * DAY)
    assert site.disabled == [("ann", "it has failed for 5 days")]
    assert site.send(event(n=9)) == []
    # Once, however often it is looked at.
    site.new_feed().run()
    assert len(site.disabled) == 1
    assert site.put()["disabled"] is None
    assert site.health() is None


def test_one_success_in_between_and_it_is_not(site: Site) -> None:
    site.put()
    site.feed.run()
    for at, error in ((0, FAILED), (3 * DAY, ""), (5 * DAY, FAILED), (8 * DAY, FAILED)):
        site.now = 1000.0 + at
        site.end(site.send(event(n=at))[0], error)
        site.feed.run()
    assert site.disabled == []


def test_gone_is_gone(site: Site) -> None:
    site.put()
    site.feed.run()
    assert site.end(site.send(event())[0], GONE).state is State.FAILED
    site.feed.run()
    assert site.disabled == [("ann", "it answered HTTP 410")]


def test_what_happened_before_it_came_back_does_not_count(site: Site) -> None:
    site.put()
    site.feed.run()
    site.end(site.send(event())[0], GONE)
    site.now += 1
    site.put(url="https://new.example/")
    site.feed.run()
    assert (site.disabled, site.health()) == ([], None)


@pytest.mark.parametrize("error", ["", "com.x.error"])
def test_the_end_of_a_job_is_an_event(site: Site, error: str) -> None:
    site.put(topics=["job.*"])
    site.feed.run()
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    done = site.end(added(site.store, uri=TASK, details=dump({"trace": trace})), error)
    site.feed.run()
    [job] = site.store.jobs(uri=DELIVER)
    told = load(job.kwargs)["event"]
    kind = "failed" if error else "succeeded"
    assert (told["id"], told["type"]) == (f"job_{done.id}_{done.seq}", f"job.{kind}")
    assert told["data"]["uri"] == TASK
    assert told["data"].get("error", {}).get("error", "") == error
    assert load(job.details)["trace"] == trace
    # Its own deliveries are no events: that would never end.
    site.end(job)
    site.feed.run()
    assert len(site.store.jobs(uri=DELIVER)) == 1


def test_only_exposed_ends_and_only_those_that_are_wanted(site: Site) -> None:
    site.put(topics=["job.failed.com.example.other.*"])
    site.feed.run()
    site.end(added(site.store, uri=TASK), "com.x.error")
    site.end(added(site.store, uri="com.example.other.a"))
    site.feed.run()
    assert site.store.jobs(uri=DELIVER) == []
    site.end(added(site.store, uri="com.example.other.a"), "com.x.error")
    site.feed.run()
    assert len(site.store.jobs(uri=DELIVER)) == 1


def test_a_subscriber_s_own_end_is_no_news_to_subscribers(site: Site) -> None:
    site.put("inner", call=TASK, topics=["job.succeeded.*"])
    site.put("outer", topics=["job.succeeded.*"])
    site.feed.run()
    site.end(added(site.store, uri=TASK))
    site.feed.run()
    assert [job.uri for job in site.store.jobs()] == [DELIVER, TASK]


def test_nothing_is_missed_while_nobody_follows(site: Site) -> None:
    site.put(topics=["job.*"])
    site.feed.run()
    for _ in range(3):
        site.end(added(site.store, uri=TASK))
    site.new_feed().run()
    assert len(site.store.jobs(uri=DELIVER)) == 3
    # Looked at again, after a crash before the position was noted, they are the same events.
    found = site.sides.records.get(FEED, POSITION)
    assert found is not None
    site.sides.records.put(FEED, POSITION, {"position": 0}, found.version)
    site.new_feed().run()
    assert len(site.store.jobs(uri=DELIVER)) == 3


def test_the_first_endpoint_hears_of_all_that_comes_after_it(site: Site) -> None:
    site.end(added(site.store, uri=TASK), at=990.0)
    site.now = 1000.0
    site.put(topics=["job.*"])
    site.end(added(site.store, uri=TASK), at=1001.0)
    # Control starts only now, and has never followed the journal before.
    site.new_feed().run()
    assert len(site.store.jobs(uri=DELIVER)) == 1


def test_who_registers_later_hears_of_nothing_earlier(site: Site) -> None:
    site.put(topics=["job.*"])
    site.feed.run()
    site.desk.delete("ann", anybody)
    site.end(added(site.store, uri=TASK), at=1500.0)
    site.now = 2000.0
    site.put("bob", topics=["job.*"])
    site.end(added(site.store, uri=TASK), at=2001.0)
    site.new_feed().run()
    assert len(site.store.jobs(uri=DELIVER)) == 1


def test_a_position_is_noted_seldom_where_nothing_comes_of_it(site: Site) -> None:
    site.put(topics=["job.failed.*"])
    site.feed.run()
    before = site.sides.records.changes(FEED)
    for _ in range(5):
        added(site.store, uri=TASK)
        site.feed.run()
    assert site.sides.records.changes(FEED) <= before + 1
    site.now += 6
    added(site.store, uri=TASK)
    site.feed.run()
    assert site.sides.records.changes(FEED) > before


# Looking back, and sending again


def test_deliveries_and_their_attempts(site: Site) -> None:
    site.put()
    site.put("bob", topics=["job.*"])
    [job] = site.send(event())
    lines = ['{"attempt":1,"status":500}\n{"attem', 'pt":2,"status":200}\n']
    running = applied(site.store, start(job, site.now))
    said: list[tuple[str, dict[str, Any]]] = [
        ("output", {"stream": "stdout", "text": line}) for line in lines
    ]
    said.insert(1, ("output", {"stream": "stderr", "text": "oh\n"}))
    running = applied(site.store, note(running, site.now, said))
    applied(site.store, succeeded(running))
    [told] = site.desk.deliveries("ann", (), "", 10, anybody)
    assert (told["event"], told["type"], told["state"]) == ("evt_1", TOPIC, "succeeded")
    attempts = site.desk.delivery("ann", job.id, anybody)["attempts"]
    assert [one["status"] for one in attempts] == [500, 200]
    with pytest.raises(JobNotFound):
        site.desk.delivery("bob", job.id, anybody)
    with pytest.raises(JobNotFound):
        site.desk.delivery("ann", added(site.store).id, anybody)


def test_what_failed_is_sent_again(site: Site) -> None:
    site.put()
    jobs = []
    for n in range(4):
        site.now = 1000.0 + n
        jobs.append(site.send(event(n=n))[0])
    for job in jobs[:3]:
        site.end(job, GONE)
    site.end(jobs[3])
    again = site.desk.replay_since("ann", 1001.0, "ann", anybody)
    assert again == [jobs[1].id, jobs[2].id]
    assert site.job(jobs[1].id).state is State.QUEUED
    assert site.desk.replay("ann", jobs[0].id, "ann", anybody) == [jobs[0].id]
    with pytest.raises(NotReplayable):
        site.desk.replay("ann", jobs[3].id, "ann", anybody)
    assert json.loads(site.store.events(jobs[0].id)[-1].data)["actor"] == "ann"
