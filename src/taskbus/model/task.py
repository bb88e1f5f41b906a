"""What a task is given and what it gives back. Lean: the forker imports this."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskbus.model.portable import portable_text

if TYPE_CHECKING:
    from taskbus.model.leash import Leash

MOST_WARNINGS = 100
_LONGEST_MESSAGE = 1000


def _silent(*_words: Any) -> None:
    return None


class TaskInput:
    """One call of a task.

    ``uri``: the URI that was called. ``args``, ``kwargs``: as the caller sent them (JSON values).
    ``details``: who called and how, ``{"caller_authid": str, "caller_authrole": str, ...}``; for a
    background job also ``"job"`` (its id) and ``"attempt"`` (1 for the first).
    """

    __slots__ = ("_progress", "_warn", "args", "details", "kwargs", "leash", "uri")

    def __init__(
        self,
        uri: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
        progress: Callable[[float, str], None] = _silent,
        warn: Callable[[str], None] = _silent,
        leash: "Leash | None" = None,
    ) -> None:
        self.uri = uri
        self.args = list(args)
        self.kwargs = dict(kwargs or {})
        self.details = dict(details or {})
        self._progress = progress
        self._warn = warn
        # For handlers: where somebody may want to end the call in this thread.
        self.leash = leash

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell whoever watches how far the task is: ``fraction`` from 0.0 to 1.0; a long message
        keeps its start.
        """
        told = portable_text(str(message)[:_LONGEST_MESSAGE])
        self._progress(min(1.0, max(0.0, float(fraction))), told)

    def warn(self, message: str) -> None:
        """Note something odd that is no failure: in the job's journal, up to MOST_WARNINGS, or in
        the backend's log; a long message keeps its start.
        """
        self._warn(portable_text(str(message)[:_LONGEST_MESSAGE]))


class TaskResult:
    """What a task returns: positional and keyword results (JSON values), as WAMP has them."""

    __slots__ = ("args", "kwargs")

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        self.args = list(args)
        self.kwargs = kwargs


def as_result(value: Any) -> TaskResult:
    """A plain return value becomes the single positional result."""
    # Most tasks return None, which need not be looked at more closely.
    is_plain = value is None or not isinstance(value, TaskResult)
    return TaskResult(value) if is_plain else value
