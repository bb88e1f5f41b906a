"""The jobs of one call, and which of them waits for which."""

import json
from typing import Any

import pytest

from taskbus.core.plan import DEEPEST, MOST_FOLLOW_UPS, Plan
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import InvalidArgument, TaskbusError, UnknownUri
from taskbus.model.job import Link, State, Submission
from taskbus.model.policy import Policy

URI = "com.x.plain"
UNIQUE = "com.x.unique"
API = ApiMap(
    [Entry(URI, "python", "a:b"), Entry(UNIQUE, "python", "a:b", policy=Policy(unique=True))]
)
NOW = 1000.0


def a_plan() -> Plan:
    return Plan(API, lambda: NOW, {"caller_authid": "ann"})


def planned(**request: Any) -> list[Submission]:
    plan = a_plan()
    assert plan.add({"uri": URI} | request) == plan.submissions[0].job.id
    return plan.submissions


def refusal(**request: Any) -> TaskbusError:
    with pytest.raises(TaskbusError) as caught:
        planned(**request)
    return caught.value


def nested(levels: int) -> dict[str, Any]:
    request: dict[str, Any] = {"uri": URI}
    for _ in range(levels):
        request = {"uri": URI, "on_end": request}
    return request


def test_a_request_that_nothing_follows_is_as_before() -> None:
    [one] = planned(on_success=None, on_failure=[])
    assert (one.job.state, one.job.tied, one.links) == (State.QUEUED, 0, ())
    assert json.loads(one.job.details) == {"caller_authid": "ann"}


def test_what_follows_waits_for_the_job_before_it() -> None:
    first, good, bad, any_, other = planned(
        on_success={"uri": URI, "args": [1]},
        on_failure=[{"uri": URI, "priority": "high"}],
        on_end=[{"uri": URI}, {"uri": URI, "tags": ["a"]}],
    )
    assert (first.job.state, first.job.tied, first.links) == (State.QUEUED, 1, ())
    for one, on in ((good, "success"), (bad, "failure"), (any_, "end"), (other, "end")):
        assert (one.job.state, one.job.tied) == (State.WAITING, 0)
        assert one.links == (Link(first.job.id, one.job.id, on),)
        assert json.loads(one.job.details) == {"caller_authid": "ann", "after": [first.job.id]}
        assert (one.event.job, one.event.kind, one.event.seq) == (one.job.id, "waiting", 1)
        reason = f"submitted, waits for job {first.job.id}"
        assert json.loads(one.event.data) == {"reason": reason, "actor": "ann"}
    assert (good.job.args, bad.job.priority, other.job.tags) == ("[1]", 750, '["a"]')


def test_what_follows_may_be_followed() -> None:
    first, second, third = planned(on_success={"uri": URI, "on_failure": {"uri": URI}})
    assert [one.job.tied for one in (first, second, third)] == [1, 1, 0]
    assert second.links == (Link(first.job.id, second.job.id, "success"),)
    assert third.links == (Link(second.job.id, third.job.id, "failure"),)


def test_one_may_wait_for_many() -> None:
    plan = a_plan()
    ids = [plan.add({"uri": URI}, f"jobs[{nth}]") for nth in range(3)]
    then = plan.add({"uri": URI, "on_end": {"uri": URI}}, "then", ids, "success")
    *members, last, after_it = plan.submissions
    assert [one.job.tied for one in plan.submissions] == [1, 1, 1, 1, 0]
    assert last.job.id == then
    assert last.links == tuple(Link(one.job.id, then, "success") for one in members)
    assert json.loads(last.job.details)["after"] == ids
    assert json.loads(last.event.data)["reason"] == "submitted, waits for 3 jobs"
    assert json.loads(after_it.job.details)["after"] == [then]


