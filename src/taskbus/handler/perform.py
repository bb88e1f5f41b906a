"""Run a handler and say how it ended, always as JSON: what a child reports, a caller reads."""

import json
import signal
import traceback
from typing import Any, NamedTuple

from taskbus.handler import Handler
from taskbus.model.errors import InvalidResult, TaskbusError, TaskFailure
from taskbus.model.json import dump
from taskbus.model.task import TaskInput

_LONGEST_TRACE = 8000


class Outcome(NamedTuple):
    """``body`` is ``{"args": [...], "kwargs": {...}}`` or what ``failure`` returns, as JSON."""

    ok: bool
    body: str


def perform(handler: Handler, task: TaskInput) -> Outcome:
    """Run the task; whatever it raises becomes a failed outcome."""
    try:
        result = handler(task)
        try:
            return Outcome(True, dump({"args": result.args, "kwargs": result.kwargs}))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidResult(
                f"the result is not JSON: {error}", remedy="return JSON values"
            ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - its own words are the outcome
        return Outcome(False, failure_text(error))


def signal_name(number: int) -> str:
    """As ``SIGKILL``; a real-time signal has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure_text(error: BaseException) -> str:
    """An error as JSON text; what JSON cannot carry is shown as text."""
    return json.dumps(failure(error), separators=(",", ":"), default=repr)


def failure(error: BaseException) -> dict[str, Any]:
    """An error as JSON: ``{"error": uri, "message": str, "about": {...}, "traceback": str}``."""
    if isinstance(error, TaskbusError):
        told: dict[str, Any] = {"error": error.uri, "message": error.message}
        about: dict[str, Any] = error.about
    else:
        told = {"error": TaskFailure.uri, "message": f"{type(error).__name__}: {error}"}
        about = {"type": type(error).__name__}
    trace = about.get("traceback") or "".join(traceback.format_exception(error))
    about = {key: value for key, value in about.items() if key != "traceback"}
    return told | {"about": about, "traceback": trace[-_LONGEST_TRACE:]}
