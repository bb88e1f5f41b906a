"""An HTTP answer as a result or an error. Lean: the forker imports this.

An error comes in the contract's shape (``taskbus.handler.contract``), as application/problem+json,
or as a bare status; ``retry_after`` is what the header said, in seconds.
"""

import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from http.client import HTTPMessage
from typing import Any, NamedTuple

from taskbus.handler.contract import answer
from taskbus.model.errors import HttpFailure, InvalidResult, TaskFailure
from taskbus.model.json import load
from taskbus.model.task import TaskResult
from taskbus.model.uri import is_loose_uri

_OK = 200
_REDIRECTS = range(300, 400)
_URN = "urn:wamp:"
_SHOWN = 200


class Heard(NamedTuple):
    """One answer."""

    status: int
    headers: HTTPMessage
    body: bytes


def judge(heard: Heard, source: str, plain: bool) -> TaskResult:
    """The result; raises TaskFailure. ``source``: the target's name in messages. ``plain``: it does
    not speak the contract, any 2xx is a success and any JSON the result.
    """
    try:
        if plain and heard.status in range(200, 300):
            return _plain(heard.body, source)
        if not plain and heard.status == _OK:
            return answer(heard.body, source)
        raise _failure(heard, source, plain)
    except TaskFailure as failed:
        seconds = _retry_after(heard.headers.get("Retry-After"))
        if seconds is not None:
            failed.about["retry_after"] = seconds
        raise


def media_type(headers: HTTPMessage) -> str:
    """Of what kind the answer is, as ``application/json``; empty where that is not said."""
    return str(headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _plain(body: bytes, source: str) -> TaskResult:
    if not body.strip():
        return TaskResult()
    try:
        return TaskResult(load(body))
    except (ValueError, RecursionError) as error:
        raise InvalidResult(
            f"the answer of {source} is not JSON ({error})", value=_start(body)
        ) from None


def _failure(heard: Heard, source: str, plain: bool) -> TaskFailure:
    if media_type(heard.headers) == "application/problem+json":
        if problem := _problem(heard, source):
            return problem
    elif not plain:
        try:
            answer(heard.body, source)
        except InvalidResult:
            pass
        except TaskFailure as said:
            return said
    words = f"{source} answered HTTP {heard.status}"
    if heard.status in _REDIRECTS:
        words += f", a redirect to {heard.headers.get('Location')}, which is not followed"
    elif text := _start(heard.body):
        words += f": {text}"
    return HttpFailure(words, heard.status)


def _problem(heard: Heard, source: str) -> TaskFailure | None:
    try:
        members: Any = load(heard.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    words = [members[name] for name in ("detail", "title") if isinstance(members.get(name), str)]
    about = {name: members[name] for name in ("field", "value", "remedy") if name in members}
    return HttpFailure(
        words[0] if words else f"{source} answered HTTP {heard.status}",
        heard.status,
        error_uri=_error_uri(members),
        problem=members,
        **about,
    )


def _error_uri(members: Mapping[str, Any]) -> str | None:
    """The WAMP error that a problem names."""
    kind = members.get("type")
    urn = kind.removeprefix(_URN) if isinstance(kind, str) and kind.startswith(_URN) else None
    named = (one for one in (members.get("error"), urn) if is_loose_uri(one) and "." in str(one))
    return next(named, None)


def _retry_after(text: str | None) -> float | None:
    """Seconds, of a number or a date."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    date = parsedate_tz(text)
    try:
        return None if date is None else max(0.0, mktime_tz(date) - time.time())
    except (ValueError, OverflowError):
        return None  # No calendar has that day.


def _start(body: bytes) -> str:
    return body[:_SHOWN].decode(errors="replace")
