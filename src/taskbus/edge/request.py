"""What callers send to ``taskbus.job.*``, checked: each function raises InvalidArgument."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskbus.model.errors import InvalidArgument
from taskbus.model.identity import is_job_id
from taskbus.model.job import State
from taskbus.model.options import check_name
from taskbus.model.uri import is_loose_uri

LONGEST_WAIT = 24 * 3600.0
_STATES = tuple(State)
_KINDS = (*_STATES, "progress", "output", "warning")


def named(
    names: tuple[str, ...],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    is_complete: bool = True,
) -> dict[str, Any]:
    """Positional arguments by their names, and the keyword arguments.

    ``is_complete``: there are no others than ``names``.
    """
    known = ", ".join(names) or "none"
    if len(args) > len(names):
        raise InvalidArgument(
            "args", list(args), "too many arguments", f"send {known}, others by name"
        )
    request: dict[str, Any] = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name in request:
            raise InvalidArgument(name, value, "sent twice", "send it by position or by name")
        if is_complete and name not in names:
            raise InvalidArgument(name, value, "unknown option", f"known: {known}")
    return {**request, **kwargs}


def chosen_job(request: Mapping[str, Any]) -> str:
    """The id under ``job``."""
    job = request.get("job")
    if not is_job_id(job):
        raise InvalidArgument("job", job, "not a job id", "send the id that submitting returned")
    return str(job)


def chosen_states(value: Any) -> list[State]:
    """One state or a list of them; none where nothing is said."""
    names = [value] if isinstance(value, str) else [] if value is None else value
    wrong = not isinstance(names, (list, tuple)) or not all(name in _STATES for name in names)
    if wrong:
        raise InvalidArgument(
            "state", value, "not a state", f"use {', '.join(State)}, or a list of them"
        )
    return [State(name) for name in names]


def chosen_kinds(value: Any) -> frozenset[str]:
    """Kinds of events, one or a list of them; none where nothing is said."""
    names = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(names, (list, tuple)) or not all(name in _KINDS for name in names):
        raise InvalidArgument(
            "kind", value, "not a kind of event", f"use {', '.join(_KINDS)}, or a list of them"
        )
    return frozenset(names)


def whole(request: Mapping[str, Any], field: str, least: int, most: int, default: int) -> int:
    """A whole number from ``least`` to ``most``."""
    value = default if request.get(field) is None else request[field]
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise InvalidArgument(field, value, "out of range", f"use {least} to {most}")


def wait_seconds(value: Any) -> float:
    """How long to wait; LONGEST_WAIT where nothing is said."""
    if value is None:
        return LONGEST_WAIT
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value <= LONGEST_WAIT
    ):
        return float(value)
    raise InvalidArgument("timeout", value, "not a number of seconds", f"use 0 to {LONGEST_WAIT:g}")


def chosen_uris(value: Any) -> str:
    """A URI, or ``com.x.*`` for all below it; empty for every one."""
    if value is None:
        return ""
    if isinstance(value, str) and is_loose_uri(value.removesuffix(".*")):
        return value
    raise InvalidArgument("uri", value, "not a URI", "send com.example.some.uri or com.x.*")


def chosen_tag(value: Any) -> str:
    """A tag; empty where nothing is said."""
    return "" if value is None else check_name("tag", value)


def yes_or_no(request: Mapping[str, Any], field: str) -> bool:
    """True or false; false where nothing is said."""
    value = request.get(field)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidArgument(field, value, "not true or false", "send true or false")
