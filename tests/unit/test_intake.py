"""Calls become jobs."""

import json
import math
from typing import Any
from unittest.mock import patch

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_keys import MemoryKeys
from taskbus.core.chores import Chores
from taskbus.core.intake import Intake, prepare
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import InvalidArgument, QueueUnavailable, StoreUnavailable, UnknownUri
from taskbus.model.identity import is_job_id
from taskbus.model.job import State, Submission
from taskbus.model.options import Backoff
from taskbus.model.policy import Policy

API = ApiMap(
    [
        Entry("com.x.plain", "python", "a:b"),
        Entry("com.x.own", "python", "a:b", "background", 60.0, 3, 750, policy=Policy(ttr=9.0)),
    ]
)
NOW = 1000.0


def prepared(details: dict[str, Any] | None = None, /, **request: Any) -> Submission:
    return prepare(API, lambda: NOW, {"uri": "com.x.plain"} | request, details or {})


def test_a_plain_call() -> None:
    job, event, *_ = prepared({"caller_authid": "ann"}, args=[1, "é"], kwargs={"a": None})
    assert is_job_id(job.id)
    assert (job.uri, job.state, job.seq) == ("com.x.plain", State.QUEUED, 1)
    assert (job.priority, job.timeout, job.retries) == (500, 300.0, 0)
    assert (job.args, job.kwargs) == ('[1,"\\u00e9"]', '{"a":null}')
    assert json.loads(job.details) == {"caller_authid": "ann"}
    assert (job.created, job.due, job.attempt) == (NOW, NOW, 0)
    assert (event.job, event.seq, event.at, event.kind) == (job.id, 1, NOW, "queued")
    assert json.loads(event.data) == {"reason": "submitted", "actor": "ann"}


def test_the_task_learns_what_it_is_known_by() -> None:
    job = prepared({"caller_authid": "ann"}, idempotency_key="order-7", context={"a": 1}).job
    assert json.loads(job.details) == {
        "caller_authid": "ann", "idempotency_key": "order-7", "context": {"a": 1},
    }  # fmt: skip


def test_without_arguments() -> None:
    job, event, *_ = prepared()
    assert (job.args, job.kwargs, job.details) == ("[]", "{}", "{}")
    assert json.loads(event.data)["actor"] == "unknown"
    assert prepared(args=None, kwargs=None, priority=None, delay=None).job.args == "[]"


def test_options_come_from_the_api_map_unless_given() -> None:
    job = prepared(uri="com.x.own").job
    assert (job.priority, job.timeout, job.retries) == (750, 60.0, 3)
    job = prepared(uri="com.x.own", priority=0, timeout=5, retries=0).job
    assert (job.priority, job.timeout, job.retries) == (0, 5.0, 0)
    assert prepared(priority="urgent").job.priority == 1000


def test_a_delay_schedules() -> None:
    job, event, *_ = prepared(delay=90)
    assert (job.state, job.created, job.due) == (State.SCHEDULED, NOW, NOW + 90)
    assert event.kind == "scheduled"
    assert prepared(delay=0).job.state is State.QUEUED


def test_a_time_schedules() -> None:
    job = prepared(run_at=NOW + 90).job
    assert (job.state, job.created, job.due) == (State.SCHEDULED, NOW, NOW + 90)
    assert prepared(run_at=NOW).job.state is State.QUEUED
    past = prepared(run_at="1970-01-01T00:00:01Z").job
    assert (past.state, past.due) == (State.QUEUED, NOW)
    assert prepared(run_at="1970-01-01T01:30:00+01:00").job.due == 1800.0


def test_what_few_jobs_say_is_their_policy() -> None:
    assert prepared().job.policy == "{}"
    policy = Policy(
        backoff=Backoff(2.0, 3.0, 60.0, 0.0),
        retry_on=("com.x.error.busy",),
        ttr=30.0,
        memory=64,
        cpu=1.5,
        retention=3600.0,
        concurrency_key="a",
        rate_key="b",
    )
    numbers = {"first": 2.0, "factor": 3.0, "longest": 60.0, "jitter": 0.0}
    said = policy._asdict() | {"backoff": numbers}
    assert Policy.of(prepared(**said).job.policy) == policy


def test_a_call_changes_only_what_it_says_of_the_maps_policy() -> None:
    own = prepared(uri="com.x.own", memory=8).job
    assert Policy.of(own.policy) == Policy(ttr=9.0, memory=8)


def test_tags_context_and_queue() -> None:
    job = prepared({"caller": 1}, tags=["b", "a", "b"], context={"é": [1]}, queue="slow").job
    assert (json.loads(job.tags), job.queue) == (["b", "a"], "slow")
    assert json.loads(job.details) == {"caller": 1, "context": {"é": [1]}}
    assert (prepared().job.tags, prepared().job.queue) == ("[]", "default")
    assert prepared(tags=[]).job.tags == "[]"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uri", None),
        ("uri", "plain"),
        ("uri", "com.x.*"),
        ("args", {"a": 1}),
        ("args", "abc"),
        ("args", 0),
        ("args", [math.nan]),
        ("args", [b"x"]),
        ("kwargs", [1]),
        ("kwargs", "abc"),
        ("kwargs", {"a": {1, 2}}),
        ("priority", "highest"),
        ("timeout", 0),
        ("retries", -1),
        ("delay", -1),
        ("delay", math.nan),
        ("when", 3),
        ("run_at", "2030-01-31T12:00:00"),
        ("run_at", "tomorrow"),
        ("run_at", NOW + 10**9),
        ("run_at", math.nan),
        ("run_at", True),
        ("tags", "a"),
        ("tags", [""]),
        ("tags", ["x" * 101]),
        ("tags", [str(nth) for nth in range(33)]),
        ("context", [1]),
        ("context", {"a": math.inf}),
        ("queue", "a b"),
        ("unique", ""),
        ("idempotency_key", ""),
        ("idempotency_key", 7),
        ("idempotency_window", 0),
        ("concurrency_key", "\ud800"),
        ("rate_key", []),
        ("concurrency", 3),
        ("rate", "1/second"),
        ("backoff", {"first": 1, "last": 2}),
        ("retry_on", []),
        ("id", "01"),
        ("details", {}),
    ],
)
def test_what_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        prepared(**{field: value})
    assert caught.value.about["field"].startswith(field)
    assert caught.value.about["remedy"]


