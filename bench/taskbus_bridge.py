"""POST /call over connections that stay open, signed as cron/call.sh signs.

One thread keeps all connections busy and reads no more of an answer than it must: the callers
share the machine with what they measure.
"""

import base64
import hashlib
import hmac
import json
import random
import selectors
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlencode

from bench.taskbus_site import Site

CONNECTIONS = 16
_SECONDS = 60


def post_calls(site: Site, uri: str, count: int) -> None:
    """Call `uri` `count` times; return when all are answered."""
    key, secret = site.bridge()
    body = json.dumps({"procedure": uri, "args": [], "kwargs": {}}).encode()
    left = (_request(key, secret, body) for _ in range(count))
    with selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", site.port()), timeout=_SECONDS)
            selector.register(connection, selectors.EVENT_READ, bytearray())
            _send_next(selector, connection, left)
        while selector.get_map():
            ready = selector.select(_SECONDS)
            if not ready:
                raise RuntimeError(f"POST /call of {uri}: no answer within {_SECONDS} s")
            for connected, _ in ready:
                _receive(selector, connected, left)


def _send_next(
    selector: selectors.BaseSelector, connection: socket.socket, left: Iterator[bytes]
) -> None:
    request = next(left, None)
    if request is None:
        selector.unregister(connection)
        connection.close()
    else:
        connection.sendall(request)


def _receive(
    selector: selectors.BaseSelector, connected: selectors.SelectorKey, left: Iterator[bytes]
) -> None:
    connection, answer = connected.fileobj, connected.data
    assert isinstance(connection, socket.socket)
    answer += connection.recv(65536) or b"closed"
    if _is_whole(answer):
        answer.clear()
        _send_next(selector, connection, left)


def _is_whole(answer: bytearray) -> bool:
    """Whether the response, which Crossbar sends in chunks, is complete; raises RuntimeError when
    it is not a call's result.
    """
    if not answer.startswith(b"HTTP/1.1 200 ") or b'"error"' in answer:
        raise RuntimeError(f"POST /call: {bytes(answer)!r}")
    return answer.endswith(b"\r\n0\r\n\r\n")


def _request(key: str, secret: str, body: bytes) -> bytes:
    head = (
        f"POST /call?{_signed(key, secret, body)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _signed(key: str, secret: str, body: bytes) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    nonce = str(random.getrandbits(32))
    text = f"{key}{now}1{nonce}".encode() + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    signature = base64.urlsafe_b64encode(digest).decode()
    return urlencode(
        {"key": key, "timestamp": now, "seq": "1", "nonce": nonce, "signature": signature}
    )
