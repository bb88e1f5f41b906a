"""A client of a site's HTTP, which sends what it is told to, byte for byte."""

import base64
import gzip
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from tests.support.processes import PATIENCE


class Node(Protocol):
    """Whoever listens."""

    @property
    def port(self) -> int:
        """Of the web transport."""


class Reply(NamedTuple):
    """An answer; its headers by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body's value."""
        return json.loads(self.body)


class Client:
    """Who asks with one credential, or with none."""

    def __init__(self, node: Node, authorization: str | None = None) -> None:
        self._port = node.port
        self._headers = {} if authorization is None else {"Authorization": authorization}

    def __call__(
        self, method: str, target: str, body: Any = None, /, **headers: str | None
    ) -> Reply:
        """``body``: bytes as they are, anything else as JSON. A header's ``_`` is a dash; None
        leaves one out.
        """
        sent: dict[str, str | None] = {**self._headers}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request(
                method,
                target,
                body,
                {name: text for name, text in sent.items() if text is not None},
            )
            response = connection.getresponse()
            lines = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lines, _plain(lines, response.read()))
        finally:
            connection.close()


def as_principal(name: str, ticket: str) -> str:
    """The credential of one of the router's own principals."""
    return "Basic " + base64.b64encode(f"{name}:{ticket}".encode()).decode()


def _plain(headers: Mapping[str, str], body: bytes) -> bytes:
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
