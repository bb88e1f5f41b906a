"""``python = "package.module:Name"``: a class with ``run(TaskInput)``, or a plain function."""

import importlib
import traceback
from typing import Any

from taskbus.handler import Handler
from taskbus.model.errors import TaskFailure
from taskbus.model.task import TaskInput, TaskResult, as_result

# As `inspect` has them, which a lean forker does without: generator, coroutine, async generator.
_PAUSED = 0x20 | 0x80 | 0x200


def python_handler(target: str, _timeout: float | None) -> Handler:
    """Load the task now, so that a call does not pay for the import.

    A thread cannot be killed, so the timeout is the caller's to enforce.
    """
    module_name, _, name = target.partition(":")
    try:
        task = getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:
        raise TaskFailure(
            f"cannot load {target}: {type(error).__name__}: {error}",
            traceback=traceback.format_exc(limit=-8),
        ) from error
    code = getattr(task, "run", None) if isinstance(task, type) else task
    if not callable(code):
        raise TaskFailure(f"cannot load {target}: neither a function nor a class with run")
    if _is_paused(code):
        raise TaskFailure(
            f"cannot load {target}: it is async, or yields, so a call would not run it: "
            "run it in a function, by asyncio.run() or list()"
        )
    return _of_class(task) if isinstance(task, type) else _of_function(task)


def _of_class(cls: Any) -> Handler:
    def run(task: TaskInput) -> TaskResult:
        return as_result(cls().run(task))

    return run


def _of_function(function: Any) -> Handler:
    if _takes_task(function):
        return lambda task: as_result(function(*task.args, **task.kwargs, task=task))
    return lambda task: as_result(function(*task.args, **task.kwargs))


def _is_paused(function: Any) -> bool:
    """Whether a call makes a coroutine or a generator, of which no line has run yet."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _PAUSED)


def _takes_task(function: Any) -> bool:
    """Whether the function has a keyword-only parameter ``task`` (``def f(a, *, task)``)."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    first = code.co_argcount
    return "task" in code.co_varnames[first : first + code.co_kwonlyargcount]
