"""Cancelling and replaying."""

import json
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.core.cancel import cancel
from taskbus.core.replay import replay, retry
from taskbus.model.builtin import HTTP_COMMAND
from taskbus.model.errors import InvalidArgument, JobEnded, NotReplayable
from taskbus.model.job import REPLAYABLE, Job, State
from taskbus.port.store import existing
from tests.support.values import a_job, added, applied, failed, running, start, succeeded

NOW = 5000.0


def now() -> float:
    return NOW


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED])
def test_what_waits_is_cancelled_at_once(store: MemoryStore, state: State) -> None:
    job = added(store, state=state)
    assert cancel(store, now, job, "ann") is State.CANCELLED
    ended = existing(store, job.id)
    assert (ended.state, ended.finished) == (State.CANCELLED, NOW)
    told = json.loads(store.events(job.id)[-1].data)
    assert (told["reason"], told["actor"]) == ("cancelled", "ann")
    assert json.loads(ended.error or "")["error"] == "taskbus.error.cancelled"


def test_what_waits_for_its_next_attempt_is_cancelled_at_once(store: MemoryStore) -> None:
    job = applied(store, failed(running(store, retries=3)))
    assert cancel(store, now, job, "ann") is State.CANCELLED


def test_what_runs_is_asked_to_end(store: MemoryStore) -> None:
    job = running(store)
    assert cancel(store, now, job, "ann") is State.RUNNING
    assert store.asked_to_end([job.id]) == {job.id: "ann"}
    assert existing(store, job.id).state is State.RUNNING
    assert cancel(store, now, job, "bob") is State.RUNNING
    assert store.asked_to_end([job.id]) == {job.id: "ann"}


def test_a_second_cancel_changes_nothing(store: MemoryStore) -> None:
    job = added(store)
    cancel(store, now, job, "ann")
    before = existing(store, job.id)
    assert cancel(store, now, before, "bob") is State.CANCELLED
    assert existing(store, job.id) == before


def test_what_has_ended_is_told(store: MemoryStore) -> None:
    job = applied(store, succeeded(running(store)))
    with pytest.raises(JobEnded, match="succeeded"):
        cancel(store, now, job, "ann")


def test_a_job_that_moves_on_meanwhile_is_looked_at_again(store: MemoryStore) -> None:
    queued = added(store)
    applied(store, start(queued))
    assert cancel(store, now, queued, "ann") is State.RUNNING
    other = running(store)
    applied(store, succeeded(other))
    with pytest.raises(JobEnded):
        cancel(store, now, other, "ann")


def ended(state: State, **fields: Any) -> Job:
    return a_job(
        state=state, attempt=4, failures=3, losses=2, started=1.0, finished=2.0,
        error="{}", cancel="ann", **fields,
    )  # fmt: skip


@pytest.mark.parametrize("state", sorted(REPLAYABLE))
def test_a_replayed_job_is_as_new_but_counts_its_attempts_on(state: State) -> None:
    change = replay(ended(state), "bob", NOW)
    assert change.after == a_job(
        id=change.before.id, state=State.QUEUED, attempt=4, due=NOW, seq=2,
    )  # fmt: skip
    told = json.loads(change.events[0].data)
    assert (change.events[0].kind, told["reason"], told["actor"]) == ("queued", "replayed", "bob")


def test_a_replayed_job_may_get_other_arguments() -> None:
    after = replay(ended(State.FAILED), "bob", NOW, "[2]", '{"a":1}').after
    assert (after.args, after.kwargs) == ("[2]", '{"a":1}')


def test_a_task_of_the_bus_own_keeps_its_arguments() -> None:
    job = ended(State.FAILED)._replace(uri=HTTP_COMMAND)
    assert replay(job, "bob", NOW).after.kwargs == job.kwargs
    for others in ({"args": "[2]"}, {"kwargs": "{}"}):
        with pytest.raises(InvalidArgument, match="a task of the bus itself"):
            replay(job, "bob", NOW, **others)


@pytest.mark.parametrize("state", sorted(set(State) - REPLAYABLE))
def test_nothing_else_is_replayed(state: State) -> None:
    with pytest.raises(NotReplayable, match=state):
        replay(a_job(state=state), "bob", NOW)


@pytest.mark.parametrize("state", [State.SCHEDULED, State.RETRYING])
def test_what_waits_for_its_time_is_retried_at_once(state: State) -> None:
    job = a_job(state=state, attempt=1, failures=1, due=NOW + 3600)
    after = retry(job, "bob", NOW).after
    assert (after.state, after.due, after.attempt, after.failures) == (State.QUEUED, NOW, 1, 1)


@pytest.mark.parametrize("state", sorted(REPLAYABLE))
def test_what_has_ended_without_success_is_retried_as_if_it_were_new(state: State) -> None:
    job = ended(state)
    assert retry(job, "bob", NOW) == replay(job, "bob", NOW)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.WAITING, State.SUCCEEDED])
def test_nothing_else_is_retried(state: State) -> None:
    with pytest.raises(NotReplayable, match=state):
        retry(a_job(state=state), "bob", NOW)
