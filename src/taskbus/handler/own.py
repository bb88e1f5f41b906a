"""A task of the bus' own: a function of the TaskInput, and of what the settings give it."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from taskbus.handler import Handler
from taskbus.model.json import load
from taskbus.model.task import TaskInput, TaskResult, as_result


def own_handler(target: Sequence[str], _timeout: float | None) -> Handler:
    """``target``: ``"package.module:function"``, and keyword arguments as JSON."""
    place, given_text = target
    module, _, name = place.partition(":")
    function: Any = getattr(import_module(module), name)
    given = load(given_text)

    def run(task: TaskInput) -> TaskResult:
        return as_result(function(task, **given))

    return run
