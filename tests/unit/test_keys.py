"""The second submission under a key finds the first job."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_keys import MemoryKeys
from taskbus.core.intake import Intake, prepare
from taskbus.core.keys import sift
from taskbus.core.plan import Plan
from taskbus.core.replay import replay
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import IdempotencyMismatch, InvalidArgument, KeyTaken
from taskbus.model.job import Job, Key, State, Submission
from taskbus.model.policy import Policy
from tests.support.values import applied, failed, start, succeeded

API = ApiMap(
    [
        Entry("com.x.plain", "python", "a:b"),
        Entry("com.x.other", "python", "a:b"),
        Entry("com.x.unique", "python", "a:b", "background", policy=Policy(unique=True)),
        Entry("com.x.named", "python", "a:b", "background", policy=Policy(unique="one")),
    ]
)
DAY = 24 * 3600.0


class Site:
    """An intake with its store, and a clock that the test moves."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.keys = MemoryKeys(self.store)
        self.queue = MemoryQueue(MemoryBroker())
        self.now = 1000.0
        self.intake = Intake(self.store, self.keys, self.queue, self)

    def ring(self) -> None:
        """It is its own bell."""

    def prepared(self, caller: str = "ann", /, **request: Any) -> Submission:
        details = {"caller_authid": caller}
        return prepare(API, lambda: self.now, {"uri": "com.x.plain"} | request, details)

    def submit(self, caller: str = "ann", /, **request: Any) -> str:
        """One job, alone in its call and its commit; its id."""
        [answer] = self.intake.accept([[self.prepared(caller, **request)]])
        if isinstance(answer, Exception):
            raise answer
        [job] = answer
        return job

    def run(self, job: str) -> Job:
        """Until it runs."""
        found = self.store.job(job)
        assert found is not None
        return applied(self.store, start(found))

    def stored(self) -> int:
        assert self.store.position() == sum(self.store.counts().values())
        return self.store.position()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.queue.close()


# Idempotency keys


def test_the_second_submission_finds_the_first_job(site: Site) -> None:
    job = site.submit(args=[1], idempotency_key="k")
    site.now += DAY - 1
    assert site.submit(args=[1], idempotency_key="k") == job
    assert site.stored() == 1
    site.now += 1
    assert site.submit(args=[1], idempotency_key="k") != job


def test_it_is_found_when_it_has_ended(site: Site) -> None:
    job = site.submit(idempotency_key="k")
    applied(site.store, succeeded(site.run(job)))
    assert site.submit(idempotency_key="k") == job


def test_the_window_can_be_chosen(site: Site) -> None:
    job = site.submit(idempotency_key="k", idempotency_window=60)
    site.now += 59
    assert site.submit(idempotency_key="k", idempotency_window=DAY) == job
    site.now += 1
    assert site.submit(idempotency_key="k") != job


def test_a_window_without_a_key_is_refused(site: Site) -> None:
    with pytest.raises(InvalidArgument) as caught:
        site.prepared(idempotency_window=60)
    assert caught.value.about["field"] == "idempotency_window"
    assert "idempotency_key" in caught.value.about["remedy"]


def test_every_caller_has_keys_of_its_own(site: Site) -> None:
    job = site.submit("ann", idempotency_key="k")
    assert site.submit("ben", args=["other"], idempotency_key="k") != job


def test_who_has_no_name_has_the_keys_of_its_role() -> None:
    """As all do who come over the HTTP bridge."""

    def key(**details: str) -> Key:
        request = {"uri": "com.x.plain", "idempotency_key": "k"}
        return prepare(API, lambda: 1000.0, request, details).keys[0]

    first = key(caller_authrole="bridge")
    assert key(caller_authrole="bridge").name == first.name
    assert key(caller_authid="ann", caller_authrole="bridge").name != first.name


@pytest.mark.parametrize(
    "other",
    [{"uri": "com.x.other"}, {"args": [2]}, {"args": []}, {"kwargs": {"a": 1}}, {"args": [[1]]}],
)
def test_another_request_under_the_same_key_is_refused(site: Site, other: dict[str, Any]) -> None:
    job = site.submit(args=[1], idempotency_key="the key")
    with pytest.raises(IdempotencyMismatch) as caught:
        site.submit(**{"args": [1], **other}, idempotency_key="the key")
    assert caught.value.about["field"] == "idempotency_key"
    assert caught.value.about["value"] == "the key"
    assert caught.value.about["remedy"]
    assert job in caught.value.message
    assert site.stored() == 1


def test_neither_order_nor_options_make_another_request(site: Site) -> None:
    job = site.submit(kwargs={"a": {"x": 1, "y": 2}, "b": 2}, idempotency_key="k")
    again = {"b": 2, "a": {"y": 2, "x": 1}}
    assert site.submit(kwargs=again, idempotency_key="k", priority="high", delay=5) == job


def test_a_replayed_job_with_other_arguments_is_still_the_first_one(site: Site) -> None:
    job = site.submit(args=[1], idempotency_key="k")
    dead = applied(site.store, failed(site.run(job)))
    applied(site.store, replay(dead, "ann", site.now, args="[2]"))
    assert site.submit(args=[1], idempotency_key="k") == job


# Unique jobs


@pytest.mark.parametrize("delay", [0, 60])
def test_a_second_job_is_kept_away_until_the_first_has_ended(site: Site, delay: float) -> None:
    request = {"uri": "com.x.unique", "args": [1], "kwargs": {"a": 1, "b": 2}}
    job = site.submit(**request, delay=delay)
    assert site.submit("ben", **request | {"kwargs": {"b": 2, "a": 1}}) == job
    assert site.submit(**request | {"args": [2]}) != job
    assert site.submit(uri="com.x.plain", args=[1], kwargs=request["kwargs"]) != job
    if delay:
        return
    running = site.run(job)
    assert site.submit(**request) == job
    applied(site.store, succeeded(running))
    assert site.submit(**request) != job


