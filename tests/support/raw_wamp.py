"""A WAMP client that writes its messages itself: JSON, byte by byte, over RawSocket. It announces
no feature of any role.
"""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import PATIENCE
from tests.support.router import REALM

_MAGIC, _LONGEST_AND_JSON = 0x7F, 0xF1
_HELLO, _CHALLENGE, _AUTHENTICATE, _WELCOME = 1, 4, 5, 2
_GOODBYE, _CALL, _CANCEL, _RESULT = 6, 48, 49, 50
_REGISTER, _REGISTERED, _INVOCATION, _YIELD = 64, 65, 68, 70


class RawCaller:
    """One session."""

    def __init__(self, connection: socket.socket, authid: str, ticket: str) -> None:
        self._connection = connection
        self._request = 0
        connection.sendall(bytes([_MAGIC, _LONGEST_AND_JSON, 0, 0]))
        assert self._exactly(4)[0] == _MAGIC
        hello = {"roles": {"caller": {}, "callee": {}}, "authmethods": ["ticket"], "authid": authid}
        assert self._ask(json.dumps([_HELLO, REALM, hello]))[0] == _CHALLENGE
        assert self._ask(json.dumps([_AUTHENTICATE, ticket, {}]))[0] == _WELCOME

    def call(
        self, uri: str, args: str = "[]", kwargs: str = "{}", options: dict[str, Any] | None = None
    ) -> tuple[bool, list[Any]]:
        """Whether the call did well, and its positional and keyword results, or the error's URI,
        args and kwargs. ``args`` and ``kwargs`` are JSON as it is sent.
        """
        answer = self._call(uri, args, kwargs, options or {})
        done = answer[0] == _RESULT
        return done, answer[3 if done else 4 :]

    def begin(self, uri: str, args: str = "[]") -> list[Any]:
        """A call's first message: a progressive result, usually."""
        return self._call(uri, args, "{}", {"receive_progress": True})

    def cancel(self, mode: str = "kill") -> list[Any]:
        """The answer of the call that was begun last, and is cancelled."""
        return self._ask(json.dumps([_CANCEL, self._request, {"mode": mode}]))

    def repeat(self, uri: str) -> None:
        """Send a call with the number of the last one."""
        self._write(json.dumps([_CALL, self._request, {}, uri]))

    def leave(self) -> None:
        """Wait until the router has ended the session."""
        assert self._ask(json.dumps([_GOODBYE, {}, "wamp.close.normal"]))[0] == _GOODBYE

    def await_end(self) -> None:
        """Wait until the router has closed the connection."""
        assert self._connection.recv(1) == b""

    def register(self, uri: str) -> None:
        """Serve it, by ``take`` and ``give``."""
        self._request += 1
        assert self._ask(json.dumps([_REGISTER, self._request, {}, uri]))[0] == _REGISTERED

    def take(self) -> int:
        """The number of the next call that comes."""
        kind, number, *_ = self._next()
        assert kind == _INVOCATION
        return int(number)

    def give(self, number: int) -> None:
        """Answer it."""
        self._write(json.dumps([_YIELD, number, {}]))

    def send(
        self,
        uri: str,
        args: str = "[]",
        kwargs: str = "{}",
        options: str = '{"receive_progress":true}',
    ) -> None:
        """Begin a call, and wait for nothing."""
        self._request += 1
        self._write(f'[{_CALL},{self._request},{options},"{uri}",{args},{kwargs}]')

    def interrupt(self) -> None:
        """Cancel the call that was sent last."""
        self._write(f'[{_CANCEL},{self._request},{{"mode":"killnowait"}}]')

    def end(self, on_progress: Callable[[Any], object]) -> tuple[bool, list[Any]]:
        """As ``call``, of the one that was sent last; ``on_progress`` gets the first value of each
        progressive result.
        """
        while True:
            answer = self._next()
            done = answer[0] == _RESULT
            if not done or not answer[2].get("progress"):
                return done, answer[3 if done else 4 :]
            on_progress(answer[3][0])

    def _call(self, uri: str, args: str, kwargs: str, options: dict[str, Any]) -> list[Any]:
        self._request += 1
        told = json.dumps(options)
        answer = self._ask(f'[{_CALL},{self._request},{told},"{uri}",{args},{kwargs}]')
        assert self._request == answer[1 if answer[0] == _RESULT else 2], answer
        return answer

    def _ask(self, message: str) -> list[Any]:
        self._write(message)
        return self._next()

    def _write(self, message: str) -> None:
        body = message.encode()
        self._connection.sendall(struct.pack("!I", len(body)) + body)

    def _next(self) -> list[Any]:
        length = int.from_bytes(self._exactly(4)[1:], "big")
        message: list[Any] = json.loads(self._exactly(length))
        return message

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self._connection.recv(size - len(data))
            assert chunk, "the router closed the connection"
            data += chunk
        return bytes(data)


@contextmanager
def raw_caller(router_socket: Path, authid: str, ticket: str) -> Iterator[RawCaller]:
    """A session of this principal."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(router_socket))
        yield RawCaller(connection, authid, ticket)
