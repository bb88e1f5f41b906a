"""``python = "package.module:Name"``: a class with ``run(TaskInput)``, or a plain function."""

import importlib
import traceback
from typing import Any

from taskbus.handler import Handler
from taskbus.model.errors import TaskFailure
from taskbus.model.task import TaskInput, TaskResult, as_result


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
    if not callable(getattr(task, "run", None) if isinstance(task, type) else task):
        raise TaskFailure(f"cannot load {target}: neither a function nor a class with run")
    return _of_class(task) if isinstance(task, type) else _of_function(task)


def _of_class(cls: Any) -> Handler:
    def run(task: TaskInput) -> TaskResult:
        return as_result(cls().run(task))

    return run


def _of_function(function: Any) -> Handler:
    if _takes_task(function):
        return lambda task: as_result(function(*task.args, **task.kwargs, task=task))
    return lambda task: as_result(function(*task.args, **task.kwargs))


def _takes_task(function: Any) -> bool:
    """Whether the function has a keyword-only parameter ``task`` (``def f(a, *, task)``)."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    first = code.co_argcount
    return "task" in code.co_varnames[first : first + code.co_kwonlyargcount]
