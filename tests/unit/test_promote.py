"""A backend's calls that have become jobs: claims kept, outcomes recorded once."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.core.lease import claim
from taskbus.core.promote import Keeper
from taskbus.core.retention import Retention
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.errors import StoreUnavailable, TaskFailure
from taskbus.model.job import Change, Job, State
from taskbus.model.policy import Policy
from taskbus.model.task import MOST_WARNINGS
from tests.support.values import a_job, applied, submission

BEGAN, NOW, TTR = 1000.0, 1005.0, 60.0
RETENTION = Retention(111.0, 222.0)
GOOD = Outcome(True, '{"args":[1],"kwargs":{}}')
BAD = Outcome(False, failure_text(TaskFailure("no luck")))


class Names:
    """Liveness by name."""

    def __init__(self, name: str, *dead: str) -> None:
        self._name = name
        self._dead = dead

    def identity(self) -> str:
        return self._name

    def is_dead(self, identity: str) -> bool:
        return identity in self._dead


class Backend:
    """A keeper, and what it does to the calls."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.now = NOW
        self.rings = 0
        self.aborts: list[bool] = []
        self.can_abort = True
        self.forgotten: list[str] = []
        self.shift = 0.0
        self.keeper = Keeper(
            self.store, Names("backend"), self, self.clock, lambda: self.now, TTR, RETENTION
        )

    def clock(self) -> float:
        """As somebody has set it."""
        return self.now + self.shift

    def ring(self) -> None:
        """As the bell."""
        self.rings += 1

    def promote(self, is_stored: bool = True, is_sure: bool = True, **fields: Any) -> Job:
        call = submission(a_job(**fields))
        promoted = self.keeper.promoted(call, BEGAN)
        if is_stored:
            self.store.add([promoted])
        job = promoted.job
        self.keeper.keep(job, self._abort, lambda: self.forgotten.append(job.id), is_sure)
        return job

    def _abort(self, hard: bool) -> bool:
        self.aborts.append(hard)
        return self.can_abort

    def run(self, later: float = 0.0) -> None:
        self.now += later
        self.keeper.run()

    def job(self, job: Job) -> Job:
        found = self.store.job(job.id)
        assert found is not None
        return found

    def events(self, job: Job) -> list[tuple[str, Any]]:
        return [(one.kind, json.loads(one.data)) for one in self.store.events(job.id)]

    def kinds(self, job: Job) -> list[str]:
        return [kind for kind, _ in self.events(job)]


@pytest.fixture
def backend() -> Backend:
    return Backend()


def test_a_call_becomes_a_job_that_runs_here(backend: Backend) -> None:
    job = backend.job(backend.promote(policy=Policy(ttr=600.0).text))
    assert (job.state, job.attempt, job.worker) == (State.RUNNING, 1, "backend")
    assert (job.created, job.started, job.lease) == (BEGAN, BEGAN, NOW + 600)
    [event] = backend.store.events(job.id)
    assert (event.seq, event.at, event.kind) == (1, NOW, "running")
    told = {"reason": "promoted", "actor": "backend", "attempt": 1}
    assert json.loads(event.data) == told
    assert backend.store.unplaced(NOW + 1000, 10) == []


def test_its_result_is_recorded_once(backend: Backend) -> None:
    job = backend.promote()
    backend.keeper.end(job.id, GOOD)
    backend.run()
    assert backend.job(job).state is State.SUCCEEDED
    assert backend.store.result(job.id) == GOOD.body
    assert backend.forgotten == [job.id]
    assert backend.rings == 1
    before = backend.events(job)
    backend.keeper.end(job.id, BAD)
    backend.run(later=1000)
    assert backend.events(job) == before
    assert backend.forgotten == [job.id]


