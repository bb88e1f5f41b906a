"""Who may run a job."""

import json
from itertools import pairwise

import pytest

from taskbus.core.lease import MOST_LOSSES, Busy, Nothing, claim
from taskbus.model.job import Change, Job, State
from taskbus.model.policy import Policy
from tests.support.values import a_job, start

NOW, TTR = 2000.0, 60.0


class Hosts:
    """Liveness: those named are dead."""

    def __init__(self, *dead: str) -> None:
        self._dead = dead

    def identity(self) -> str:
        return "me"

    def is_dead(self, identity: str) -> bool:
        return identity in self._dead


def claimed(job: Job, liveness: Hosts | None = None) -> list[Change]:
    changes = claim(job, liveness or Hosts(), NOW, TTR)
    assert isinstance(changes, list)
    for earlier, later in pairwise(changes):
        assert later.before == earlier.after
    assert changes[0].before == job
    return changes


def a_running_job(lease: float, losses: int = 0) -> Job:
    job = start(a_job(attempt=losses, losses=losses), worker="other").after
    return job._replace(lease=lease)


def test_a_queued_job_is_claimed() -> None:
    [change] = claimed(a_job(attempt=1, seq=4))
    job = change.after
    assert (job.state, job.attempt, job.worker, job.started, job.lease) == (
        State.RUNNING, 2, "me", NOW, NOW + TTR,
    )  # fmt: skip
    assert json.loads(change.events[0].data) == {"reason": "claimed", "actor": "me", "attempt": 2}


def test_a_job_may_say_how_long_a_claim_of_it_lasts() -> None:
    own = Policy(ttr=600.0).text
    assert claimed(a_job(policy=own))[-1].after.lease == NOW + 600
    assert claimed(a_running_job(lease=0.0)._replace(policy=own))[-1].after.lease == NOW + 600
    assert claimed(a_job(policy=Policy(cpu=1.0).text))[-1].after.lease == NOW + TTR


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED, State.RUNNING}))
def test_there_is_nothing_to_run(state: State) -> None:
    assert claim(a_job(state=state), Hosts(), NOW, TTR) == Nothing(state)


def test_an_unknown_job_is_nothing() -> None:
    assert claim(None, Hosts(), NOW, TTR) == Nothing("no such job")


def test_a_job_in_good_hands_is_busy() -> None:
    found = claim(a_running_job(lease=NOW), Hosts(), NOW, TTR)
    assert isinstance(found, Busy)
    assert found.delay > 0


def test_a_job_whose_lease_ended_is_taken_over() -> None:
    lost, begun = claimed(a_running_job(lease=NOW - 0.001))
    assert (lost.after.state, lost.after.worker, lost.after.lease, lost.after.losses) == (
        State.QUEUED, None, None, 1,
    )  # fmt: skip
    assert (begun.after.state, begun.after.attempt, begun.after.worker) == (State.RUNNING, 2, "me")
    assert "other" in json.loads(lost.events[0].data)["reason"]


def test_a_dead_workers_job_is_taken_over_at_once() -> None:
    changes = claimed(a_running_job(lease=NOW + 50), Hosts("other"))
    assert [change.after.state for change in changes] == [State.QUEUED, State.RUNNING]


def test_a_job_that_kills_its_workers_fails() -> None:
    [change] = claimed(a_running_job(lease=0.0, losses=MOST_LOSSES - 1))
    job = change.after
    assert (job.state, job.finished, job.worker, job.losses) == (
        State.DEAD,
        NOW,
        None,
        MOST_LOSSES,
    )
    error = json.loads(job.error or "")
    assert error["error"] == "taskbus.error.worker_lost"
    assert "other" in error["message"]


def test_one_loss_less_and_it_runs_again() -> None:
    changes = claimed(a_running_job(lease=0.0, losses=MOST_LOSSES - 2))
    assert changes[-1].after.state is State.RUNNING


def test_a_lost_job_that_somebody_wants_to_end_is_not_run_again() -> None:
    [change] = claimed(a_running_job(lease=0.0)._replace(cancel="ann"))
    assert (change.after.state, change.after.finished) == (State.CANCELLED, NOW)
    assert json.loads(change.events[0].data)["actor"] == "ann"
