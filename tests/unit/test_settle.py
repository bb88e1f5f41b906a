"""How an attempt's end becomes the job's next state."""

import json

import pytest

from taskbus.core import settle as settling
from taskbus.core.retention import STANDARD_RETENTION
from taskbus.core.settle import settle
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.errors import TaskFailure
from taskbus.model.job import Job, State
from taskbus.model.options import Backoff
from taskbus.model.policy import Policy
from tests.support.values import a_job, failed, start, succeeded


def attempt(number: int = 1, **fields: object) -> Job:
    return start(a_job(attempt=number - 1, **fields)).after


def test_success() -> None:
    job = attempt()
    change = succeeded(job, '{"args":[7],"kwargs":{}}', 2000.0)
    assert change.result == '{"args":[7],"kwargs":{}}'
    assert change.after == job._replace(
        state=State.SUCCEEDED,
        seq=job.seq + 1,
        finished=2000.0,
        worker=None,
        lease=None,
        expires=2000.0 + STANDARD_RETENTION.succeeded,
    )
    assert json.loads(change.events[0].data)["actor"] == job.worker


def test_a_success_after_failures_forgets_the_error() -> None:
    assert succeeded(attempt(2, error='{"message":"earlier"}')).after.error is None


def test_a_failure_without_retries_is_the_end() -> None:
    change = failed(attempt(), "no luck", 2000.0)
    job = change.after
    assert (job.state, job.finished, job.worker, job.lease) == (State.FAILED, 2000.0, None, None)
    assert json.loads(job.error or "")["message"] == "no luck"
    assert change.result is None
    data = json.loads(change.events[0].data)
    assert (data["error"], data["message"]) == ("taskbus.error.task_failed", "no luck")
    assert "traceback" not in data


def test_a_failure_with_retries_left_waits_for_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "backoff", lambda failures, **_: failures * 10.0)
    states = []
    for failures in (0, 1, 2):
        job = failed(attempt(retries=2, failures=failures), at=2000.0).after
        states.append((job.state, job.due, job.finished))
        assert job.failures == failures + 1
    assert states == [
        (State.RETRYING, 2010.0, None),
        (State.RETRYING, 2020.0, None),
        (State.FAILED, 1000.0, 2000.0),
    ]


def test_an_error_that_is_not_named_is_not_tried_again() -> None:
    other = Policy(retry_on=("com.x.error.busy",)).text
    assert failed(attempt(retries=2, policy=other)).after.state is State.FAILED
    named = Policy(retry_on=("taskbus.error.*",)).text
    assert failed(attempt(retries=2, policy=named)).after.state is State.RETRYING


def test_the_backoff_is_the_jobs_own() -> None:
    policy = Policy(backoff=Backoff(first=7.0, jitter=0.0)).text
    assert failed(attempt(retries=1, policy=policy), at=2000.0).after.due == 2007.0


def test_the_event_says_when_the_next_attempt_is_due() -> None:
    change = failed(attempt(retries=1))
    assert json.loads(change.events[0].data)["due"] == change.after.due > 1002.0


def test_lost_workers_use_up_no_retries() -> None:
    assert failed(attempt(2, retries=1, losses=1)).after.state is State.RETRYING
    assert failed(attempt(3, retries=1, losses=1, failures=1)).after.state is State.FAILED


def test_what_was_asked_to_end_and_failed_is_cancelled_whatever_retries_are_left() -> None:
    job = failed(attempt(retries=5, cancel="ann"), at=2000.0)
    assert (job.after.state, job.after.finished, job.after.worker) == (
        State.CANCELLED,
        2000.0,
        None,
    )
    assert json.loads(job.after.error or "")["error"] == "taskbus.error.cancelled"
    assert json.loads(job.events[0].data)["actor"] == "ann"


def test_what_was_asked_to_end_and_succeeded_has_succeeded() -> None:
    assert succeeded(attempt(cancel="ann")).after.state is State.SUCCEEDED


@pytest.mark.parametrize("state", sorted(set(State) - {State.RUNNING}))
def test_only_a_running_job_can_be_settled(state: State) -> None:
    with pytest.raises(ValueError, match="no transition"):
        settle(a_job(state=state), Outcome(True, "1"), 2000.0)


def test_an_error_that_asks_for_more_time_gets_it() -> None:
    policy = Policy(backoff=Backoff(first=10.0, jitter=0.0)).text
    for asked, due in ((3600, 5600.0), (1, 2010.0)):
        job = attempt(retries=1, policy=policy)
        outcome = Outcome(False, failure_text(TaskFailure("busy", retry_after=asked)))
        change = settle(job, outcome, 2000.0)
        assert (change.after.state, change.after.due) == (State.RETRYING, due)
