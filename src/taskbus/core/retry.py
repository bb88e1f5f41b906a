"""Whether and when a failed job is tried again."""

import random
from collections.abc import Sequence

from taskbus.model.options import STANDARD_BACKOFF, Backoff
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
    exponent = min(failures - 1, 1000)
    try:
        base = min(policy.longest, policy.first * policy.factor**exponent)
    except OverflowError:
        base = policy.longest
    spread = random.random() if chance is None else chance  # noqa: S311 - no secret
    return base * (1 - policy.jitter + 2 * policy.jitter * spread)
