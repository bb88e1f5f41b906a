"""Errors over HTTP."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import CancelledError

import taskbus
from taskbus.gateway.problem import as_error, problem, problem_headers, status_of
from taskbus.model.errors import InvalidArgument, RateLimited, TaskbusError

# What went wrong inside: nothing that a client could mend, or wait for.
INSIDE = {
    "internal", "config", "task_failed", "killed", "memory_exceeded", "cpu_exceeded", "worker_lost",
    "not_ready", "stalled",
}  # fmt: skip


def errors(kind: type[TaskbusError] = TaskbusError) -> Iterator[str]:
    yield kind.uri
    for one in kind.__subclasses__():
        yield from errors(one)


def test_every_error_of_the_bus_has_a_status_of_its_own() -> None:
    for module in walk_packages(taskbus.__path__, "taskbus."):
        import_module(module.name)
    own = {uri for uri in errors() if uri.startswith("taskbus.error.")}
    assert {uri.rpartition(".")[2] for uri in own if status_of(uri) == 500} <= INSIDE


@pytest.mark.parametrize(
    ("uri", "status"),
    [("com.example.error.x", 422), ("wamp.error.not_authorized", 403), ("wamp.error.other", 500),
     ("taskbus.error.timeout", 504), ("crossbar.error.x", 500)],
)  # fmt: skip
def test_an_error_s_status(uri: str, status: int) -> None:
    assert status_of(uri) == status


def test_a_problem_tells_what_every_door_tells() -> None:
    error = InvalidArgument("limit", "x" * 300, "not a number", "send " + "y" * 300)
    told = problem(*as_error(error), "r1")
    assert told["type"] == "urn:wamp:taskbus.error.invalid_argument"
    assert (told["status"], told["title"], told["field"]) == (400, "Bad Request", "limit")
    assert len(told["value"]) < 300 < len(told["remedy"])
    assert told["request_id"] == "r1"


def test_what_else_an_error_says_is_kept() -> None:
    error = ApplicationError("com.example.error.x", "no", shop="s", remedy="r")
    told = problem(*as_error(error), "r1")
    assert (told["about"], told["remedy"], told["detail"]) == ({"shop": "s"}, "r", "no")


def test_who_should_wait_is_told_how_long() -> None:
    uri, _, about = as_error(RateLimited("10/minute", 2.1))
    assert problem_headers(status_of(uri), about)["Retry-After"] == "3"
    assert "Retry-After" in problem_headers(503, {})
    assert "Retry-After" not in problem_headers(400, {})
    assert problem_headers(401, {})["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("error", [TransportLost(), CancelledError()], ids=["lost", "cancelled"])
def test_a_router_that_is_lost_is_worth_to_wait_for(error: Exception) -> None:
    assert status_of(as_error(error)[0]) == 503


def test_an_unexpected_error_is_not_told() -> None:
    uri, message, _ = as_error(ZeroDivisionError("secret"))
    assert (uri, status_of(uri)) == ("taskbus.error.internal", 500)
    assert "secret" not in message


@pytest.mark.parametrize("word", ["soon", True, float("inf"), None, [1]])
def test_what_a_task_says_of_waiting_may_be_anything(word: object) -> None:
    told = problem_headers(503, {"retry_after": word})
    assert told["Retry-After"].isdigit()
