"""How often calls over HTTP are tried, and how they are ended."""

import socket
import threading
from typing import Any

import pytest

from taskbus.handler import http as http_module
from taskbus.handler import http_lines
from taskbus.handler.http_lines import Line
from taskbus.model.errors import (
    HandlerUnreachable,
    HttpFailure,
    TaskTimeout,
)
from taskbus.model.leash import Leash
from taskbus.model.task import TaskInput
from tests.support.http_calls import CALL, connections, ended, fine, handler, in_turn
from tests.support.http_server import Answer, Request, serving
from tests.support.processes import PATIENCE

# Tries


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "_FIRST_PAUSE", 0.001)


def after(count: int, status: int, **headers: str) -> Answer:
    """Fails so often, then is fine."""
    left = [1] * count

    def answer(request: Request) -> None:
        if left:
            left.pop()
            request.reply(status, b"", **headers)
        else:
            fine(request)

    return answer


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("options", [{"method": "GET"}, {"idempotent": True}])
@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_what_passes_is_tried_again(
    status: int, options: dict[str, Any], timeout: float | None, fast: None
) -> None:
    with serving(after(2, status, Retry_After="0")) as (url, requests):
        assert handler(url, timeout, tries=3, **options)(CALL).args == [1]
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("status", "options", "count"),
    [
        (503, {"method": "GET", "tries": 2}, 2),
        (503, {"method": "GET"}, 1),
        (503, {"tries": 3}, 1),
        (500, {"method": "GET", "tries": 3}, 1),
        (404, {"method": "GET", "tries": 3}, 1),
        (302, {"method": "GET", "tries": 3}, 1),
    ],
)
def test_so_often_and_not_what_does_not_pass(
    status: int, options: dict[str, Any], count: int, fast: None
) -> None:
    failing = pytest.raises(HttpFailure, match=f"HTTP {status}")
    with serving(after(9, status)) as (url, requests), failing:
        handler(url, **options)(CALL)
    assert len(requests) == count


@pytest.mark.parametrize("timeout", [None, 3.0])
def test_a_target_that_wants_to_be_left_alone_for_long_is(timeout: float | None) -> None:
    seconds = "6" if timeout is None else "4"
    answer = after(1, 503, Retry_After=seconds)
    with serving(answer) as (url, requests), pytest.raises(HttpFailure) as caught:
        handler(url, timeout, tries=3, method="GET")(CALL)
    assert len(requests) == 1
    assert caught.value.about["retry_after"] == float(seconds)


def refusing(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """The first connections are refused."""
    tried: list[int] = []
    connect = http_lines.connect

    def attempt(*words: Any) -> Line:
        tried.append(1)
        if len(tried) <= count:
            raise ConnectionRefusedError(111, "Connection refused")
        return connect(*words)

    monkeypatch.setattr(http_module, "connect", attempt)
    return tried


def test_what_was_not_sent_is_sent_again_whatever_it_is(
    monkeypatch: pytest.MonkeyPatch, fast: None
) -> None:
    tried = refusing(monkeypatch, 2)
    with serving(fine) as (url, requests):
        assert handler(url, tries=3)(CALL).args == [1]
    assert (len(tried), len(requests)) == (3, 1)


def test_one_try_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = refusing(monkeypatch, 1)
    refused = pytest.raises(HandlerUnreachable, match="Connection refused")
    with serving(fine) as (url, requests), refused:
        handler(url)(CALL)
    assert (len(tried), requests) == (1, [])


def test_all_tries_together_meet_the_timeout() -> None:
    over = threading.Event()

    def hang(_: Request) -> None:
        over.wait(PATIENCE)

    with serving(in_turn(lambda one: one.reply(503), hang)) as (url, requests):
        try:
            with pytest.raises(TaskTimeout, match=r"within 1\.5 seconds"):
                handler(url, 1.5, method="GET", tries=9)(CALL)
        finally:
            over.set()
    assert len(requests) == 2


def test_a_connection_that_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_lines, "CONNECT_SECONDS", 0.05)
    # Its queue is full, so nobody answers the next one.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        with socket.create_connection(full.getsockname()):
            for timeout in (None, PATIENCE):
                with pytest.raises(HandlerUnreachable, match="no connection within"):
                    handler(url, timeout)(CALL)
            with pytest.raises(TaskTimeout, match=r"within 0\.02 seconds"):
                handler(url, 0.02)(CALL)


# Ended by another thread


def test_what_is_ended_is_not_tried_again_and_not_used_again() -> None:
    asked, over = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        asked.set()
        over.wait(PATIENCE)
        fine(request)

    with serving(answer) as (url, requests):
        run, leash = handler(url, method="GET", tries=9), Leash()
        error = ended(run, leash)
        assert asked.wait(PATIENCE)
        assert leash.pull(False)
        assert error() == HandlerUnreachable.uri
        assert len(requests) == 1
        over.set()
        assert run(CALL).args == [1]
    assert connections(requests) == 2


def test_what_is_ended_between_two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "_LONGEST_PAUSE", 1e6)
    asked = threading.Event()

    def answer(request: Request) -> None:
        request.reply(503, Retry_After="100000")
        asked.set()

    with serving(answer) as (url, requests):
        leash = Leash()
        error = ended(handler(url, 1e6, method="GET", tries=9), leash)
        assert asked.wait(PATIENCE)
        leash.pull(False)
        leash.pull(True)
        assert error() in (HandlerUnreachable.uri, "taskbus.error.http.503")
    assert len(requests) == 1


def test_what_is_ended_before_it_begins_is_not_sent() -> None:
    with serving(fine) as (url, requests):
        leash = Leash()
        leash.pull(True)
        with pytest.raises(HandlerUnreachable):
            handler(url, tries=9)(TaskInput("com.x.y", leash=leash))
    assert requests == []


def test_a_large_call_that_nobody_reads_meets_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TaskTimeout):
            handler(url, 0.2)(TaskInput("com.x.y", ["x" * 15_000_000]))
