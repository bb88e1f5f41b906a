"""The options of a job, each with its check: the API map and every call use the same ones."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from taskbus.model.errors import InvalidArgument
from taskbus.model.json import dump_field
from taskbus.model.portable import is_portable
from taskbus.model.trace import PARENT, STATE, Trace, parse_trace
from taskbus.model.uri import is_loose_uri

# Higher runs earlier.
PRIORITIES = {"low": 250, "normal": 500, "high": 750, "urgent": 1000}
HIGHEST_PRIORITY = 1000
LONGEST_TIMEOUT = 7 * 24 * 3600.0
LONGEST_DELAY = 366 * 24 * 3600.0
LONGEST_RETENTION = 10 * 366 * 24 * 3600.0
LONGEST_WINDOW = 366 * 24 * 3600.0
STANDARD_WINDOW = 24 * 3600.0
MOST_RETRIES = 100
MOST_ERRORS = 32
MOST_TAGS = 32
LARGEST_MEMORY = 1024 * 1024
LONGEST_NAME = 100
DEFAULT_QUEUE = "default"
SUCCESS, FAILURE, END = "success", "failure", "end"

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


class Backoff(NamedTuple):
    """Seconds until the next attempt: ``first``, then ``factor`` times more after each failure, at
    most ``longest``; give or take the share ``jitter`` of it, by chance. ``steps``, which only the
    bus' own tasks have, are the seconds after each failure instead; the last one is for all others.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 3600.0
    jitter: float = 0.25
    steps: tuple[float, ...] = ()


STANDARD_BACKOFF = Backoff()


class Rate(NamedTuple):
    """So many attempts in so many seconds."""

    attempts: int
    seconds: float


def check_args(value: Any) -> str | None:
    """Positional arguments as JSON; None where none are given."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise InvalidArgument(
            "args", value, "not a list", "send the positional arguments as a list"
        )
    return dump_field("args", value) if value else "[]"


def check_kwargs(value: Any) -> str | None:
    """Keyword arguments as JSON; None where none are given."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidArgument(
            "kwargs", value, "not an object", "send keyword arguments as an object"
        )
    return dump_field("kwargs", value) if value else "{}"


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


def check_run_at(value: Any) -> float:
    """A time as seconds since the epoch, or as ISO 8601 with its offset from UTC."""
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            when = None
        if when is not None and when.tzinfo is not None:
            return when.timestamp()
    elif (_is_int(value) or isinstance(value, float)) and 0 <= value < 2**35:
        return float(value)
    raise InvalidArgument(
        "run_at",
        value,
        "not a time",
        "write 2030-01-31T12:00:00+00:00, or seconds since the epoch",
    )


def check_backoff(value: Any) -> Backoff:
    """An object with some of Backoff's fields."""
    remedy = "write {first = 1, factor = 2, longest = 3600, jitter = 0.25}, each may be missing"
    if not isinstance(value, dict):
        raise InvalidArgument("backoff", value, "not an object", remedy)
    limits = {
        "first": (0.0, LONGEST_DELAY),
        "factor": (1.0, 1000.0),
        "longest": (0.0, LONGEST_DELAY),
        "jitter": (0.0, 1.0),
    }
    for name in value:
        if name not in limits:
            raise InvalidArgument(f"backoff.{name}", value[name], "unknown option", remedy)
    said: dict[str, Any] = {
        name: _number(f"backoff.{name}", value[name], *limits[name]) for name in value
    }
    return Backoff(**said)


def check_retry_on(value: Any) -> tuple[str, ...]:
    """Error URIs, ``com.x.*`` for all below it: only these are tried again."""
    names = value if isinstance(value, (list, tuple)) else []
    if 0 < len(names) <= MOST_ERRORS and all(
        isinstance(name, str) and is_loose_uri(name.removesuffix(".*")) for name in names
    ):
        return tuple(names)
    raise InvalidArgument(
        "retry_on",
        value,
        "not a list of error URIs",
        f'write up to {MOST_ERRORS}, as ["com.example.error.busy", "com.example.net.*"]',
    )


def check_ttr(value: Any) -> float:
    """Seconds that a claim lasts without a sign of life from its worker."""
    return _seconds("ttr", value, 3.0, 86400.0)


def check_memory(value: Any) -> int:
    """MiB of memory that an attempt's processes may use together."""
    if _is_int(value) and 1 <= value <= LARGEST_MEMORY:
        return int(value)
    raise InvalidArgument("memory", value, "not a size", f"use 1 to {LARGEST_MEMORY} (MiB)")


def check_cpu(value: Any) -> float:
    """Seconds of CPU time that an attempt's processes may use together."""
    return _seconds("cpu", value, 0.01, LONGEST_TIMEOUT)


def check_queue(value: Any) -> str:
    """The name of a queue."""
    if isinstance(value, str) and _QUEUE.fullmatch(value):
        return value
    raise InvalidArgument(
        "queue", value, "not a queue's name", "use up to 64 letters, digits, dots, - and _"
    )


def check_flag(value: Any) -> bool:
    """A setting that is on or off."""
    if isinstance(value, bool):
        return value
    raise InvalidArgument("value", value, "not true or false", "write true or false")


