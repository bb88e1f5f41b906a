"""Which connections calls over HTTP use."""

import socket
import threading
from typing import Any

import pytest

from taskbus.handler import Handler
from taskbus.handler import http as http_module
from taskbus.handler.http_lines import Line, Lines
from taskbus.model.errors import (
    HandlerUnreachable,
    HttpFailure,
    InvalidResult,
)
from tests.support.http_calls import CALL, connections, fine, handler, in_turn
from tests.support.http_server import Answer, Request, serving
from tests.support.processes import PATIENCE


def calls(run: Handler, count: int = 3) -> list[Any]:
    return [run(CALL).args for _ in range(count)]


def test_a_backend_keeps_its_connection_a_child_has_none_to_keep() -> None:
    for timeout, keep_alive, expected in ((PATIENCE, 4.0, 1), (PATIENCE, 0.0, 3), (None, 4.0, 3)):
        with serving(fine) as (url, requests):
            calls(handler(url, timeout, keep_alive=keep_alive))
        assert connections(requests) == expected
        says_so = {one.headers["Connection"] for one in requests}
        assert says_so == ({None} if expected == 1 else {"close"})


def test_answers_of_all_kinds_leave_the_connection_usable() -> None:
    def chunked(request: Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"2\r\n{}\r\n0\r\n\r\n")

    answer = in_turn(fine, lambda one: one.reply(500, b"no"), chunked, fine)
    with serving(answer) as (url, requests):
        run = handler(url)
        run(CALL)
        with pytest.raises(HttpFailure):
            run(CALL)
        calls(run, 2)
    assert connections(requests) == 1


def too_large(request: Request) -> None:
    request.reply(200, b" " * 2000 + b"{}")


@pytest.mark.parametrize("more", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"])
def test_a_connection_is_not_used_again_that_was_closed_or_said_too_much(
    more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Event()
    is_quiet = Line.is_quiet

    def answer(request: Request) -> None:
        fine(request)
        assert read.wait(PATIENCE)
        request.wfile.write(more)
        request.close_connection = True

    def later(line: Line) -> bool:
        """When the other side has had its time."""
        read.set()
        line._sock.settimeout(PATIENCE)
        line._sock.recv(1, socket.MSG_PEEK)
        return is_quiet(line)

    monkeypatch.setattr(Line, "is_quiet", later)
    with serving(answer) as (url, requests):
        assert calls(handler(url), 2) == [[1], [1]]
    assert connections(requests) == 2


def test_a_service_may_say_that_it_closes_the_connection() -> None:
    def answer(request: Request) -> None:
        request.reply(200, b"{}", Connection="close")

    with serving(answer) as (url, requests):
        calls(handler(url), 2)
    assert connections(requests) == 2


def test_a_connection_with_an_answer_half_read_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "LARGEST_ANSWER", 1000)
    with serving(in_turn(too_large, fine)) as (url, requests):
        run = handler(url)
        with pytest.raises(InvalidResult, match="larger than 1000"):
            run(CALL)
        assert run(CALL).args == [1]
    assert connections(requests) == 2


def test_calls_at_a_time_have_connections_of_their_own() -> None:
    meet = threading.Barrier(3)

    def answer(request: Request) -> None:
        meet.wait(PATIENCE)
        fine(request)

    with serving(answer) as (url, requests):
        run = handler(url)
        for _ in range(2):
            threads = [threading.Thread(target=run, args=(CALL,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
    assert (len(requests), connections(requests)) == (6, 3)


def test_what_is_unused_for_long_is_closed() -> None:
    ours, theirs = socket.socketpair()
    other, others = socket.socketpair()
    with theirs, others:
        lines = Lines(10.0)
        lines.give_back(old := Line(ours))
        old.since -= 20.0
        lines.give_back(Line(other))
        assert theirs.recv(1) == b""
        line = lines.take()
        assert line is not None
        assert lines.take() is None
        line.close()


def breaking_off_the_second(number: int) -> tuple[Answer, list[int]]:
    """Answers the first call, and closes the connection over the next ones, ``number`` times."""
    seen: list[int] = []

    def answer(request: Request) -> None:
        seen.append(1)
        if 1 < len(seen) <= 1 + number:
            request.close_connection = True
        else:
            fine(request)

    return answer, seen


def test_a_kept_connection_that_breaks_off_costs_no_try_where_the_call_can_be_repeated() -> None:
    for options in (
        {"method": "GET"},
        {"method": "PUT"},
        {"method": "DELETE"},
        {"idempotent": True},
    ):
        answer, seen = breaking_off_the_second(1)
        with serving(answer) as (url, requests):
            assert calls(handler(url, **options), 2) == [[1], [1]]
        assert (len(seen), connections(requests)) == (3, 2)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_may_have_been_done_is_not_done_again(method: str) -> None:
    answer, seen = breaking_off_the_second(1)
    with serving(answer) as (url, _):
        run = handler(url, method=method, tries=5)
        run(CALL)
        with pytest.raises(HandlerUnreachable):
            run(CALL)
        assert len(seen) == 2
        assert run(CALL).args == [1]
