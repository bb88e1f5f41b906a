"""The options of a job, each with its check: the API map and every call use the same ones."""

from typing import Any

from taskbus.model.errors import InvalidArgument
from taskbus.model.json import dump_field

# Higher runs earlier.
PRIORITIES = {"low": 250, "normal": 500, "high": 750, "urgent": 1000}
HIGHEST_PRIORITY = 1000
LONGEST_TIMEOUT = 7 * 24 * 3600.0
LONGEST_DELAY = 366 * 24 * 3600.0
MOST_RETRIES = 100


def check_args(value: Any) -> str | None:
    """Positional arguments as JSON; None where none are given."""
    if value is not None and not isinstance(value, (list, tuple)):
        raise InvalidArgument(
            "args", value, "not a list", "send the positional arguments as a list"
        )
    return None if value is None else dump_field("args", value)


def check_kwargs(value: Any) -> str | None:
    """Keyword arguments as JSON; None where none are given."""
    if value is not None and not isinstance(value, dict):
        raise InvalidArgument(
            "kwargs", value, "not an object", "send keyword arguments as an object"
        )
    return None if value is None else dump_field("kwargs", value)


def check_priority(value: Any) -> int:
    """0 to 1000 or a level's name; higher runs earlier."""
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if _is_int(value) and 0 <= value <= HIGHEST_PRIORITY:
        return int(value)
    raise InvalidArgument(
        "priority",
        value,
        "not a priority",
        f"use 0 to {HIGHEST_PRIORITY} (higher runs earlier) or one of {', '.join(PRIORITIES)}",
    )


def check_delay(value: Any) -> float:
    """Seconds from now."""
    return _seconds("delay", value, 0.0, LONGEST_DELAY)


def check_timeout(value: Any) -> float:
    """Seconds that one attempt may take."""
    return _seconds("timeout", value, 0.01, LONGEST_TIMEOUT)


def check_retries(value: Any) -> int:
    """Further attempts after the first one failed."""
    if _is_int(value) and 0 <= value <= MOST_RETRIES:
        return int(value)
    raise InvalidArgument("retries", value, "not a count", f"use 0 to {MOST_RETRIES}")


def _seconds(field: str, value: Any, least: float, most: float) -> float:
    # A NaN fails the comparison.
    if (_is_int(value) or isinstance(value, float)) and least <= value <= most:
        return float(value)
    raise InvalidArgument(
        field, value, "not a number of seconds", f"use {least:g} to {most:.0f} seconds"
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
