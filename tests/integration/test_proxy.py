"""The router's way to the gateway: what passes, what does not, and who hears that somebody left."""

import http.client
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE
from tests.support.quick import quick_folder
from tests.support.router import Router, running_router
from tests.support.upstream import Upstream, an_upstream, plain

pytestmark = pytest.mark.integration

LIMIT = 1_048_576
# Seconds that a request may take to arrive here.
TIMEOUT = 3
HOST = b"Host: x\r\n"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def router(folder: Path) -> Iterator[Router]:
    with running_router(folder, client_timeout=TIMEOUT) as router:
        yield router


@pytest.fixture
def upstream(folder: Path) -> Iterator[Upstream]:
    with an_upstream(folder / "gateway.sock") as upstream:
        yield upstream


@contextmanager
def connected(router: Router) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", router.port), PATIENCE) as client:
        yield client


def ask(router: Router, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the first answer to these bytes."""
    with connected(router) as client:
        client.sendall(head + b"\r\n\r\n" + body)
        return answer(client)


def answer(client: socket.socket) -> tuple[int, bytes]:
    with closing(http.client.HTTPResponse(client)) as response:
        response.begin()
        return response.status, response.read()


def rest(client: socket.socket) -> bytes:
    """Everything until the router closes the connection."""
    found = b""
    try:
        while more := client.recv(65536):
            found += more
    except ConnectionResetError:
        pass
    return found


def test_a_request_passes_as_it_is(router: Router, upstream: Upstream) -> None:
    target = b"/v1/a%2Fb/%2e%2e/c?x=%20&y=../z"
    head = b"PATCH " + target + b" HTTP/1.1\r\n" + HOST + b"X-Mine: 1\r\nX-Mine: 2\r\n"
    status, body = ask(router, head + b"Content-Length: 5", b"a\r\n\0b")
    seen = upstream.next()
    assert (status, body) == (200, b"hi")
    assert seen.line == b"PATCH " + target + b" HTTP/1.0"
    assert seen.body == b"a\r\n\0b"
    assert seen.values(b"x-mine") == [b"1", b"2"]
    assert seen.values(b"content-length") == [b"5"]


def test_what_the_router_says_of_a_client_nobody_else_can(
    router: Router, upstream: Upstream
) -> None:
    ask(
        router,
        b"GET /v1/x HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n"
        b"X-Forwarded-Proto: https\r\nForwarded: for=10.0.0.1\r\nX_Forwarded_For: 10.0.0.1\r\n"
        b"x-forwarded-host: evil\r\nVia: 1.1 x\r\nConnection: keep-alive, X-Hop, Authorization\r\n"
        b"X-Hop: 1\r\nAuthorization: Bearer x\r\nTE: trailers\r\nProxy-Authorization: x\r\n"
        b"Expect: 100-continue",
    )
    seen = upstream.next()
    names = {line.partition(b":")[0].lower() for line in seen.headers}
    assert names == {
        b"host", b"authorization", b"x-forwarded-for", b"x-forwarded-proto", b"content-length",
        b"x-forwarded-beyond",
    }  # fmt: skip
    assert seen.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert seen.values(b"x-forwarded-proto") == [b"http"]


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        (b"X-Mine: 1", False),
        (b"X-Forwarded-For: 127.0.0.1", True),
        (b"x-forwarded-beyond: no", True),
        (b"Forwarded: for=127.0.0.1", True),
        (b"X-Real-IP: 127.0.0.1", True),
        (b"Via: 1.1 x", True),
    ],
)
def test_who_comes_through_another_proxy_is_not_from_here(
    router: Router, upstream: Upstream, line: bytes, is_told: bool
) -> None:
    ask(router, b"GET /v1/x HTTP/1.1\r\n" + HOST + line)
    assert upstream.next().values(b"x-forwarded-beyond") == ([b"yes"] if is_told else [])


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Host", b"Content-Type", b"Idempotency-Key", b"If-Match"]
)
def test_what_there_is_once_cannot_be_sent_twice(
    router: Router, upstream: Upstream, name: bytes
) -> None:
    twice = name + b": a\r\n" + name.lower() + b": b"
    status, body = ask(router, b"GET /v1/x HTTP/1.1\r\n" + twice)
    assert status == 400
    assert b"more than once" in body
    assert upstream.seen.empty()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: +3",
        b"Content-Length: 0x3",
        b"Content-Length: 3, 3",
        b"Content-Length: -1",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"X-Mine: a\0b",
        b"No colon here",
        b"X Y: z",
    ],
)
def test_a_request_of_two_minds_reaches_nobody(
    router: Router, upstream: Upstream, head: bytes
) -> None:
    smuggled = b"0\r\n\r\nGET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    status, _ = ask(router, b"POST /v1/x HTTP/1.1\r\n" + HOST + head, smuggled)
    assert status == 400
    assert upstream.seen.empty()


@pytest.mark.parametrize(
    "body",
    [b"3\nabc\n0\n\n", b"-1\r\nabc\r\n0\r\n\r\n", b"3;\rx\r\nabc\r\n0\r\n\r\n", b"zz\r\nabc\r\n"],
    ids=range(4),
)
def test_chunks_that_are_none_reach_nobody(router: Router, upstream: Upstream, body: bytes) -> None:
    head = b"POST /v1/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked"
    with connected(router) as client:
        client.sendall(head + b"\r\n\r\n" + body)
        # Nothing where it still waits for the end of a line.
        assert rest(client) in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"")
    assert upstream.seen.empty()


def test_a_body_is_no_second_request(router: Router, upstream: Upstream) -> None:
    body = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for head, sent in (
        (b"Content-Length: %d" % len(body), body),
        (b"Transfer-Encoding: chunked", chunked),
    ):
        assert ask(router, b"POST /v1/x HTTP/1.1\r\n" + HOST + head, sent)[0] == 200
        seen = upstream.next()
        assert (seen.line, seen.body) == (b"POST /v1/x HTTP/1.0", body)
        assert upstream.seen.empty()


def test_an_answer_is_no_second_answer(router: Router, upstream: Upstream) -> None:
    # More than it says: the rest must not be the answer of the next request.
    upstream.answer = lambda one: one.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\nevil"
    )
    with connected(router) as client:
        for _ in range(2):
            client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
            assert answer(client) == (200, b"hi")


def test_requests_of_one_connection_are_answered_in_order(
    router: Router, upstream: Upstream
) -> None:
    def tell(connection: socket.socket) -> None:
        line = upstream.next().line
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(line) + line)

    upstream.answer = tell
    asked = [b"GET /v1/%d HTTP/1.1\r\n%s\r\n" % (nth, HOST) for nth in range(5)]
    with connected(router) as client:
        client.sendall(b"".join(asked[:-1]) + asked[-1][:-2] + b"Connection: close\r\n\r\n")
        answered = re.findall(rb"GET /v1/\d HTTP/1\.0", rest(client))
    assert answered == [b"GET /v1/%d HTTP/1.0" % nth for nth in range(5)]


@pytest.mark.parametrize("path", [b"/v1/x", b"/call"])
def test_too_large_a_body_is_refused_before_it_is_there(
    router: Router, upstream: Upstream, path: bytes
) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\n" + HOST
    with connected(router) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
        assert answer(client)[0] == 413
    with connected(router) as client:
        send_too_much(client, head)
        assert answer(client)[0] == 413
    assert upstream.seen.empty()


def test_what_comes_after_too_much_is_not_read(router: Router, upstream: Upstream) -> None:
    with connected(router) as client:
        send_too_much(client, b"POST /v1/x HTTP/1.1\r\n" + HOST)
        client.sendall(b"0\r\n\r\nGET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answer(client)[0] == 413
        assert rest(client) == b""
    assert upstream.seen.empty()


def send_too_much(client: socket.socket, head: bytes) -> None:
    """One byte more than the limit, in chunks."""
    client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(LIMIT // 65536):
        client.sendall(b"10000\r\n%s\r\n" % (b"x" * 65536))
    client.sendall(b"1\r\nx\r\n")


def test_a_body_of_the_limit_passes(router: Router, upstream: Upstream) -> None:
    head = b"POST /v1/x HTTP/1.1\r\n" + HOST + b"Content-Length: %d" % LIMIT
    assert ask(router, head, b"x" * LIMIT)[0] == 200
    assert len(upstream.next().body) == LIMIT


def test_who_sends_drop_by_drop_is_cut_off(router: Router, upstream: Upstream) -> None:
    line, host = b"POST /v1/x HTTP/1.1\r\n", b"Host: x\r\n"
    ways = {
        "line": (b"", b"x"),
        "header": (line + b"X-Mine: ", b"x"),
        "headers": (line, b"X: y\r\n"),
        "body": (line + host + b"Content-Length: 1000000\r\n\r\n", b"x"),
        "chunks": (line + host + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "idle": (b"", b""),
    }
    with ExitStack() as stack:
        dripping = {}
        for name, (begin, drop) in ways.items():
            client = stack.enter_context(connected(router))
            client.sendall(begin)
            dripping[client] = name, drop
        rounds = 0
        while dripping:
            rounds += 1
            assert rounds < 8 * PATIENCE, dripping
            # Each drop comes long before the time is over.
            for client in select.select([*dripping], [], [], TIMEOUT / 8)[0]:
                assert rest(client) == b""
                del dripping[client]
            for client, (_, drop) in dripping.items():
                with suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(drop)
    assert upstream.seen.empty()


def test_an_idle_connection_has_its_time_anew(router: Router, upstream: Upstream) -> None:
    with connected(router) as client:
        for _ in range(2):
            client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
            assert answer(client) == (200, b"hi")


def test_an_answer_comes_as_it_is_made(router: Router, upstream: Upstream) -> None:
    go_on = threading.Event()

    def slowly(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        connection.sendall(b"data: 1\n\n")
        assert go_on.wait(PATIENCE)
        connection.sendall(b"data: 2\n\n")

    upstream.answer = slowly
    with connected(router) as client:
        client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.getheader("Content-Type") == "text/event-stream"
        assert response.readline() == b"data: 1\n"
        go_on.set()
        assert response.read() == b"\ndata: 2\n\n"


def test_who_hangs_up_is_not_worked_for(router: Router, upstream: Upstream) -> None:
    begun, gone = threading.Event(), threading.Event()

    def wait(connection: socket.socket) -> None:
        begun.set()
        if connection.recv(1) == b"":
            gone.set()

    upstream.answer = wait
    with connected(router) as client:
        client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert begun.wait(PATIENCE)
    assert gone.wait(PATIENCE)


def test_half_an_answer_is_not_taken_for_the_whole(router: Router, upstream: Upstream) -> None:
    upstream.answer = lambda one: one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(router, b"GET /v1/x HTTP/1.1\r\n" + HOST)


def test_a_gateway_that_is_away_is_told(router: Router, upstream: Upstream) -> None:
    upstream.answer = lambda _: None
    status, body = ask(router, b"GET /v1/x HTTP/1.1\r\n" + HOST)
    assert (status, b"taskbus.error.unreachable" in body) == (502, True)
    upstream.answer = lambda one: one.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000)
    assert ask(router, b"GET /v1/x HTTP/1.1\r\n" + HOST)[0] == 502


def test_no_gateway_is_told(router: Router) -> None:
    with connected(router) as client:
        client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 503
        assert response.getheader("Retry-After") == "1"
        assert b"taskbus.error.unreachable" in response.read()


def test_who_does_not_read_is_not_written_for(router: Router, upstream: Upstream) -> None:
    most, piece = 64 * 2**20, b"x" * 65536
    full, sent = threading.Event(), 0

    def write(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.setblocking(False)
        while sent < most:
            if not select.select([], [connection], [], None if full.is_set() else 1)[1]:
                full.set()
                continue
            sent += connection.send(piece)
        full.set()

    upstream.answer = write
    with connected(router) as client:
        client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert full.wait(PATIENCE)
        assert sent < most / 2
        response = http.client.HTTPResponse(client)
        response.begin()
        total = 0
        while more := response.read(2**20):
            total += len(more)
        assert total == sent >= most


@pytest.mark.parametrize("target", [b"/v1x", b"//v1/x", b"/x/../v1/x", b"/v1%2Fx", b"http://v1/x"])
def test_only_the_gateway_s_paths_are_passed_on(
    router: Router, upstream: Upstream, target: bytes
) -> None:
    status, _ = ask(router, b"GET " + target + b" HTTP/1.1\r\n" + HOST)
    assert status in (400, 404)
    assert upstream.seen.empty()


def test_the_router_tells_nothing_of_its_parts(router: Router, upstream: Upstream) -> None:
    upstream.answer = plain
    with connected(router) as client:
        client.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.getheader("X-Mine") == "a"
        assert not re.search("Crossbar|Twisted", str(response.getheaders()))
