"""The bus' own tasks: jobs like all others, but no caller can name them.

Their code is in ``taskbus.task``: functions of a TaskInput, and of what the settings give them.
"""

from collections.abc import Mapping
from typing import Any

from taskbus.model.apimap import Entry
from taskbus.model.json import dump
from taskbus.model.settings import Settings
from taskbus.model.uri import COMMANDS

OWN = "own"
HTTP_COMMAND, EXEC_COMMAND = f"{COMMANDS}.http", f"{COMMANDS}.exec"


def built_in(settings: Settings) -> tuple[Entry, ...]:
    """The entries of those that these settings ask for: workers load no others."""
    return _commands(settings) if settings.queue_server else ()


def _commands(settings: Settings) -> tuple[Entry, ...]:
    queue = settings.queue_server_queue
    allow, programs = settings.queue_server_allow, settings.queue_server_exec
    return (
        own_entry(HTTP_COMMAND, "taskbus.task.http_command:run", {"allow": allow}, queue=queue),
        own_entry(
            EXEC_COMMAND, "taskbus.task.exec_command:run", {"programs": programs}, queue=queue
        ),
    )


def own_entry(
    uri: str, function: str, given: Mapping[str, Any] | None = None, **options: Any
) -> Entry:
    """The entry of ``"package.module:function"``, which is called with the TaskInput and with what
    is ``given``: keyword arguments, JSON values.
    """
    target = (function, dump(given or {}))
    return Entry(uri, OWN, target, mode="background", **options)
