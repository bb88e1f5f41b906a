"""Run a handler and say how it ended, always as JSON: what a child reports, a caller reads."""

import signal
import traceback
from typing import Any, NamedTuple

from taskbus.handler import Handler
from taskbus.model.errors import TaskbusError, TaskFailure, shown
from taskbus.model.json import dump, dump_result
from taskbus.model.portable import RESERVED_IN_ERRORS, is_portable, portable_text
from taskbus.model.task import TaskInput
from taskbus.model.uri import is_loose_uri

_LONGEST_TEXT = 8000
_LONGEST_FAILURE = 65536


class Outcome(NamedTuple):
    """``body`` is ``{"args": [...], "kwargs": {...}}`` or what ``failure`` returns, as JSON."""

    ok: bool
    body: str


def perform(handler: Handler, task: TaskInput) -> Outcome:
    """Run the task; whatever it raises becomes a failed outcome."""
    return Outcome(*perform_bare(handler, task))


def perform_bare(handler: Handler, task: TaskInput) -> tuple[bool, str]:
    """An Outcome's parts: a child, to which every page that it touches is copied, has no use for
    the whole.
    """
    try:
        result = handler(task)
        return True, dump_result(result.args, result.kwargs)
    except BaseException as error:  # noqa: BLE001 - its own words are the outcome
        return False, failure_text(error)


def signal_name(number: int) -> str:
    """As ``SIGKILL``; a real-time signal has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure_text(error: BaseException) -> str:
    """An error as JSON text; what cannot be sent is shown as text."""
    told = failure(error)
    text = dump(told)
    if len(text) > _LONGEST_FAILURE:
        text = dump(told | {"about": {key: shown(value) for key, value in told["about"].items()}})
    return text


def _keyword(name: str) -> str:
    """A name under which an error can carry something."""
    return f"{name}_" if name in RESERVED_IN_ERRORS else portable_text(name)


def _own_words(error: BaseException) -> tuple[str, str, dict[str, Any]]:
    """URI, message and about."""
    if isinstance(error, TaskbusError):
        return error.uri, str(error.message), error.about
    name = type(error).__name__
    return TaskFailure.uri, f"{name}: {error}", {"type": name}


def failure(error: BaseException) -> dict[str, Any]:
    """An error as JSON: ``{"error": uri, "message": str, "about": {...}, "traceback": str}``."""
    name = type(error).__name__
    try:
        uri, message, about = _own_words(error)
    except Exception:  # noqa: BLE001 - the error's class is the task's own, and may be faulty
        uri, message, about = TaskFailure.uri, f"{name}: it cannot be shown", {"type": name}
    trace = str(about.get("traceback") or "".join(traceback.format_exception(error)))
    if not is_loose_uri(uri):
        uri, about = TaskFailure.uri, about | {"error_uri": uri}
    return {
        "error": uri,
        "message": portable_text(message[:_LONGEST_TEXT]),
        "about": {
            _keyword(key): value if is_portable(value) else shown(value)
            for key, value in about.items()
            if key != "traceback"
        },
        "traceback": portable_text(trace[-_LONGEST_TEXT:]),
    }
