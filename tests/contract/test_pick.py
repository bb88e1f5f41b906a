"""One job that somebody wants to run now, in every store."""

import json

import pytest

from taskbus.core.keys import unique_key
from taskbus.core.pick import pick
from taskbus.model.errors import JobNotFound, NotReplayable, NotRunnable, NotUnique
from taskbus.model.job import Job, Key, State, Submission, born, move
from taskbus.model.policy import Policy
from taskbus.port.sides import Sides
from taskbus.port.store import existing
from tests.support.values import a_job, added, applied, failed, running, start, succeeded

NOW = 2000.0


def picked(sides: Sides, job: Job, again: bool = False) -> Job:
    pick(sides.store, sides.keys, lambda: NOW, job.id, "ann", again)
    return existing(sides.store, job.id)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_what_a_claim_can_judge_is_let_alone(sides: Sides, state: State) -> None:
    job = added(sides.store) if state is State.QUEUED else running(sides.store)
    assert picked(sides, job) == job


def test_what_is_due_later_is_due_now(sides: Sides) -> None:
    scheduled = added(sides.store, state=State.SCHEDULED, due=NOW + 3600)
    retrying = applied(sides.store, failed(running(sides.store, retries=3)))
    assert retrying.state is State.RETRYING
    for job in (scheduled, retrying):
        assert picked(sides, job).state is State.QUEUED
        *_, last = sides.store.events(job.id)
        assert json.loads(last.data)["actor"] == "ann"


def test_what_has_failed_runs_again_where_that_is_wanted(sides: Sides) -> None:
    job = applied(sides.store, failed(running(sides.store)))
    with pytest.raises(NotRunnable, match="it has ended, and is failed") as caught:
        picked(sides, job)
    assert caught.value.about["remedy"] == "add --again"
    assert picked(sides, job, again=True).state is State.QUEUED


def test_a_success_is_never_undone(sides: Sides) -> None:
    job = applied(sides.store, succeeded(running(sides.store)))
    with pytest.raises(NotRunnable, match="is succeeded"):
        picked(sides, job)
    with pytest.raises(NotReplayable):
        picked(sides, job, again=True)


def test_who_waits_for_others_has_to_wait(sides: Sides) -> None:
    follower = added(sides.store, state=State.WAITING)
    with pytest.raises(NotRunnable, match="the end of others"):
        picked(sides, follower, again=True)
    queued = added(sides.store)
    full = move(queued, State.WAITING, NOW, reason="x", actor="x", lane="com.x.y")
    with pytest.raises(NotRunnable, match=r"the limit of com\.x\.y"):
        picked(sides, applied(sides.store, full))


def test_a_unique_job_does_not_run_beside_another(sides: Sides) -> None:
    unique = a_job(policy=Policy(unique="one").text, tied=1)
    first = _add(sides, unique, unique_key(unique, "one"))
    ended = applied(sides.store, failed(applied(sides.store, start(first))))
    other = a_job(policy=Policy(unique="one").text, tied=1)
    _add(sides, other, unique_key(other, "one"))
    with pytest.raises(NotUnique) as caught:
        picked(sides, ended, again=True)
    assert other.id in str(caught.value)


def test_there_is_no_such_job(sides: Sides) -> None:
    with pytest.raises(JobNotFound):
        picked(sides, a_job())


def _add(sides: Sides, job: Job, key: Key) -> Job:
    sides.store.add([Submission(job, born(job, "submitted", "ann"), (key,))])
    return job
