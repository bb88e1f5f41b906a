"""Signatures of webhooks, as Standard Webhooks has them.

``v1,`` and the base64 of an HMAC-SHA256 over ``id.timestamp.body``; several, with blanks between
them, while a secret is replaced by another one. A secret is ``whsec_`` and the base64 of its bytes.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

from taskbus.model.errors import InvalidArgument

_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES, _FRESH_BYTES = 24, 64, 32


def new_secret() -> str:
    """A secret that nobody knows yet."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_FRESH_BYTES)).decode()


def check_secret(value: Any, field: str = "secret") -> str:
    """The secret itself, or InvalidArgument, which does not show it."""
    try:
        size = len(_key(value)) if isinstance(value, str) and value.startswith(_PREFIX) else 0
    except (ValueError, binascii.Error):
        size = 0
    if _LEAST_BYTES <= size <= _MOST_BYTES:
        return str(value)
    raise InvalidArgument(
        field,
        "not shown",
        "not a secret",
        f"send {_PREFIX} and the base64 of {_LEAST_BYTES} to {_MOST_BYTES} random bytes, or leave "
        "it out and one is made",
    )


def sign(keys: Sequence[str], message: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``, with one signature for each of these secrets."""
    signed = f"{message}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(_key(key), signed, "sha256")).decode() for key in keys
    )


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
