"""POST /call over connections that stay open, signed as cron/call.sh signs."""

import base64
import hashlib
import hmac
import http.client
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from bench.taskbus_site import Site

CONNECTIONS = 16


def post_calls(site: Site, uri: str, count: int) -> None:
    """Call `uri` `count` times; return when all are answered."""
    shares = [count // CONNECTIONS + (nth < count % CONNECTIONS) for nth in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(_post, site, uri, share) for share in shares]:
            done.result()


def _post(site: Site, uri: str, count: int) -> None:
    key, secret = site.bridge()
    body = json.dumps({"procedure": uri, "args": [], "kwargs": {}}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", site.port(), timeout=60)
    headers = {"Content-Type": "application/json"}
    for _ in range(count):
        connection.request("POST", f"/call?{_signed(key, secret, body)}", body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 or b'"error"' in answer:
            raise RuntimeError(f"POST /call of {uri}: HTTP {response.status} {answer!r}")
    connection.close()


def _signed(key: str, secret: str, body: bytes) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    nonce = str(random.getrandbits(32))
    text = f"{key}{now}1{nonce}".encode() + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    signature = base64.urlsafe_b64encode(digest).decode()
    return urlencode(
        {"key": key, "timestamp": now, "seq": "1", "nonce": nonce, "signature": signature}
    )