def test_a_delay_counts_from_the_end_before_it() -> None:
    _, later, at = planned(
        on_end=[{"uri": URI, "delay": 5, "memory": 8}, {"uri": URI, "run_at": 1060}]
    )
    assert Policy.of(later.job.policy) == Policy(delay=5.0, memory=8)
    assert (at.job.policy, at.job.due) == ("{}", 1060.0)
    assert {later.job.state, at.job.state} == {State.WAITING}
    [first] = planned(delay=5)
    assert (first.job.policy, first.job.state) == ("{}", State.SCHEDULED)


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        ({"on_success": 5}, "on_success"),
        ({"on_success": "com.x.plain"}, "on_success"),
        ({"on_success": {}}, "on_success.uri"),
        ({"on_failure": {"uri": URI, "args": 5}}, "on_failure.args"),
        ({"on_end": {"uri": URI, "kwargs": {"a": [{1}]}}}, "on_end.kwargs.a[0]"),
        ({"on_end": [{"uri": URI}, {"uri": URI, "delay": -1}]}, "on_end[1].delay"),
        ({"on_end": [{"uri": URI}, 7]}, "on_end[1]"),
        ({"on_end": {"uri": URI, "on_sucess": {}}}, "on_end.on_sucess"),
        ({"on_end": {"uri": "com.x.nobody"}}, "on_end.uri"),
        (
            {"on_end": {"uri": URI, "on_success": [{"uri": URI, "retries": "x"}]}},
            "on_end.on_success[0].retries",
        ),
        (nested(DEEPEST + 1), ".".join(["on_end"] * (DEEPEST + 1))),
        ({"on_end": [{"uri": URI}] * (MOST_FOLLOW_UPS + 1)}, f"on_end[{MOST_FOLLOW_UPS}]"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(request_: dict[str, Any], place: str) -> None:
    error = refusal(**request_)
    assert error.about["field"] == place
    assert error.message.startswith(f"{place}:")
    assert error.about["remedy"]


def test_the_kind_of_error_stays() -> None:
    assert isinstance(refusal(on_end={"uri": "com.x.nobody"}), UnknownUri)
    assert isinstance(refusal(on_end={"uri": 5}), InvalidArgument)
    assert refusal(delay=-1).about["field"] == "delay"


def test_as_much_as_is_allowed() -> None:
    assert len(planned(**nested(DEEPEST))) == DEEPEST + 1
    assert len(planned(on_end=[{"uri": URI}] * MOST_FOLLOW_UPS)) == MOST_FOLLOW_UPS + 1


def test_each_request_of_a_call_has_follow_ups_of_its_own_up_to_a_limit_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("taskbus.core.plan.MOST_JOBS", 250)
    plan = a_plan()
    request = {"uri": URI, "on_end": [{"uri": URI}] * MOST_FOLLOW_UPS}
    plan.add(request, "jobs[0]")
    plan.add(request, "jobs[1]")
    with pytest.raises(InvalidArgument, match="too many jobs") as caught:
        plan.add(request, "jobs[2]")
    assert caught.value.about["field"] == "jobs[2].on_end[47]"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"unique": True, "on_end": {"uri": URI}}, "unique"),
        ({"uri": UNIQUE, "on_end": {"uri": URI}}, "unique"),
        ({"on_end": {"uri": UNIQUE}}, "on_end.unique"),
        ({"on_end": [{"uri": URI}, {"uri": URI, "unique": "a"}]}, "on_end[1].unique"),
        ({"on_end": {"uri": URI, "idempotency_key": "a"}}, "on_end.idempotency_key"),
    ],
)
def test_for_a_job_that_waits_or_is_waited_for_no_other_may_answer(
    request_: dict[str, Any], field: str
) -> None:
    error = refusal(**request_)
    assert error.about["field"] == field
    assert error.about["remedy"]


@pytest.mark.parametrize("key", [{"unique": True}, {"idempotency_key": "a"}])
def test_nor_for_one_that_others_of_its_call_wait_for(key: dict[str, Any]) -> None:
    plan = a_plan()
    ids = [plan.add({"uri": URI}, "jobs[0]"), plan.add({"uri": URI} | key, "jobs[1]")]
    with pytest.raises(InvalidArgument) as caught:
        plan.add({"uri": URI}, "then", ids, "end")
    assert caught.value.about["field"] == f"jobs[1].{next(iter(key))}"


def test_a_job_that_is_followed_may_have_an_idempotency_key() -> None:
    first, after = planned(idempotency_key="a", on_end={"uri": UNIQUE, "unique": False})
    assert (len(first.keys), len(after.keys)) == (1, 0)


def test_unknown_options_are_told_of_those_that_there_are() -> None:
    assert "on_success" in refusal(on_sucess={}).about["remedy"]


def test_only_the_bus_itself_can_name_a_task_that_is_built_in() -> None:
    own = Entry("taskbus.task.tidy", "python", "taskbus.task.tidy:run", queue="own", retries=3)
    api = ApiMap([Entry("com.example.a", "python", "a:A")], built_in=[own])
    with pytest.raises(UnknownUri):
        Plan(api, lambda: 1000.0, {}).add({"uri": own.pattern})
    plan = Plan(api, lambda: 1000.0, {}, is_own=True)
    plan.add({"uri": own.pattern, "on_end": {"uri": "com.example.a"}})
    assert [one.job.queue for one in plan.submissions] == ["own", "default"]
    assert api.of_job(own.pattern) is own
    assert own in api.for_workers()
