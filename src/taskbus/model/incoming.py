"""Incoming webhooks: how their sender proves itself, and what becomes of them.

``standard`` is Standard Webhooks: several signatures, and a time that they hold for. ``github``
signs the body alone: who has seen a delivery can send it again, under another id, too.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from taskbus.model.errors import ConfigError, InvalidArgument, TaskbusError
from taskbus.model.options import LONGEST_NAME
from taskbus.model.uri import check_uri

GITHUB, STANDARD = "github", "standard"
TOLERANCE = 300.0
_PREFIX = "whsec_"
_TIME = re.compile(r"[0-9]{1,12}")
_ID = re.compile(r"[!-~]{1,200}")


class Incoming(NamedTuple):
    """``POST /in/NAME``: verified by ``verify`` with the secrets in a file, one a line; then a job
    of the URI ``submit``, or an event of the topic ``publish``; the other one is empty.
    """

    name: str
    verify: str
    secret_file: Path
    submit: str = ""
    publish: str = ""


class Delivery(NamedTuple):
    """One webhook, proved. Sent again it has the same id."""

    id: str
    event: str

    def key(self, name: str) -> str:
        """The idempotency key of its job."""
        key = f"{name}:{self.id}"
        # A digest has no colon.
        return key if len(key) <= LONGEST_NAME else hashlib.sha256(key.encode()).hexdigest()


class BadSignature(TaskbusError):
    """The sender does not prove that it knows the secret."""

    uri = "taskbus.error.unauthenticated"


def check_incoming(name: str, said: Mapping[str, Any]) -> Incoming:
    """A webhook as the settings have it, each value checked by itself; raises InvalidArgument."""
    for needed in ("verify", "secret_file"):
        if needed not in said:
            raise InvalidArgument(needed, None, "missing", f"write {needed} = ...")
    if ("submit" in said) == ("publish" in said):
        remedy = 'write either submit = "com.example.x" or publish = "com.example.topic"'
        raise InvalidArgument("submit", said.get("submit"), "not one target", remedy)
    return Incoming(name, **said)


def check_verify(value: Any) -> str:
    """How the sender proves itself."""
    if value in (GITHUB, STANDARD):
        return str(value)
    raise InvalidArgument("verify", value, "not a way to verify", f"use {GITHUB} or {STANDARD}")


def check_target(value: Any) -> str:
    """A URI or a topic that is not the bus' own."""
    uri = check_uri(value)
    if uri.startswith(("taskbus.", "wamp.", "crossbar.")):
        raise InvalidArgument("uri", uri, "one of the bus itself", "name one of the API map's")
    return uri


def read_secrets(webhook: Incoming, text: str) -> tuple[str, ...]:
    """The secrets in its file, of one that is being replaced the old and the new one; raises
    ConfigError, which shows none of them.
    """
    secrets = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not secrets or not all(_is_secret(webhook.verify, one) for one in secrets):
        example = f"{_PREFIX}..., as its sender shows it" if webhook.verify == STANDARD else "it"
        problem = f"no secret of [incoming.{webhook.name}], or something else"
        raise ConfigError(str(webhook.secret_file), None, problem, f"write {example}, one a line")
    return secrets


def verified(
    verify: str, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float
) -> Delivery:
    """What was delivered; ``headers`` by lower-case name. Raises BadSignature; InvalidArgument
    where what is proved has no id.
    """
    if verify == GITHUB:
        return _github(secrets, headers, body)
    return _standard(secrets, headers, body, now)


def _standard(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float
) -> Delivery:
    id_, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(id_) or not _TIME.fullmatch(time):
        raise _refused("webhook-id or webhook-timestamp is missing, or none", "webhook-id")
    if abs(now - int(time)) > TOLERANCE:
        raise _refused(f"signed more than {TOLERANCE:g} seconds ago, or ahead", "webhook-timestamp")
    signed = f"{id_}.{time}.".encode() + body
    wanted = [
        b"v1," + base64.b64encode(hmac.digest(_bytes(one), signed, "sha256")) for one in secrets
    ]
    sent = headers.get("webhook-signature", "").encode(errors="replace").split()
    if not _is_any(sent, wanted):
        raise _refused("no signature fits", "webhook-signature")
    return Delivery(id_, "")


def _github(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> Delivery:
    name = "x-hub-signature-256"
    wanted = [
        b"sha256=" + hmac.digest(one.encode(), body, "sha256").hex().encode() for one in secrets
    ]
    if not _is_any([headers.get(name, "").encode(errors="replace")], wanted):
        raise _refused("the signature is missing, or does not fit", name)
    id_, event = headers.get("x-github-delivery", ""), headers.get("x-github-event", "")
    if not _ID.fullmatch(id_):
        raise InvalidArgument("x-github-delivery", id_, "no delivery id", "send 1 to 200 letters")
    return Delivery(id_, event[:LONGEST_NAME])


def _is_any(sent: Sequence[bytes], wanted: Sequence[bytes]) -> bool:
    # Each with each, so that the time tells nothing of which was nearly right.
    return any([hmac.compare_digest(one, other) for one in sent for other in wanted])  # noqa: C419


def _refused(problem: str, header: str) -> BadSignature:
    return BadSignature(
        f"this webhook does not prove who sends it: {problem}",
        field=header,
        remedy="sign it with the secret that both sides have",
    )


def _is_secret(verify: str, text: str) -> bool:
    try:
        return verify == GITHUB or len(_bytes(text)) > 0
    except (ValueError, binascii.Error):
        return False


def _bytes(secret: str) -> bytes:
    text = secret.removeprefix(_PREFIX)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
