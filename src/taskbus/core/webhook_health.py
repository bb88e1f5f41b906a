"""How an endpoint is: what its deliveries tell, and when it is left alone.

After some failures in a row, or one that took long or asks for time, nothing is sent for a while,
longer each time; then one delivery is let through to look. The others cost no worker meanwhile.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from taskbus.model.errors import TaskTimeout
from taskbus.model.webhook import GONE, THROTTLED

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0
_PATIENCE = 3
_AT_ONCE = frozenset({TaskTimeout.uri, THROTTLED})


class Health(NamedTuple):
    """Of an endpoint whose last delivery failed. Times are in seconds since the epoch."""

    failures: int
    since: float
    closed_until: float = 0.0
    pauses: int = 0

    @classmethod
    def of(cls, _name: str, body: Mapping[str, Any]) -> "Health":
        """As it is in a record."""
        return cls(**body)


def after_failure(
    before: Health | None, at: float, error: str, retry_after: float | None = None
) -> Health:
    """How it is after one more failure, by this error, at this time."""
    health = before or Health(0, at)
    health = health._replace(failures=health.failures + 1)
    if at < health.closed_until and retry_after is None:
        return health  # This one was under way when the others failed.
    if health.failures < _PATIENCE and health.pauses == 0 and error not in _AT_ONCE:
        return health
    pauses = health.pauses + 1
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(pauses - 1, 10))
    until = at + max(pause, retry_after or 0.0)
    return health._replace(pauses=pauses, closed_until=max(until, health.closed_until))


def why_disabled(health: Health, at: float, error: str, patience: float) -> str:
    """Why the endpoint is to be disabled after this failure; empty where it is not."""
    if error == GONE:
        return "it answered HTTP 410"
    if at - health.since >= patience:
        return f"it has failed for {patience / 86400:.3g} days"
    return ""