@pytest.mark.parametrize(("retries", "state"), [(0, State.FAILED), (1, State.RETRYING)])
def test_its_failure_is_that_of_any_job(backend: Backend, retries: int, state: State) -> None:
    job = backend.promote(retries=retries)
    backend.keeper.end(job.id, BAD)
    backend.run()
    after = backend.job(job)
    assert (after.state, after.worker, after.lease, after.failures) == (state, None, None, 1)


def test_what_it_says_is_in_its_journal(backend: Backend) -> None:
    job = backend.promote()
    backend.keeper.progress(job.id, 0.25, "a")
    backend.keeper.progress(job.id, 0.5, "b")
    backend.keeper.warn(job.id, "odd")
    backend.run()
    backend.run()
    backend.keeper.progress(job.id, 0.75, "c")
    backend.keeper.end(job.id, GOOD)
    backend.run()
    assert backend.events(job)[1:-1] == [
        ("warning", {"reason": "odd"}),
        ("progress", {"fraction": 0.5, "message": "b"}),
        ("progress", {"fraction": 0.75, "message": "c"}),
    ]
    assert backend.kinds(job)[-1] == "succeeded"
    backend.keeper.progress(job.id, 1.0, "late")
    backend.keeper.warn(job.id, "late")
    backend.run()


def test_its_warnings_are_bounded(backend: Backend) -> None:
    job = backend.promote()
    for _ in range(2):
        for _ in range(MOST_WARNINGS):
            backend.keeper.warn(job.id, "odd")
        backend.run()
    assert backend.kinds(job).count("warning") == MOST_WARNINGS


def test_its_claim_is_kept(backend: Backend) -> None:
    job = backend.promote()
    for _ in range(10):
        backend.run(later=TTR / 3)
        assert backend.job(job).lease == backend.now + TTR
    backend.run(later=1)
    assert backend.job(job).lease == backend.now - 1 + TTR


def test_a_clock_that_is_set_back_keeps_nobody_waiting(backend: Backend) -> None:
    job = backend.promote()
    backend.run()
    backend.shift = -3600.0
    assert backend.store.ask_to_end(backend.job(job), "ann")
    backend.run(later=TTR)
    assert backend.aborts == [False]
    assert backend.job(job).lease == NOW + TTR - 3600 + TTR
    assert backend.events(job)[-1][0] == "cancelling"
    assert backend.store.events(job.id)[-1].at == NOW + TTR - 3600


def test_a_store_that_is_away_loses_nothing(backend: Backend) -> None:
    job = backend.promote()
    backend.keeper.progress(job.id, 0.5, "half")
    backend.keeper.warn(job.id, "odd")
    backend.keeper.end(job.id, GOOD)
    backend.store.available = False
    with pytest.raises(StoreUnavailable):
        backend.run()
    backend.store.available = True
    backend.run()
    assert backend.kinds(job) == ["running", "warning", "progress", "succeeded"]


@pytest.mark.parametrize("is_taken", [True, False])
def test_what_the_store_did_not_confirm_is_told_once(backend: Backend, is_taken: bool) -> None:
    """Both what it says and its end: they may have been stored all the same."""
    job = backend.promote()
    backend.run()
    backend.keeper.progress(job.id, 0.5, "half")
    backend.keeper.warn(job.id, "odd")
    fail_once(backend, is_taken)
    backend.keeper.warn(job.id, "odder")
    backend.run()
    backend.keeper.end(job.id, GOOD)
    fail_once(backend, is_taken)
    backend.run()
    warnings = [told["reason"] for kind, told in backend.events(job) if kind == "warning"]
    assert warnings == ["odd", "odder"]
    assert backend.kinds(job).count("progress") == 1
    assert backend.kinds(job)[-1] == "succeeded"
    assert backend.forgotten == [job.id]
    assert backend.aborts == []


