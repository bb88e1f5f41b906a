"""Deliver one event to one endpoint: signed as Standard Webhooks has it, and judged by its answer.

What each attempt found is a line of JSON in the job's output.
"""

import ssl
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from taskbus.handler.egress import Egress
from taskbus.model.errors import TaskFailure
from taskbus.model.json import dump
from taskbus.model.portable import portable_text
from taskbus.model.task import TaskInput, TaskResult
from taskbus.model.webhook import FAILED, GONE, THROTTLED, message
from taskbus.model.webhook_signature import sign
from taskbus.task.post import Reply, post

LONGEST_PAUSE = 24 * 3600.0
_GONE = 410
_SLOW_DOWN = frozenset({429, 502, 504})
_SHOWN = 300

# Made once, before the forks: reading the authorities takes longer than a delivery.
_tls = ssl.create_default_context()


def deliver(task: TaskInput, allow: Sequence[str] = (), seconds: float = 15.0) -> TaskResult:
    """``task.kwargs``: the ``endpoint``'s name and the ``event``; ``enclosed`` in the details: its
    ``url`` and ``secrets``, which are not stored with the job. ``allow``: see Egress.
    """
    letter, event = task.details["enclosed"], task.kwargs["event"]
    happened = datetime.fromtimestamp(task.details["context"]["timestamp"], UTC)
    body = message(event, happened.isoformat().replace("+00:00", "Z"))
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "taskbus",
        "Connection": "close",
        "webhook-id": event["id"],
        "webhook-timestamp": str(now),
        "webhook-signature": sign(letter["secrets"], event["id"], now, body),
        # The trace that the event belongs to, where its sender has told one.
        **task.details.get("trace", {}),
    }
    began = time.monotonic()
    found: dict[str, Any] = {"attempt": task.details.get("attempt")}
    try:
        reply = post(letter["url"], headers, body, Egress(allow), _tls, seconds)
        found |= {"status": reply.status, "response": _shown(reply.excerpt)}
        judge(reply, time.time())
    except TaskFailure as error:
        found |= {"error": error.uri, "message": error.message}
        raise
    finally:
        found["ms"] = round((time.monotonic() - began) * 1000)
        sys.stdout.write(dump(found) + "\n")
    return TaskResult(status=reply.status, ms=found["ms"])


def judge(reply: Reply, now: float) -> None:
    """Raises TaskFailure for everything but success: a redirect is followed by nobody."""
    status = reply.status
    if 200 <= status < 300:
        return
    if status == _GONE:
        raise TaskFailure("the endpoint is gone: HTTP 410", error_uri=GONE, status=status)
    raise TaskFailure(
        f"the endpoint answered HTTP {status}",
        error_uri=THROTTLED if status in _SLOW_DOWN else FAILED,
        status=status,
        retry_after=pause(reply.retry_after, now),
    )


def pause(header: str | None, now: float) -> float | None:
    """The seconds that a ``Retry-After`` asks for, a day at most; None where there is none."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_PAUSE)


def _shown(excerpt: bytes) -> str:
    return portable_text(excerpt.decode(errors="replace")[:_SHOWN])
