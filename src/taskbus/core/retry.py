"""Whether and when a failed job is tried again."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from taskbus.model.options import LONGEST_DELAY, STANDARD_BACKOFF, Backoff
from taskbus.model.uri import covers


def is_worth(error: str, retry_on: Sequence[str]) -> bool:
    """Whether this error may pass: none is named, or this one is."""
    return not retry_on or any(covers(pattern, error) for pattern in retry_on)


def backoff(
    failures: int, chance: float | None = None, policy: Backoff = STANDARD_BACKOFF
) -> float:
    """Seconds until the next attempt, after so many that failed: 1, 2, 4 ... up to an hour, give
    or take 25 %, unless the policy says otherwise.

    ``chance`` from 0.0 to 1.0 replaces the random number.
    """
    steps = policy.steps
    base = steps[min(failures, len(steps)) - 1] if steps else _power(failures, policy)
    spread = random.random() if chance is None else chance  # noqa: S311 - no secret
    return base * (1 - policy.jitter + 2 * policy.jitter * spread)


def wish(about: Mapping[str, Any]) -> float:
    """The seconds that an error itself asks to wait, under ``retry_after``; 0 where it does not."""
    seconds = about.get("retry_after")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return 0.0
    # A NaN fails the comparison.
    return float(min(seconds, LONGEST_DELAY)) if seconds > 0 else 0.0


def _power(failures: int, policy: Backoff) -> float:
    try:
        return min(policy.longest, policy.first * policy.factor ** min(failures - 1, 1000))
    except OverflowError:
        return policy.longest
