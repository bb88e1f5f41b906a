"""Foreground calls, and how they become jobs: real threads, by a clock that stands still."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taskbus.adapter.memory import MemoryStore
from taskbus.bus.calls import Calls
from taskbus.bus.message import Answer, Call
from taskbus.core.promote import Keeper
from taskbus.edge.batch import Batch
from taskbus.edge.foreground import Foreground
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import Job, State, Submission
from tests.support.reactor import Reactor
from tests.support.site import eventually

URI = "com.t.march"
AFTER, TIMEOUT = 5.0, 100.0


class Backend:
    """One entry, whose jobs are stored when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.go_on = folder / "go_on"
        os.mkfifo(self.go_on)
        self.fifo = os.open(self.go_on, os.O_RDWR)
        self.reactor, self.store = Reactor(), MemoryStore()
        self.calls = Calls(self.reactor)
        target = "tests.support.tasks:march"
        self.entry = Entry(URI, "python", target, timeout=TIMEOUT, promote_after=AFTER)
        self.foreground = Foreground(
            reactor=self.reactor,
            api=ApiMap([self.entry]),
            entries=[self.entry],
            batch=cast("Batch", self),
            keeper=Keeper(self.store, self, self, time.time, time.monotonic, 60.0),
            calls=self.calls,
            clock=time.time,
            threads=4,
        )
        self.submitted: list[Submission] = []
        self.commits: list[Deferred[list[str]]] = []
        self.heard: list[Any] = []
        self.answers: list[Any] = []

    def identity(self) -> str:
        """As the liveness."""
        return "backend"

    def is_dead(self, identity: str) -> bool:
        """As the liveness."""
        return False

    def ring(self) -> None:
        """As the bell."""

    def accept(self, submissions: Sequence[Submission]) -> "Deferred[list[str]]":
        """As the batch."""
        self.submitted += submissions
        self.commits.append(Deferred())
        return self.commits[-1]

    def call(self, *messages: str) -> "Deferred[Any]":
        """A call that takes a step each time that it is told to."""
        args = [str(self.go_on), *messages]
        call = Call(args, {}, URI, 1, "ann", "user", None, self.heard.append)
        endpoint = self.calls.watch(self.foreground.run)
        answer: Deferred[Any] = endpoint(self.entry, call)
        answer.addBoth(self.answers.append)
        return answer

    def step(self) -> None:
        """The call has said something, and goes on."""
        self.reactor.step()
        self.go()

    def go(self) -> None:
        """It takes a step, now or when it comes so far."""
        os.write(self.fifo, b"x")

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.reactor.step()

    def store_it(self) -> Job:
        """The commit is done."""
        self.store.add(self.submitted)
        job = self.submitted[-1].job
        self.commits[-1].callback([job.id])
        return job

    def state(self, job: Job) -> State:
        found = self.store.job(job.id)
        assert found is not None
        return found.state

    def said(self, job: Job) -> list[str]:
        events = [one for one in self.store.events(job.id) if one.kind == "progress"]
        return [json.loads(one.data)["message"] for one in events]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    made = Backend(tmp_path)
    yield made
    eventually(made.foreground.close)
    os.close(made.fifo)


def messages(heard: Sequence[Any]) -> list[str]:
    return [one["message"] for one in heard]


def is_promoted(answer: Any, job: Job) -> bool:
    return bool(answer == Answer([job.id], {"promoted": True}))


def test_what_is_done_in_time_is_answered_as_ever(backend: Backend) -> None:
    backend.call("one", "two")
    backend.step()
    backend.step()
    backend.reactor.step()
    assert backend.answers[0].args == [2]
    assert messages(backend.heard) == ["one", "two"]
    backend.reactor.advance(TIMEOUT + 1)
    assert backend.submitted == []


def test_what_takes_longer_is_a_job(backend: Backend) -> None:
    backend.call("one", "two")
    backend.step()
    backend.reactor.advance(AFTER)
    assert backend.answers == []
    job = backend.store_it()
    assert is_promoted(backend.answers[0], job)
    assert (job.state, job.worker, job.uri) == (State.RUNNING, "backend", URI)
    assert json.loads(job.details)["caller_authid"] == "ann"
    backend.step()
    backend.until(lambda: backend.state(job) is State.SUCCEEDED)
    # Each hears its own part.
    assert messages(backend.heard) == ["one"]
    assert backend.said(job) == ["two"]
    assert json.loads(backend.store.result(job.id) or "")["args"] == [2]