def check_retention(value: Any) -> float:
    """Seconds for which an ended job is kept, with its journal and its result."""
    return _seconds("retention", value, 0.0, LONGEST_RETENTION)


def check_tags(value: Any) -> tuple[str, ...]:
    """Texts by which jobs can be found."""
    tags = value if isinstance(value, (list, tuple)) else None
    if tags is not None and len(tags) <= MOST_TAGS and all(_is_name(tag) for tag in tags):
        return tuple(dict.fromkeys(tags))
    raise InvalidArgument(
        "tags",
        value,
        "not a list of tags",
        f"send up to {MOST_TAGS} texts of 1 to {LONGEST_NAME} characters",
    )


def check_context(value: Any) -> dict[str, Any]:
    """An object that the task finds in ``details.context``."""
    if not isinstance(value, dict):
        raise InvalidArgument("context", value, "not an object", "send an object")
    dump_field("context", value)
    return value


def check_trace(value: Any) -> Trace:
    """The W3C trace that the job belongs to: a traceparent, or an object of it and tracestate."""
    said = {PARENT: value} if isinstance(value, str) else value
    if isinstance(said, dict) and {PARENT} <= said.keys() <= {PARENT, STATE}:
        texts = said[PARENT], said.get(STATE, "")
        trace = parse_trace(*texts) if all(isinstance(text, str) for text in texts) else None
        if trace is not None:
            return trace
    raise InvalidArgument(
        "trace",
        value,
        "not a W3C trace context",
        'send "00-TRACE-PARENT-FLAGS", or {"traceparent": ..., "tracestate": ...}',
    )


def check_idempotency_key(value: Any) -> str:
    """A name for this request: submitted again, it returns the first job."""
    return check_name("idempotency_key", value)


def check_idempotency_window(value: Any) -> float:
    """Seconds for which the key is remembered."""
    return _seconds("idempotency_window", value, 1.0, LONGEST_WINDOW)


def check_unique(value: Any) -> str | bool:
    """True: one job of these arguments at a time; a text: one job of that name."""
    if isinstance(value, bool):
        return value
    return check_name("unique", value)


def check_concurrency(value: Any) -> int:
    """How many attempts run at a time."""
    if _is_int(value) and 1 <= value <= 10_000:
        return int(value)
    raise InvalidArgument("concurrency", value, "not a count", "use 1 to 10000")


def check_promote_after(value: Any) -> float:
    """Seconds after which a foreground call goes on as a job."""
    return _seconds("promote_after", value, 0.01, LONGEST_TIMEOUT)


def check_rate(value: Any) -> Rate:
    """How many attempts begin in a time, as ``"10/second"``."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found:
        return Rate(int(found[1]), _PERIODS[found[2]])
    raise InvalidArgument(
        "rate", value, "not a rate", 'write "10/second", "100/minute", "1000/hour" or ".../day"'
    )


def check_concurrency_key(value: Any) -> str:
    """Whose concurrency this job counts for: each key has the limit for itself."""
    return check_name("concurrency_key", value)


def check_rate_key(value: Any) -> str:
    """Whose rate this job counts for: each key has the limit for itself."""
    return check_name("rate_key", value)


def check_name(field: str, value: Any) -> str:
    """A short text."""
    if _is_name(value):
        return str(value)
    raise InvalidArgument(field, value, "not a short text", f"send 1 to {LONGEST_NAME} characters")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and is_portable(value)


def _seconds(field: str, value: Any, least: float, most: float) -> float:
    if _is_within(value, least, most):
        return float(value)
    raise InvalidArgument(
        field, value, "not a number of seconds", f"use {least:g} to {most:.0f} seconds"
    )


def _number(field: str, value: Any, least: float, most: float) -> float:
    if _is_within(value, least, most):
        return float(value)
    raise InvalidArgument(field, value, "not a number in range", f"use {least:g} to {most:.0f}")


def _is_within(value: Any, least: float, most: float) -> bool:
    # A NaN fails the comparison.
    return (_is_int(value) or isinstance(value, float)) and least <= value <= most


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# What an entry of the API map may say, and each call may say otherwise.
SHARED: dict[str, Callable[[Any], Any]] = {
    "priority": check_priority,
    "timeout": check_timeout,
    "retries": check_retries,
    "backoff": check_backoff,
    "retry_on": check_retry_on,
    "ttr": check_ttr,
    "memory": check_memory,
    "cpu": check_cpu,
    "queue": check_queue,
    "retention": check_retention,
    "unique": check_unique,
}
# What only a call can say.
PER_CALL: dict[str, Callable[[Any], Any]] = {
    "delay": check_delay,
    "run_at": check_run_at,
    "tags": check_tags,
    "context": check_context,
    "idempotency_key": check_idempotency_key,
    "idempotency_window": check_idempotency_window,
    "concurrency_key": check_concurrency_key,
    "rate_key": check_rate_key,
    "trace": check_trace,
}
# Requests for jobs that follow this one, and which of its ends they wait for.
FOLLOW_UPS = {"on_success": SUCCESS, "on_failure": FAILURE, "on_end": END}
# What holds for all jobs of an entry together.
PER_ENTRY: dict[str, Callable[[Any], Any]] = {
    "concurrency": check_concurrency,
    "rate": check_rate,
    "promote_after": check_promote_after,
}
