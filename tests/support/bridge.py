"""A client of the signed HTTP bridge."""

import base64
import hashlib
import hmac
import http.client
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

from tests.support.processes import PATIENCE
from tests.support.router import BRIDGE_KEY, BRIDGE_SECRET


class Node(Protocol):
    """A router, wherever it listens."""

    @property
    def port(self) -> int:
        """Of the web transport."""


def post(
    node: Node,
    path: str,
    request: Any,
    *,
    secret: str = BRIDGE_SECRET,
    age: timedelta = timedelta(0),
    body: bytes | None = None,
    content_type: str = "application/json",
    **fields: str | None,
) -> tuple[int, Any]:
    """The bridge's status and answer; a field of None is left out. ``body`` instead of ``request``:
    those bytes. ``age``: of the timestamp.
    """
    body = json.dumps(request).encode() if body is None else body
    moment = datetime.now(UTC) - age
    signed = {
        "key": BRIDGE_KEY,
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "seq": "1",
        "nonce": "1",
    } | {name: value for name, value in fields.items() if value is not None}
    parts = [signed[name].encode() for name in ("key", "timestamp", "seq", "nonce")]
    digest = hmac.digest(secret.encode(), b"".join(parts) + body, hashlib.sha256)
    signed["signature"] = base64.urlsafe_b64encode(digest).decode()
    query = urlencode({name: signed[name] for name in signed if fields.get(name, "") is not None})
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)
    try:
        connection.request("POST", f"{path}?{query}", body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, json.load(response)
    finally:
        connection.close()
