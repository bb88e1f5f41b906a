"""Answers over HTTP that are read until a deadline."""

import http.client
import io
import socket
import time
from typing import Any


class Timely(io.RawIOBase):
    """What a socket receives until the deadline: a server that drips bytes meets it too."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def timely_response(
    deadline: float, sock: socket.socket, **options: Any
) -> http.client.HTTPResponse:
    """For ``HTTPConnection.response_class``; ``deadline`` as ``time.monotonic`` counts."""
    return http.client.HTTPResponse(Timely(sock, deadline), **options)  # type: ignore[arg-type]