def test_a_delay_and_a_time_are_one_too_many() -> None:
    with pytest.raises(InvalidArgument, match="run_at: beside a delay"):
        prepared(delay=1, run_at=NOW + 5)


def test_a_queue_that_no_worker_serves() -> None:
    api = ApiMap([Entry("com.x.plain", "python", "a:b")], ["default", "slow"])
    request = {"uri": "com.x.plain", "queue": "slow"}
    assert prepare(api, lambda: NOW, request, {}).job.queue == "slow"
    with pytest.raises(InvalidArgument) as caught:
        prepare(api, lambda: NOW, request | {"queue": "fast"}, {})
    assert (caught.value.about["field"], caught.value.about["value"]) == ("queue", "fast")
    assert "default, slow" in caught.value.about["remedy"]


def test_an_unknown_uri() -> None:
    with pytest.raises(UnknownUri):
        prepared(uri="com.x.other")


class Site:
    """An intake with its store, its queue and chores, and a clock that the test moves."""

    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.queue = MemoryQueue(self.broker)
        self.now = NOW
        self.rings = 0
        self.intake = Intake(self.store, MemoryKeys(self.store), self.queue, self)
        self.chores = Chores(self.store, self.queue, lambda: self.now)

    def ring(self) -> None:
        """It is its own bell."""
        self.rings += 1

    def queued(self) -> list[str]:
        """What the queue delivers now."""
        found = []
        while self.queue.stats().ready:
            self.queue.request()
            delivery = self.queue.take()
            assert delivery is not None
            found.append(delivery.job)
        return found


@pytest.fixture
def site() -> Any:
    made = Site()
    yield made
    made.queue.close()


def test_accepted_jobs_are_stored_and_queued(site: Site) -> None:
    submissions = [prepared(priority=0), prepared(priority=900), prepared(delay=60)]
    assert site.intake.accept([submissions[:2], submissions[2:]]) == [
        [one.job.id for one in submissions[:2]],
        [submissions[2].job.id],
    ]
    low, high, later = (submission.job for submission in submissions)
    assert site.rings == 1
    assert [site.store.job(job.id) for job in (low, high, later)] == [low, high, later]
    assert [entry.event for entry in site.store.journal(0, 9)] == [one.event for one in submissions]
    assert site.queued() == [high.id, low.id]


def test_what_the_queue_took_is_noted_with_a_later_accept_or_flush(site: Site) -> None:
    first, second = prepared(), prepared()
    site.intake.accept([[first]])
    assert [one.job for one in site.store.unplaced(1e9, 9)] == [first.job.id]
    site.intake.accept([[second]])
    site.intake.accept([])
    assert [one.job for one in site.store.unplaced(1e9, 9)] == [second.job.id]
    site.intake.flush()
    assert site.store.unplaced(1e9, 9) == []
    site.intake.flush()


def test_none_at_all(site: Site) -> None:
    site.intake.accept([])
    assert site.store.position() == 0


def test_a_job_is_accepted_while_the_queue_is_down_and_queued_later(site: Site) -> None:
    site.broker.stop()
    job = prepared().job
    site.intake.accept([[prepared()], [Submission(job, prepared().event)]])
    site.intake.flush()
    assert site.store.counts() == {State.QUEUED: 2}
    site.now += 60
    with pytest.raises(QueueUnavailable):
        site.chores.run()
    site.broker.start()
    site.chores.run()
    assert job.id in site.queued()
    assert site.store.unplaced(1e9, 9) == []


def test_jobs_that_the_queue_never_said_it_has_are_put_there_again(site: Site) -> None:
    first, second = prepared(), prepared()
    site.intake.accept([[first]])
    with patch.object(site.queue, "taken", side_effect=QueueUnavailable("gone")):
        site.intake.accept([[second]])
    site.queue.taken()
    site.intake.flush()
    assert [one.job for one in site.store.unplaced(1e9, 9)] == [first.job.id, second.job.id]
    assert site.queued() == [first.job.id, second.job.id]
    site.now += 60
    site.chores.run()
    assert site.queued() == [first.job.id, second.job.id]
    assert site.store.unplaced(1e9, 9) == []


def test_nothing_is_accepted_while_the_store_is_down(site: Site) -> None:
    site.store.available = False
    with pytest.raises(StoreUnavailable):
        site.intake.accept([[prepared()]])
    assert site.queued() == []
    assert site.rings == 0
    site.store.available = True
    assert site.store.jobs() == []
    site.now += 60
    site.chores.run()
    assert site.queued() == []


def test_what_the_queue_took_is_noted_when_the_store_is_back(site: Site) -> None:
    job = prepared().job
    site.intake.accept([[Submission(job, prepared().event)]])
    site.store.available = False
    with pytest.raises(StoreUnavailable):
        site.intake.accept([[prepared()]])
    with pytest.raises(StoreUnavailable):
        site.intake.flush()
    site.store.available = True
    site.intake.flush()
    assert site.store.unplaced(1e9, 9) == []
    assert site.queued() == [job.id]
