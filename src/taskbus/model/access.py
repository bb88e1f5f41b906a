"""Access keys: who may do what, proved by a secret of which the bus keeps only a digest.

A key is shown once, as ``tb_<id>_<secret>``. Its id is the authid of its sessions, the whole of it
their ticket. A scope is an action and the URIs that it is good for: ``submit:com.example.shop.*``,
``read:com.example.shop.order``, ``call:*``; ``*`` alone is every action everywhere.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskbus.model.errors import InvalidArgument
from taskbus.model.options import check_name, check_rate
from taskbus.model.uri import COMMANDS, RESERVED, check_uri, covers, in_namespace, is_pattern

CALL, SUBMIT, READ, MANAGE = "call", "submit", "read", "manage"
PUBLISH, HOOKS, METRICS, REGISTER = "publish", "hooks", "metrics", "register"
ACTIONS = (CALL, SUBMIT, READ, MANAGE, PUBLISH, HOOKS, METRICS, REGISTER)
ROLE = "key"
EVERYTHING = "*"
MOST_SCOPES = 100
LONGEST_LIFE = 10 * 366 * 86400.0

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 12
_SECRET_BYTES = 32
_ID = re.compile(f"[{_ALPHABET}]{{{_ID_LENGTH}}}")
_TOKEN = re.compile(rf"tb_({_ID.pattern})_([0-9a-f]{{{2 * _SECRET_BYTES}}})")


class Scope(NamedTuple):
    """One action, on one URI or on all below it; ``*`` for every one."""

    action: str
    pattern: str

    def allows(self, action: str, uri: str) -> bool:
        """Whether it is good for this action on this URI."""
        if self.action not in (action, EVERYTHING):
            return False
        return self.pattern == EVERYTHING or covers(self.pattern, uri)


class AccessKey(NamedTuple):
    """What is known of a key: ``digest`` is the secret's SHA-256 in hex, times are in seconds since
    the epoch. ``signing``: its requests may be signed, too (``taskbus.model.signature``).
    """

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    rate: str | None
    created: float
    expires: float | None
    signing: bool

    def is_valid(self, now: float) -> bool:
        """Whether its time is not over."""
        return self.expires is None or now < self.expires

    def is_proved(self, token: object) -> bool:
        """Whether this is the whole key; takes as long for every wrong secret."""
        found = split_token(token)
        secret = found[1] if found else ""
        is_same = hmac.compare_digest(digest_of(secret), self.digest)
        return found is not None and found[0] == self.id and is_same

    def body(self) -> dict[str, Any]:
        """As it is kept in a record that is named by its id."""
        kept = self._asdict()
        del kept["id"]
        return {**kept, "scopes": list(self.scopes)}


def new_token() -> tuple[str, str]:
    """A new key's id, and the whole key."""
    id_ = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    return id_, f"tb_{id_}_{secrets.token_hex(_SECRET_BYTES)}"


def split_token(token: object) -> tuple[str, str] | None:
    """A whole key's id and secret; None where it does not have the form of one."""
    found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    return (found[1], found[2]) if found else None


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_of(id_: str, body: Mapping[str, Any]) -> AccessKey:
    """The key that a record holds."""
    return AccessKey(**{**body, "id": id_, "scopes": tuple(body["scopes"])})


def check_key(request: Mapping[str, Any], now: float) -> AccessKey:
    """A key as somebody asks for it: ``id``, ``name``, ``digest``, ``scopes``, and where wanted
    ``rate``, ``expires`` (seconds since the epoch), ``signing``. Raises InvalidArgument.
    """
    return AccessKey(
        id=check_key_id(request.get("id")),
        name=check_name("name", request.get("name")),
        digest=_digest(request.get("digest")),
        scopes=check_scopes(request.get("scopes")),
        rate=_rate(request.get("rate")),
        created=now,
        expires=_expires(request.get("expires"), now),
        signing=_signing(request.get("signing")),
    )


def check_key_id(value: object) -> str:
    """A key's id. A whole key is refused without being told again: it is a secret."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    remedy = "send the id that 'taskbus key list' shows"
    if isinstance(value, str) and value.startswith("tb_"):
        raise InvalidArgument("id", "tb_...", "a whole key, not its id", remedy)
    raise InvalidArgument("id", value, "not a key's id", remedy)


def check_scopes(value: object) -> tuple[str, ...]:
    """One scope at least, each once."""
    if isinstance(value, (list, tuple)) and 1 <= len(value) <= MOST_SCOPES:
        for one in value:
            parse_scope(one)
        return tuple(dict.fromkeys(value))
    raise InvalidArgument(
        "scopes", value, "not a list of scopes", f'send 1 to {MOST_SCOPES}, as "call:com.x.*"'
    )


def parse_scope(text: object) -> Scope:
    """Raises InvalidArgument."""
    if text == EVERYTHING:
        return Scope(EVERYTHING, EVERYTHING)
    action, colon, pattern = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon or action not in ACTIONS:
        known = ", ".join(ACTIONS)
        raise InvalidArgument(
            "scope", text, "not a scope", f'write "action:uri", with one of {known}'
        )
    if pattern == EVERYTHING:
        return Scope(action, pattern)
    base = pattern[:-2] if is_pattern(pattern) else pattern
    # Commands are jobs that callers ask for, through the queue server.
    if is_reserved(base) and not in_namespace(f"{base}.", COMMANDS):
        remedy = "name URIs of the API map; the bus's own procedures look at those of their jobs"
        raise InvalidArgument("scope", text, "is below a reserved namespace", remedy)
    try:
        check_uri(base)
    except InvalidArgument:
        remedy = f'write "{action}:com.example.shop.*", "{action}:com.example.shop.x", "{action}:*"'
        raise InvalidArgument("scope", text, "not an action on a URI", remedy) from None
    return Scope(action, pattern)


def scopes_of(key: AccessKey) -> tuple[Scope, ...]:
    """What the key is good for."""
    return tuple(parse_scope(one) for one in key.scopes)


def is_reserved(uri: str) -> bool:
    """Whether a URI is the router's or the bus's own."""
    return uri.split(".")[0] in RESERVED


def describe(key: AccessKey) -> dict[str, Any]:
    """The key as it is shown: without its digest."""
    shown: Mapping[str, Any] = {**key._asdict(), "scopes": list(key.scopes)}
    return {name: value for name, value in shown.items() if name != "digest"}


def _digest(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return value
    # What was sent in its place may be the secret.
    raise InvalidArgument("digest", "...", "not a SHA-256", "send 64 hexadecimal digits")


def _rate(value: Any) -> str | None:
    if value is not None:
        check_rate(value)
    return None if value is None else str(value)


def _expires(value: object, now: float) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and now < value <= now + LONGEST_LIFE:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise InvalidArgument(
        "expires", value, "not a time to come", "send seconds since the epoch, within ten years"
    )


def _signing(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidArgument("signing", value, "not true or false", "send true or false")


def patterns_for(scopes: Sequence[Scope], action: str) -> list[str]:
    """The patterns on which some scope allows this action; ``*`` alone where that is among them."""
    found = [one.pattern for one in scopes if one.action in (action, EVERYTHING)]
    return [EVERYTHING] if EVERYTHING in found else list(dict.fromkeys(found))