def test_a_stop_waits_until_the_job_is_recorded(backend: Backend) -> None:
    backend.call("one")
    backend.reactor.advance(AFTER)
    job = backend.store_it()
    done: list[Any] = []
    backend.calls.answered().addCallback(done.append)
    assert len(backend.calls) == 1
    backend.step()
    backend.until(lambda: len(backend.calls) == 0)
    assert backend.state(job) is State.SUCCEEDED
    backend.reactor.advance(0)
    assert len(done) == 1


def test_a_stop_in_a_hurry_does_not(backend: Backend) -> None:
    backend.call("one")
    backend.reactor.advance(AFTER)
    job = backend.store_it()
    backend.calls.cut()
    assert len(backend.calls) == 0
    assert backend.state(job) is State.RUNNING
    backend.go()


def test_what_ends_meanwhile_is_a_job_that_has_ended(backend: Backend) -> None:
    backend.call("one")
    backend.reactor.advance(AFTER)
    backend.step()
    backend.reactor.step()  # It has ended.
    assert backend.answers == []
    job = backend.store_it()
    assert is_promoted(backend.answers[0], job)
    eventually(lambda: backend.state(job) is State.SUCCEEDED)


@pytest.mark.parametrize("is_stored", [False, True])
def test_where_the_store_is_down_the_caller_waits_on(backend: Backend, is_stored: bool) -> None:
    """And what was stored after all has the same end."""
    backend.call("one", "two")
    backend.step()
    backend.reactor.advance(AFTER)
    if is_stored:
        backend.store.add(backend.submitted)
    backend.commits[0].errback(Failure(StoreUnavailable("full")))
    assert backend.answers == []
    backend.step()
    backend.until(lambda: bool(backend.answers))
    assert backend.answers[0].args == [2]
    assert messages(backend.heard) == ["one", "two"]
    job = backend.submitted[0].job
    if is_stored:
        eventually(lambda: backend.state(job) is State.SUCCEEDED)
    else:
        assert backend.store.job(job.id) is None


def test_where_another_job_is_in_its_place_the_caller_waits_on(backend: Backend) -> None:
    backend.call("one")
    backend.reactor.advance(AFTER)
    backend.commits[0].callback(["another"])
    backend.go()
    backend.until(lambda: bool(backend.answers))
    assert backend.answers[0].args == [1]


def test_a_caller_that_leaves_in_between_leaves_a_job_that_ends(backend: Backend) -> None:
    call = backend.call("one")
    backend.reactor.advance(AFTER)
    call.cancel()
    [failure] = backend.answers
    assert failure.check(Exception)
    job = backend.store_it()
    backend.go()
    backend.until(lambda: backend.state(job) is State.SUCCEEDED)


def test_a_job_that_takes_too_long_has_failed(backend: Backend) -> None:
    backend.call("one")
    backend.reactor.advance(AFTER)
    job = backend.store_it()
    backend.reactor.advance(TIMEOUT)
    eventually(lambda: backend.state(job) is State.FAILED)
    found = backend.store.job(job.id)
    assert found is not None
    assert json.loads(found.error or "")["error"] == "taskbus.error.timeout"
    backend.go()


def test_nobody_hears_what_a_call_says_after_its_timeout(backend: Backend) -> None:
    backend.call("one")
    backend.reactor.advance(AFTER)
    backend.commits[0].errback(Failure(StoreUnavailable("full")))
    backend.reactor.advance(TIMEOUT)
    [failure] = backend.answers
    assert failure.check(ApplicationError)
    assert failure.value.error == "taskbus.error.timeout"
    backend.step()
    assert backend.heard == []


def test_the_log_tells_where_python_code_has_failed_and_the_caller_is_not_told(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.go_on = Path("/nowhere")
    backend.call("one")
    backend.until(lambda: bool(backend.answers))
    assert f"{URI} failed: taskbus.error.task_failed: FileNotFoundError" in caplog.text
    assert "in march" in caplog.text
    error = backend.answers[0].value
    assert "in march" not in repr((error.args, error.kwargs))
