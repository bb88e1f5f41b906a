"""Connections to an HTTP target: made, kept for the next call, cut by another thread.

Lean: the forker imports this.
"""

import select
import socket
import ssl
import time
from _thread import allocate_lock
from typing import Any, BinaryIO

from taskbus.handler.timely import Timely
from taskbus.model.errors import ConfigError
from taskbus.model.http_target import HttpTarget

_CHUNK = 65536
# Whoever has not even accepted by then is not there.
CONNECT_SECONDS = 10.0


class Line:
    """A connection whose every step meets the deadline of the call; http.client takes it for a
    socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        # As ``time.monotonic`` counts.
        self.deadline: float | None = None
        self.is_used = False
        self.since = 0.0

    def sendall(self, data: bytes) -> None:
        """Raises TimeoutError at the deadline, however slowly it is read."""
        left = memoryview(data)
        while left:
            self._sock.settimeout(patience(self.deadline))
            left = left[self._sock.send(left[:_CHUNK]) :]

    def makefile(self, _mode: str) -> BinaryIO:
        """The next answer."""
        if self.deadline is None:
            self._sock.settimeout(None)
            return self._sock.makefile("rb")
        return Timely(self._sock, self.deadline).makefile("rb")

    def is_quiet(self) -> bool:
        """Nothing to read, neither an end: an answer could still come over it."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def cut(self) -> None:
        """In any thread: whoever uses it gets an error."""
        try:
            # A TLS socket's own would let another thread go on in the clear.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was faster.

    def close(self) -> None:
        """The end."""
        self._sock.close()


class Lines:
    """The connections of one target that no call uses just now; any thread may."""

    def __init__(self, keep: float) -> None:
        """``keep``: seconds for which an unused one is kept."""
        self._keep = keep
        self._lock = allocate_lock()
        self._idle: list[Line] = []

    def take(self) -> Line | None:
        """The one used last, if the other side has not closed it."""
        with self._lock:
            self._forget_old()
            while self._idle:
                line = self._idle.pop()
                if line.is_quiet():
                    return line
                line.close()
        return None

    def give_back(self, line: Line) -> None:
        """Its answer was read to the end."""
        line.is_used, line.since = True, time.monotonic()
        with self._lock:
            self._idle.append(line)
            self._forget_old()

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._keep
        while self._idle and self._idle[0].since <= oldest:
            self._idle.pop(0).close()

    def __del__(self) -> None:
        for line in self._idle:
            line.close()


def patience(deadline: float | None, most: float | None = None) -> float | None:
    """Seconds that a step may take; raises TimeoutError where none are left."""
    if deadline is None:
        return most
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left if most is None else min(left, most)


def connect(host: str, port: int, tls: ssl.SSLContext | None, deadline: float | None) -> Line:
    """A new connection; raises OSError, TimeoutError too."""
    failed = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            return Line(_opened(sock, address, host, tls, deadline))
        except OSError as error:
            sock.close()
            failed = error
    raise failed


def _opened(
    sock: socket.socket, address: Any, host: str, tls: ssl.SSLContext | None, deadline: float | None
) -> socket.socket:
    sock.settimeout(patience(deadline, CONNECT_SECONDS))
    sock.connect(address)
    # Head and body are two packets, of which the second would wait for the first one's receipt.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        secured.settimeout(patience(deadline, CONNECT_SECONDS))
        secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured


def tls_of(target: HttpTarget) -> ssl.SSLContext | None:
    """How the target proves who it is; None without TLS. Raises ConfigError."""
    if not target.url.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=target.ca)
    except OSError as error:
        raise ConfigError(
            str(target.ca), None, f"not a file of CA certificates: {error.strerror or error}",
            "name a PEM file in ca",
        ) from error  # fmt: skip
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