def fail_once(backend: Backend, is_taken: bool) -> None:
    """The store does not answer, but may have done what it was asked."""
    advance = backend.store.advance

    def advance_in_vain(changes: Sequence[Change], durable: bool = True) -> list[bool]:
        if is_taken:
            advance(changes, durable)
        raise StoreUnavailable("gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.store, "advance", advance_in_vain)
        with pytest.raises(StoreUnavailable):
            backend.run()


def test_how_long_it_is_kept_is_as_for_any_job(backend: Backend) -> None:
    job = backend.promote()
    backend.keeper.end(job.id, GOOD)
    backend.run()
    assert backend.job(job).expires == backend.now + RETENTION.succeeded


def test_who_lost_its_claim_cannot_write(backend: Backend) -> None:
    job = backend.promote()
    changes = claim(backend.job(job), Names("worker", "backend"), NOW + 1, TTR)
    assert isinstance(changes, list)
    assert backend.store.advance(changes) == [True, True]
    taken = backend.job(job)
    assert (taken.state, taken.attempt, taken.losses) == (State.RUNNING, 2, 1)
    backend.keeper.end(job.id, GOOD)
    backend.run()
    assert backend.job(job) == taken
    assert backend.forgotten == [job.id]
    assert backend.aborts == [True]


def test_who_lost_its_claim_learns_it_when_it_renews(backend: Backend) -> None:
    job = backend.promote()
    applied(backend.store, claim_over(backend, job)[0])
    backend.run(later=TTR / 3)
    assert backend.forgotten == [job.id]
    assert backend.aborts == [True]


def claim_over(backend: Backend, job: Job) -> Any:
    return claim(backend.job(job), Names("worker", "backend"), NOW, TTR)


def test_a_job_that_may_not_be_stored_is_forgotten_in_silence(backend: Backend) -> None:
    job = backend.promote(is_stored=False, is_sure=False)
    other = backend.promote(is_stored=False, is_sure=False)
    backend.keeper.end(other.id, GOOD)
    backend.run()
    assert backend.forgotten == [job.id, other.id]
    assert backend.aborts == []
    assert backend.store.job(job.id) is None


def test_a_job_that_is_stored_after_all_is_kept(backend: Backend) -> None:
    job = backend.promote(is_sure=False)
    backend.run(later=TTR / 2)
    assert backend.job(job).lease == backend.now + TTR
    backend.keeper.end(job.id, GOOD)
    backend.run()
    assert backend.job(job).state is State.SUCCEEDED


def cancel(backend: Backend, job: Job) -> None:
    assert backend.store.ask_to_end(backend.job(job), "ann")
    backend.run(later=1)


def test_a_program_is_ended_and_killed_where_it_does_not_end(backend: Backend) -> None:
    job = backend.promote(retries=3)
    cancel(backend, job)
    assert backend.aborts == [False]
    assert backend.events(job)[1:] == [("cancelling", {"actor": "ann", "reason": "asked to end"})]
    backend.run(later=4)
    assert backend.aborts == [False]
    backend.run(later=1)
    backend.run(later=10)
    assert backend.aborts == [False, True]
    backend.keeper.end(job.id, BAD)
    backend.run()
    assert backend.job(job).state is State.CANCELLED
    assert backend.kinds(job) == ["running", "cancelling", "cancelled"]


@pytest.mark.parametrize("can_abort", [True, False])
def test_what_succeeds_first_has_succeeded(backend: Backend, can_abort: bool) -> None:
    backend.can_abort = can_abort
    job = backend.promote()
    backend.keeper.end(job.id, GOOD)
    cancel(backend, job)
    assert backend.job(job).state is State.SUCCEEDED


def test_python_code_is_left_and_its_result_dropped(backend: Backend) -> None:
    backend.can_abort = False
    job = backend.promote(retries=3)
    cancel(backend, job)
    assert backend.job(job).state is State.CANCELLED
    [_, (kind, told), (last, _)] = backend.events(job)
    assert (kind, last) == ("cancelling", "cancelled")
    assert "runs on to its end" in told["reason"]
    assert backend.forgotten == [job.id]
    backend.keeper.end(job.id, GOOD)
    backend.run()
    assert backend.job(job).state is State.CANCELLED
