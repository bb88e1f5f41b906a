"""When a failed job is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbus.core.retry import backoff
from taskbus.model.options import Backoff

FIRST, _, LONGEST, JITTER = Backoff()


def test_it_doubles() -> None:
    assert [backoff(attempt, 0.5) for attempt in range(1, 6)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("attempt", [13, 100, 10**6])
def test_it_is_bounded(attempt: int) -> None:
    assert backoff(attempt, 0.5) == LONGEST


@given(st.integers(1, 200), st.floats(0, 1))
def test_it_is_spread(attempt: int, chance: float) -> None:
    middle = backoff(attempt, 0.5)
    assert middle * (1 - JITTER) <= backoff(attempt, chance) <= middle * (1 + JITTER)
    assert backoff(attempt, 0) < middle < backoff(attempt, 1)


def test_two_jobs_that_fail_together_come_back_apart() -> None:
    assert len({backoff(1) for _ in range(20)}) > 1
    assert all(FIRST * (1 - JITTER) <= backoff(1) <= FIRST * (1 + JITTER) for _ in range(100))
