"""The bus' own tasks: jobs like all others, but no caller can name them.

Their code is in ``taskbus.task``: functions of a TaskInput, and of what the settings give them.
"""

from collections.abc import Mapping
from typing import Any

from taskbus.model import webhook
from taskbus.model.apimap import Entry
from taskbus.model.json import dump
from taskbus.model.options import Backoff
from taskbus.model.policy import Policy
from taskbus.model.settings import Settings
from taskbus.model.uri import COMMANDS

OWN = "own"
HTTP_COMMAND, EXEC_COMMAND = f"{COMMANDS}.http", f"{COMMANDS}.exec"

# When a delivery is tried again, as Standard Webhooks has it: ten attempts in three days.
_MINUTE, _HOUR = 60.0, 3600.0
_STEPS = (
    5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR,
    24 * _HOUR,
)  # fmt: skip
# What may pass: all but an endpoint that is gone or disabled.
_PASSING = (
    webhook.FAILED,
    webhook.THROTTLED,
    "taskbus.error.address_forbidden",
    "taskbus.error.handler_unreachable",
    "taskbus.error.killed",
    "taskbus.error.task_failed",
    "taskbus.error.timeout",
)


def built_in(settings: Settings) -> tuple[Entry, ...]:
    """The entries of those that these settings ask for: workers load no others."""
    commands = _commands(settings) if settings.queue_server else ()
    return (*commands, _deliveries(settings)) if settings.webhook_topics else commands


def _commands(settings: Settings) -> tuple[Entry, ...]:
    queue = settings.queue_server_queue
    allow, programs = settings.queue_server_allow, settings.queue_server_exec
    return (
        own_entry(HTTP_COMMAND, "taskbus.task.http_command:run", {"allow": allow}, queue=queue),
        own_entry(
            EXEC_COMMAND, "taskbus.task.exec_command:run", {"programs": programs}, queue=queue
        ),
    )


def _deliveries(settings: Settings) -> Entry:
    return own_entry(
        webhook.DELIVER,
        "taskbus.task.deliver:deliver",
        {"allow": settings.webhook_networks, "seconds": settings.webhook_timeout},
        queue=webhook.QUEUE,
        # Its own seconds are over earlier; these are for a name server that does not answer.
        timeout=settings.webhook_timeout + 10.0,
        retries=len(_STEPS),
        concurrency=settings.webhook_concurrency,
        policy=Policy(backoff=Backoff(steps=_STEPS, jitter=0.1), retry_on=_PASSING),
    )


def own_entry(
    uri: str, function: str, given: Mapping[str, Any] | None = None, **options: Any
) -> Entry:
    """The entry of ``"package.module:function"``, which is called with the TaskInput and with what
    is ``given``: keyword arguments, JSON values.
    """
    target = (function, dump(given or {}))
    return Entry(uri, OWN, target, mode="background", **options)