def test_unique_by_a_name(site: Site) -> None:
    job = site.submit(uri="com.x.named", args=[1])
    assert site.submit(uri="com.x.named", args=[2]) == job
    assert site.submit(uri="com.x.plain", unique="one") != job
    second = site.submit(uri="com.x.named", unique="two")
    assert second != job
    assert site.submit(uri="com.x.named", args=[5], unique="two") == second


def test_a_call_may_say_otherwise_than_the_map(site: Site) -> None:
    job = site.submit(uri="com.x.unique")
    assert site.submit(uri="com.x.unique", unique=False) != job
    assert site.submit(uri="com.x.plain", unique=True) == site.submit(unique=True)
    assert site.submit(uri="com.x.plain") != site.submit(uri="com.x.plain")


def test_a_plain_job_is_not_tied(site: Site) -> None:
    assert site.prepared().job.tied == 0
    assert site.prepared().keys == ()
    assert site.prepared(idempotency_key="k").job.tied == 0
    assert site.prepared(unique=True).job.tied == 1


def test_what_a_unique_job_answered_is_answered_again_under_its_key(site: Site) -> None:
    job = site.submit(unique=True)
    assert site.submit(unique=True, idempotency_key="k") == job
    applied(site.store, succeeded(site.run(job)))
    assert site.submit(unique=True, idempotency_key="k") == job
    assert site.submit(unique=True, idempotency_key="other") != job


# Together


def answers(site: Site, *calls: Sequence[Submission]) -> list[Any]:
    return list(site.intake.accept(calls))


def test_in_one_commit(site: Site) -> None:
    twice = [site.prepared(idempotency_key="k") for _ in range(2)]
    first, second = answers(site, [twice[0]], [site.prepared(), twice[1]])
    assert first == [twice[0].job.id]
    assert second[1] == twice[0].job.id
    assert site.stored() == 2
    assert site.queue.stats().ready == 2


def test_in_one_call(site: Site) -> None:
    jobs = [site.prepared(unique=True) for _ in range(3)]
    [answer] = answers(site, jobs)
    assert answer == [jobs[0].job.id] * 3
    assert site.stored() == 1


def test_a_key_for_a_unique_job_of_the_same_commit(site: Site) -> None:
    first, second = site.prepared(unique=True), site.prepared(unique=True, idempotency_key="k")
    assert answers(site, [first], [second]) == [[first.job.id]] * 2
    applied(site.store, succeeded(site.run(first.job.id)))
    assert site.submit(unique=True, idempotency_key="k") == first.job.id


def test_a_refused_call_is_refused_as_a_whole_and_alone(site: Site) -> None:
    site.submit(idempotency_key="k")
    wrong = [
        site.prepared(idempotency_key="new"),
        site.prepared(args=[1], idempotency_key="k"),
    ]
    right = site.prepared(idempotency_key="new", args=["not the wrong call's"])
    refused, accepted = answers(site, wrong, [right])
    assert isinstance(refused, IdempotencyMismatch)
    assert accepted == [right.job.id]
    assert site.stored() == 2


def test_a_call_can_contradict_itself(site: Site) -> None:
    wrong = [site.prepared(args=[nth], idempotency_key="k") for nth in range(2)]
    [refused] = answers(site, wrong)
    assert isinstance(refused, IdempotencyMismatch)
    assert site.stored() == 0


def test_whoever_was_faster_is_seen_at_the_second_look(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = site.submit(idempotency_key="k")
    look, looks = site.keys.holders, iter([True])

    def too_early(names: list[str], now: float) -> dict[str, Key]:
        return {} if next(looks, False) else look(names, now)

    monkeypatch.setattr(site.keys, "holders", too_early)
    assert site.submit(idempotency_key="k") == job
    assert site.stored() == 1


def test_a_key_that_nobody_holds_and_nobody_gets_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit(idempotency_key="k")
    monkeypatch.setattr(site.keys, "holders", lambda _names, _now: {})
    with pytest.raises(KeyTaken):
        site.submit(idempotency_key="k")


def test_what_follows_a_job_that_is_there_is_there_already(site: Site) -> None:
    def planned() -> list[Submission]:
        plan = Plan(API, lambda: site.now, {"caller_authid": "ann"})
        follow_up = {"uri": "com.x.other", "on_success": {"uri": "com.x.other"}}
        plan.add({"uri": "com.x.plain", "idempotency_key": "k", "on_end": [follow_up, follow_up]})
        plan.add({"uri": "com.x.plain", "on_end": {"uri": "com.x.other"}})
        return plan.submissions

    first, second = planned(), planned()
    (ids, again), (later,) = answers(site, first, second), answers(site, planned())
    assert ids == [one.job.id for one in first]
    assert again[0] == later[0] == ids[0]
    # The other job of each call is a new one, and so is what follows it.
    assert site.store.counts() == {State.QUEUED: 4, State.WAITING: 4 + 3}
    assert {job.id for job in site.store.jobs()} >= {*again[5:], *later[5:]}


def test_many_in_one_call() -> None:
    site = Site()
    jobs = [site.prepared(args=[nth // 2], unique=True) for nth in range(10_000)]
    sifted = sift([jobs], {})
    assert len(sifted.fresh) == 5000
    assert sifted.answers == [[one.job.id for one in jobs[::2] for _ in range(2)]]


def test_a_scheduled_job_is_announced_once(site: Site) -> None:
    job = site.submit(unique=True, delay=60)
    assert site.submit(unique=True) == job
    [event] = site.store.events(job)
    assert event.kind == State.SCHEDULED
