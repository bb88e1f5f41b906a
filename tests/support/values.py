"""Values that many tests need."""

from collections.abc import Sequence
from typing import Any

from taskbus.core.settle import settle
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.errors import TaskFailure
from taskbus.model.identity import new_job_id
from taskbus.model.job import Change, Job, Key, Link, State, Submission, born, move
from taskbus.port.store import Store

WORKER = "host/1/1"


def a_job(**fields: Any) -> Job:
    """A job as intake makes it, but for these fields."""
    values: dict[str, Any] = {
        "id": new_job_id(),
        "uri": "com.example.dante.sleeper",
        "state": State.QUEUED,
        "priority": 500,
        "timeout": 60.0,
        "retries": 0,
        "args": "[1]",
        "kwargs": "{}",
        "details": '{"caller_authid":"ann"}',
        "created": 1000.0,
        "due": 1000.0,
        "seq": 1,
    }
    return Job(**(values | fields))


def add(store: Store, *jobs: Job) -> None:
    """Accept jobs with their first events."""
    store.add([submission(job) for job in jobs])


def submission(job: Job, keys: Sequence[Key] = (), links: Sequence[Link] = ()) -> Submission:
    """A job as it is given to a store."""
    return Submission(job, born(job, "submitted", "ann"), tuple(keys), tuple(links))


def added(store: Store, **fields: Any) -> Job:
    """One job, accepted."""
    job = a_job(**fields)
    add(store, job)
    return job


def start(job: Job, at: float = 1001.0, worker: str = WORKER) -> Change:
    """The change that begins the next attempt."""
    return move(
        job, State.RUNNING, at, reason="claimed", actor=worker,
        started=at, attempt=job.attempt + 1, worker=worker, lease=at + 60,
    )  # fmt: skip


def applied(store: Store, change: Change) -> Job:
    """The job after a change that the store has to take."""
    assert store.advance([change]) == [True]
    return change.after


def running(store: Store, **fields: Any) -> Job:
    """One job with an attempt under way."""
    return applied(store, start(added(store, **fields)))


def succeeded(job: Job, body: str = '{"args":[1],"kwargs":{}}', at: float = 1002.0) -> Change:
    """The change that ends the attempt well."""
    return settle(job, Outcome(True, body), at)


def failed(job: Job, message: str = "no luck", at: float = 1002.0) -> Change:
    """The change that ends the attempt with a failure: failed, or retrying."""
    return settle(job, Outcome(False, failure_text(TaskFailure(message))), at)
