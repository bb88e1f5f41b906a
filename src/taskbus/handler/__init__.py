"""How a task's code is called: python, php, exec or http, each ``(TaskInput) -> TaskResult``.

The same handlers run in the backend's threads (foreground) and in a worker's child (background).
Standard library only, and each kind is imported only when the API map uses it: the forker imports
this package, and what it imports makes every fork slower.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from taskbus.model.task import TaskInput, TaskResult

Handler = Callable[[TaskInput], TaskResult]

# kind -> (module, function of the target and the timeout in seconds or None)
_KINDS = {
    "python": ("taskbus.handler.python", "python_handler"),
    "exec": ("taskbus.handler.exec", "exec_handler"),
    "php": ("taskbus.handler.php", "php_handler"),
    "http": ("taskbus.handler.http", "http_handler"),
    # Not for the API map: see ``taskbus.model.builtin``.
    "own": ("taskbus.handler.own", "own_handler"),
}


def build(spec: Mapping[str, Any], timeout: float | None) -> Handler:
    """The handler that a spec (``Entry.handler``) names.

    ``timeout``: seconds that it enforces itself, None where the caller kills the process instead.
    Raises TaskFailure where the code cannot be loaded.
    """
    module, function = _KINDS[spec["kind"]]
    made: Handler = getattr(import_module(module), function)(spec["target"], timeout)
    return made
