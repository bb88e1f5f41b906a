"""POST /call, signed as cron/call.sh signs."""

import base64
import hashlib
import hmac
import json
import random
import time
from urllib.parse import urlencode

from bench.load import Load, load
from bench.taskbus_site import Site


def post_calls(site: Site, uri: str, count: int) -> Load:
    """Call `uri` `count` times; return when all are answered."""
    key, secret = site.bridge()
    body = json.dumps({"procedure": uri, "args": [], "kwargs": {}}).encode()
    return load(site.port(), (_request(key, secret, body) for _ in range(count)))


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
