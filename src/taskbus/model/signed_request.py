"""Signed requests: HTTP by those who have a key and do not send it, as cron's scripts.

A request has one header more::

    Authorization: taskbus-hmac-sha256 key=<id>,time=<seconds>,nonce=<text>,signature=<hex>

The signature is HMAC-SHA256 (RFC 2104) with the whole key, as it was printed, over these lines,
with a line feed between them and none at the end::

    taskbus-hmac-sha256
    <id>
    <seconds since the epoch, a whole number>
    <nonce, 16 to 64 of A-Z, a-z, 0-9, - and _, another one for each request>
    <method, in capitals>
    <path, as it is sent>
    <query, as it is sent, without its question mark; empty where there is none>
    <SHA-256 of the body, in lower-case hex>
"""

import hashlib
import hmac
import re
from typing import NamedTuple

from taskbus.model.errors import Unauthenticated

SCHEME = "taskbus-hmac-sha256"
_FIELDS = re.compile(
    r"key=([0-9a-z]{1,32}),\s*time=([1-9][0-9]{0,11}),\s*"
    r"nonce=([A-Za-z0-9_-]{16,64}),\s*signature=([0-9a-f]{64})"
)


class Signature(NamedTuple):
    """What the header says."""

    key: str
    time: int
    nonce: str
    signature: str


class Signed(NamedTuple):
    """What is signed. ``path`` and ``query`` are as they were sent, not decoded."""

    method: str
    path: str
    query: str
    body: bytes


def parse_signature(header: str) -> Signature | None:
    """None where the header is not of this scheme; raises Unauthenticated where it is malformed."""
    scheme, _, fields = header.strip().partition(" ")
    if scheme.lower() != SCHEME:
        return None
    found = _FIELDS.fullmatch(fields.strip())
    if found is None:
        raise Unauthenticated(
            "the Authorization header is malformed",
            field="Authorization",
            remedy=f"send {SCHEME} key=...,time=...,nonce=...,signature=..., see the README",
        )
    return Signature(found[1], int(found[2]), found[3], found[4])


def sign(token: str, told: Signature, request: Signed) -> str:
    """The signature of a request, in hex; ``told.signature`` is of no importance."""
    lines = (
        SCHEME,
        told.key,
        str(told.time),
        told.nonce,
        request.method,
        request.path,
        request.query,
        hashlib.sha256(request.body).hexdigest(),
    )
    return hmac.new(token.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
