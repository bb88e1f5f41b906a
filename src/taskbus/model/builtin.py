"""The bus' own tasks: jobs like all others, but no caller can name them.

Their code is in ``taskbus.task``: functions of a TaskInput, and of what the settings give them.
"""

from collections.abc import Mapping
from typing import Any

from taskbus.model.apimap import Entry
from taskbus.model.json import dump
from taskbus.model.settings import Settings

OWN = "own"


def built_in(_settings: Settings) -> tuple[Entry, ...]:
    """The entries of those that these settings ask for: workers load no others."""
    return ()


def own_entry(
    uri: str, function: str, given: Mapping[str, Any] | None = None, **options: Any
) -> Entry:
    """The entry of ``"package.module:function"``, which is called with the TaskInput and with what
    is ``given``: keyword arguments, JSON values.
    """
    target = (function, dump(given or {}))
    return Entry(uri, OWN, target, mode="background", **options)
