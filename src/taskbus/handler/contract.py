"""What the bus and a handler in another language say to each other, as JSON.

To the handler: ``{"uri": str, "args": [...], "kwargs": {...}, "details": {...}}``.
Back: ``{"args": [...], "kwargs": {...}}`` (either may be missing), or an error,
``{"error": "com.example.error.name", "args": ["message"], "kwargs": {...}}``, whose ``kwargs`` are
what its caller is told about it.
"""

from typing import Any

from taskbus.model.errors import InvalidResult, TaskFailure
from taskbus.model.json import dump, load
from taskbus.model.portable import LARGEST_RESULT as LARGEST_ANSWER
from taskbus.model.task import TaskInput, TaskResult

__all__ = ["LARGEST_ANSWER", "answer", "request"]


def request(task: TaskInput) -> bytes:
    """The call as the handler reads it."""
    return dump(
        {"uri": task.uri, "args": task.args, "kwargs": task.kwargs, "details": task.details}
    ).encode()


def answer(body: bytes, source: str) -> TaskResult:
    """The handler's answer; raises TaskFailure for its error, InvalidResult for anything else."""
    try:
        value: Any = load(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _invalid(source, f"is not JSON ({error})", body) from None
    if not isinstance(value, dict) or not value.keys() <= {"args", "kwargs", "error"}:
        raise _invalid(source, "is not an object of args and kwargs", body)
    args, kwargs = value.get("args", []), value.get("kwargs", {})
    # PHP writes an empty map as a list.
    kwargs = {} if kwargs == [] else kwargs
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise _invalid(source, "needs args as a list and kwargs as an object", body)
    if "error" in value:
        raise _failure(str(value["error"]), args, kwargs, source)
    return TaskResult(*args, **kwargs)


def _failure(uri: str, args: list[Any], kwargs: dict[str, Any], source: str) -> TaskFailure:
    """The same as if a Python task had raised it; what follows the message is its ``args``."""
    message, *further = args or [f"{source} answered an error"]
    failure = TaskFailure(str(message), error_uri=uri)
    failure.about = ({"args": further} if further else {}) | kwargs
    return failure


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON value")


def _invalid(source: str, problem: str, body: bytes) -> InvalidResult:
    return InvalidResult(
        f"the answer of {source} {problem}",
        value=body[:200].decode(errors="replace"),
        remedy='answer {"args": [...], "kwargs": {...}}',
    )
