"""In the place of the gateway: a server on its socket that sees every byte, and answers as it is
told to, in a thread for each connection.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tests.support.processes import PATIENCE

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Answer = Callable[[socket.socket], None]


class Seen(NamedTuple):
    """What came over one connection: its first line, all header lines, and the body."""

    line: bytes
    headers: list[bytes]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header, in lower case."""
        start = name.lower() + b":"
        return [one[len(start) :].strip() for one in self.headers if one.lower().startswith(start)]


class Upstream:
    """``answer`` is called with each connection once its request is there."""

    def __init__(self, path: Path) -> None:
        self.answer: Answer = plain
        self.seen: SimpleQueue[Seen] = SimpleQueue()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def next(self) -> Seen:
        """The next request that came."""
        return self.seen.get(timeout=PATIENCE)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with closing(connection), suppress(ConnectionError):
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := connection.recv(65536)):
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            found = _LENGTH.search(head)
            length = int(found[1]) if found else 0
            while len(body) < length and (more := connection.recv(65536)):
                body += more
            line, *headers = head.split(b"\r\n")
            self.seen.put(Seen(line, headers, body))
            self.answer(connection)


def plain(connection: socket.socket) -> None:
    """An ordinary answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mine: a\r\n\r\nhi")


@contextmanager
def an_upstream(path: Path) -> Iterator[Upstream]:
    """A server at this path."""
    upstream = Upstream(path)
    try:
        yield upstream
    finally:
        upstream.close()
        path.unlink()
