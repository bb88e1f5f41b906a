"""A client of Server-Sent Events, as a browser's EventSource reads them."""

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.processes import PATIENCE
from tests.support.web import Node


class Refused(Exception):
    """The answer is no stream; ``status`` and ``body``."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status = status
        # While the router starts it answers with a page of its own.
        self.told = json.loads(body) if body.startswith(b"{") else {}


class Event(NamedTuple):
    """What a listener gets; ``id`` stays until another one is sent."""

    name: str
    id: str
    data: Any


class EventStream:
    """An open stream; to iterate over it is to read it to its end."""

    def __init__(
        self, node: Node, target: str, token: str, last: int | None = None, **headers: str
    ) -> None:
        """``last``: the id of the last event that was got earlier. Raises Refused."""
        sent = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream", **headers}
        if last is not None:
            sent["Last-Event-ID"] = str(last)
        self._connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)
        self._connection.request("GET", target, headers=sent)
        assert self._connection.sock is not None
        self._socket: socket.socket = self._connection.sock
        self._response = self._connection.getresponse()
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in self._response.getheaders()
        }
        if self._response.status != 200:
            body = self._response.read()
            self._connection.close()
            raise Refused(self._response.status, body)

    def __iter__(self) -> Iterator[Event]:
        name, id_, lines = "message", "", list[str]()
        deadline = time.monotonic() + PATIENCE
        while line := self._response.readline().decode():
            # Its heart beats for ever.
            assert time.monotonic() < deadline, "no event comes"
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                id_ = value
            elif field == "data":
                lines.append(value)
            elif not field and lines:
                yield Event(name, id_, json.loads("\n".join(lines)))
                name, lines = "message", []
                deadline = time.monotonic() + PATIENCE

    def read(self) -> bytes:
        """All that comes, as it is."""
        return self._response.read()

    def hang_up(self) -> None:
        """Without a word."""
        self._socket.close()
        self._response.close()
        self._connection.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
