"""Whether and when a failed job is tried again."""

import random

FIRST = 1.0
LONGEST = 3600.0
JITTER = 0.25


def backoff(attempt: int, chance: float | None = None) -> float:
    """Seconds until the attempt after ``attempt``: 1, 2, 4 ... up to an hour, give or take 25 %.

    ``chance`` from 0.0 to 1.0 replaces the random number.
    """
    base = min(LONGEST, FIRST * 2.0 ** min(attempt - 1, 30))
    spread = random.random() if chance is None else chance  # noqa: S311 - no secret
    return base * (1 - JITTER + 2 * JITTER * spread)
