"""Errors over HTTP: ``application/problem+json`` (RFC 9457) with the WAMP error in it."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil, isfinite
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import CancelledError

from taskbus.model.errors import TaskbusError, shown
from taskbus.model.portable import is_portable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Seconds after which it is worth to ask again.
_AGAIN = {429: 1, 503: 2}
# What a service that was called has answered, by its own status.
_OF_A_SERVICE = "taskbus.error.http"
_STATUS = {
    "taskbus.error.invalid_argument": 400,
    "taskbus.error.unauthenticated": 401,
    "taskbus.error.stale_signature": 401,
    "taskbus.error.forbidden": 403,
    "taskbus.error.topic_not_exposed": 403,
    "taskbus.error.unknown_uri": 404,
    "taskbus.error.hook_not_found": 404,
    "taskbus.error.key_not_found": 404,
    "taskbus.error.no_such_path": 404,
    "taskbus.error.job_not_found": 404,
    "taskbus.error.hook_changed": 409,
    "taskbus.error.no_such_method": 405,
    "taskbus.error.key_taken": 409,
    "taskbus.error.not_unique": 409,
    "taskbus.error.job_ended": 409,
    "taskbus.error.not_replayable": 409,
    "taskbus.error.not_runnable": 409,
    "taskbus.error.not_reporting": 409,
    "taskbus.error.cancelled": 410,
    "taskbus.error.job_changed": 412,
    "taskbus.error.too_large": 413,
    "taskbus.error.unsupported_media": 415,
    "taskbus.error.address_forbidden": 422,
    "taskbus.error.idempotency_mismatch": 422,
    "taskbus.error.rate_limited": 429,
    "taskbus.error.invalid_result": 502,
    "taskbus.error.handler_unreachable": 502,
    "taskbus.error.unsendable": 502,
    "taskbus.error.target_busy": 503,
    "taskbus.error.store_unavailable": 503,
    "taskbus.error.queue_unavailable": 503,
    "taskbus.error.stopped": 503,
    "taskbus.error.unreachable": 503,
    "taskbus.error.timeout": 504,
    "taskbus.error.wait_timeout": 504,
    "wamp.error.invalid_argument": 400,
    "wamp.error.invalid_uri": 400,
    "wamp.error.not_authorized": 403,
    "wamp.error.no_such_procedure": 404,
    "wamp.error.canceled": 503,
    "wamp.error.payload_size_exceeded": 413,
}


class HttpError(TaskbusError):
    """What only HTTP knows as an error; ``headers`` go with the answer."""

    def __init__(
        self, message: str, headers: Mapping[str, str] | None = None, **about: Any
    ) -> None:
        super().__init__(message, **about)
        self.headers = dict(headers or {})


class NoSuchPath(HttpError):
    """No route has this path."""

    uri = "taskbus.error.no_such_path"


class NoSuchMethod(HttpError):
    """The path has no such method."""

    uri = "taskbus.error.no_such_method"


class TooLarge(HttpError):
    """The body is larger than the settings allow."""

    uri = "taskbus.error.too_large"


class UnsupportedMedia(HttpError):
    """The body is of a kind that the route does not take."""

    uri = "taskbus.error.unsupported_media"


def as_error(error: BaseException) -> tuple[str, str, Mapping[str, Any]]:
    """WAMP error URI, message, and what is known about it."""
    if isinstance(error, TaskbusError):
        return error.uri, error.message, error.about
    if isinstance(error, TransportLost):
        error = ApplicationError("taskbus.error.unreachable", "the router was lost")
    elif isinstance(error, CancelledError):
        error = ApplicationError("wamp.error.canceled", "the call was canceled")
    if not isinstance(error, ApplicationError):
        # What exactly, is for the log: a stranger may have caused it to find out about us.
        log.error("unexpected error", exc_info=error)
        return TaskbusError.uri, "an unexpected error; the gateway's log has it", {}
    message = str(error.args[0]) if error.args else error.error
    # That of a component of one's own may have bytes in it, for example.
    about = {
        name: value if is_portable(value) else shown(value)
        for name, value in (error.kwargs or {}).items()
    }
    return error.error, message, about


def status_of(uri: str) -> int:
    """The HTTP status of a WAMP error: what a task itself has refused is the caller's to mend."""
    if uri in _STATUS:
        return _STATUS[uri]
    if uri == _OF_A_SERVICE or uri.startswith(f"{_OF_A_SERVICE}."):
        return 502
    return 500 if uri.startswith(("taskbus.", "wamp.", "crossbar.")) else 422


def problem(
    uri: str, message: str, about: Mapping[str, Any], request_id: str, status: int | None = None
) -> dict[str, Any]:
    """The body; what else the error says of itself is in ``about``."""
    status = status_of(uri) if status is None else status
    told: dict[str, Any] = {
        "type": f"urn:wamp:{uri}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "error": uri,
    }
    known = ("field", "value", "remedy")
    for name in known:
        if about.get(name) is not None:
            told[name] = shown(about[name]) if name == "value" else about[name]
    if more := {name: value for name, value in about.items() if name not in known}:
        told["about"] = more
    return told | {"request_id": request_id}


def problem_headers(status: int, about: Mapping[str, Any]) -> dict[str, str]:
    """The headers that go with such an answer."""
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="taskbus"'
    again = about.get("retry_after")
    # It may be a task's own word, and so anything.
    if isinstance(again, bool) or not isinstance(again, (int, float)) or not isfinite(again):
        again = _AGAIN.get(status)
    if again is not None:
        headers["Retry-After"] = str(max(1, ceil(again)))
    return headers
