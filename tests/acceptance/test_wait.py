"""``taskbus.job.wait`` of a running bus: a job's events as they happen, then its outcome."""

import os
import queue
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost

from taskbus.model.identity import new_job_id
from tests.support.processes import PATIENCE
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

WAIT = "taskbus.job.wait"
STEPS, EVALUATE = "com.example.test.steps", "com.example.test.evaluate"
ENTRIES = f"""
[api."{STEPS}"]
python = "tests.support.tasks:steps"
mode = "background"
[api."{EVALUATE}"]
python = "tests.support.tasks:evaluate"
mode = "background"
"""
Events: TypeAlias = "queue.SimpleQueue[dict[str, Any]]"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder), entries=ENTRIES) as up,
    ):
        yield up


@pytest.fixture(params=["operator", "browser"])
def caller(request: pytest.FixtureRequest, site: Site) -> Iterator[Session]:
    """Over RawSocket, and over WebSocket."""
    with site.joined(request.param) as session:
        yield session


@pytest.fixture
def go_on(tmp_path: Path) -> Path:
    path = tmp_path / "go_on"
    os.mkfifo(path)
    return path


def watch(session: Session, job: str, **options: Any) -> tuple[Callable[[], Any], Events]:
    """Begin to wait; every event from now on is heard, also those of what the test does next."""
    heard: Events = queue.SimpleQueue()
    end = session.begin(WAIT, job, on_progress=heard.put, **options)
    session.call("taskbus.job.list", limit=1)  # Answered after the wait has begun.
    return end, heard


def until(heard: Events, message: str) -> list[dict[str, Any]]:
    """The events up to the progress that says so."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["data"].get("message") != message:
        events.append(heard.get(timeout=PATIENCE))
    return events


def rest(heard: Events) -> list[dict[str, Any]]:
    found = []
    while not heard.empty():
        found.append(heard.get())
    return found


def error_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        call(*args, **kwargs)
    error: ApplicationError = caught.value
    return error


def test_events_arrive_in_order_and_before_the_result(caller: Session, go_on: Path) -> None:
    job = caller.call("taskbus.job.submit", STEPS, [str(go_on), "one", "two", "three"], delay=0.5)
    end, heard = watch(caller, job)
    events = []
    for message in ("one", "two", "three"):
        events += until(heard, message)
        go_on.write_text("go")
    assert end() == 3
    # What was heard at all was heard by now.
    events += rest(heard)

    journal = caller.call("taskbus.job.events", job)
    first = journal.index(events[0])
    # The last event of a job is its outcome, which the result tells.
    assert events == journal[first:-1]
    assert journal[-1]["kind"] == "succeeded"
    said = [event["data"]["message"] for event in events if event["kind"] == "progress"]
    assert said == ["one", "two", "three"]


def test_several_wait_for_one_job(site: Site, caller: Session, go_on: Path) -> None:
    job = caller.call("taskbus.job.submit", STEPS, [str(go_on), "one"])
    first, _ = watch(caller, job)
    with site.joined() as other, site.joined() as leaving:
        second, _ = watch(other, job)
        third, _ = watch(leaving, job)
        leaving.leave()
        go_on.write_text("go")
        assert (first(), second()) == (1, 1)
    with pytest.raises((ApplicationError, TransportLost)):
        third()


def test_without_progress_the_result_comes_alone(caller: Session) -> None:
    job = caller.call("taskbus.job.submit", EVALUATE, ["TaskResult(1, 2, a=3)"])
    result = caller.call(WAIT, job)
    assert (result.results, result.kwresults) == ((1, 2), {"a": 3})


def test_a_job_that_fails(caller: Session, go_on: Path) -> None:
    expression = "fail('sold out', error_uri='com.example.error.sold_out', left=0)"
    job = caller.call("taskbus.job.submit", EVALUATE, [expression])
    # The second time it has already ended.
    for _ in range(2):
        error = error_of(caller.call, WAIT, job)
        assert (error.error, error.args, error.kwargs) == (
            "com.example.error.sold_out", ("sold out",), {"left": 0}
        )  # fmt: skip


def test_a_job_that_has_already_ended(caller: Session) -> None:
    job = caller.call("taskbus.job.submit", EVALUATE, ["6 * 7"])
    assert caller.call(WAIT, job) == 42
    end, heard = watch(caller, job)
    assert end() == 42
    assert heard.empty()
    assert caller.call(WAIT, job, timeout=0) == 42


def test_a_job_that_nobody_knows(caller: Session) -> None:
    job = new_job_id()
    error = error_of(caller.call, WAIT, job)
    assert error.error == "taskbus.error.job_not_found"
    assert error.kwargs["value"] == job


def test_waiting_may_end_before_the_job(caller: Session, go_on: Path) -> None:
    job = caller.call("taskbus.job.submit", STEPS, [str(go_on), "one"])
    end, heard = watch(caller, job, timeout=0.01)
    error = error_of(end)
    assert (error.error, error.kwargs["field"]) == ("taskbus.error.wait_timeout", "timeout")
    rest(heard)
    # The job goes on, and can be waited for again.
    again, _ = watch(caller, job)
    go_on.write_text("go")
    assert again() == 1
    assert heard.empty()


def test_a_retried_job_is_waited_for_to_its_end(caller: Session) -> None:
    job = caller.call("taskbus.job.submit", EVALUATE, ["fail('once more')"], retries=1)
    end, heard = watch(caller, job)
    assert error_of(end).args == ("once more",)
    kinds = [event["kind"] for event in rest(heard)]
    assert "retrying" in kinds
    assert eventually(lambda: caller.call("taskbus.job.get", job)["attempt"]) == 2
