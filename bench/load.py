"""HTTP requests over connections that stay open, and how long each took.

One thread keeps all connections busy and reads no more of an answer than it must: the callers
share the machine with what they measure.
"""

import re
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

CONNECTIONS = 16
_SECONDS = 60
_ERROR = re.compile(rb'"error": *["{]')


@dataclass
class _Connection:
    port: int
    answer: bytearray = field(default_factory=bytearray)
    sent: float = 0.0
    sock: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS)


@dataclass(frozen=True)
class Load:
    """What came of it: ``seconds`` in all, and of each request; the answers' bodies in any order
    where they were kept.
    """

    seconds: float
    latencies: list[float]
    bodies: list[bytes]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds


def load(port: int, requests: Iterable[bytes], keep: bool = False) -> Load:
    """Send all requests, `CONNECTIONS` at a time. Raises RuntimeError at the first answer that is
    no success, which for Crossbar's bridge a 200 with an error in it is not.
    """
    left = iter(requests)
    done = Load(0.0, [], [])
    begun = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            connection = _Connection(port)
            selector.register(connection.sock, selectors.EVENT_READ, connection)
            _send_next(selector, connection, left)
        while selector.get_map():
            ready = selector.select(_SECONDS)
            if not ready:
                raise RuntimeError(f"no answer within {_SECONDS} s")
            for key, _ in ready:
                connection = key.data
                connection.answer += connection.sock.recv(65536) or b"closed"
                body = _whole(connection.answer)
                if body is not None:
                    done.latencies.append(time.perf_counter() - connection.sent)
                    if keep:
                        done.bodies.append(body)
                    connection.answer.clear()
                    _send_next(selector, connection, left)
    return Load(time.perf_counter() - begun, done.latencies, done.bodies)


def _send_next(
    selector: selectors.BaseSelector, connection: _Connection, left: Iterator[bytes]
) -> None:
    request = next(left, None)
    if request is None:
        selector.unregister(connection.sock)
        connection.sock.close()
    else:
        connection.sent = time.perf_counter()
        connection.sock.sendall(request)


def _whole(answer: bytearray) -> bytes | None:
    """The body, once all of it is there."""
    head, end, body = bytes(answer).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"[: len(head)]) or _ERROR.search(body):
        raise RuntimeError(f"no success: {bytes(answer)!r}")
    if not end:
        return None
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"content-length" in lines:
        return body if len(body) >= int(lines[b"content-length"]) else None
    return body if body.endswith(b"0\r\n\r\n") else None
