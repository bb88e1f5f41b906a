"""When a failed job is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbus.core.retry import backoff, is_worth, wish
from taskbus.model.options import LONGEST_DELAY, Backoff
from taskbus.model.policy import Policy

FIRST, LONGEST, JITTER = Backoff().first, Backoff().longest, Backoff().jitter


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


def test_a_policy_of_its_own() -> None:
    policy = Backoff(first=2.0, factor=3.0, longest=20.0, jitter=0.0)
    assert [backoff(failures, policy=policy) for failures in range(1, 6)] == [2, 6, 18, 20, 20]
    assert backoff(1, 1.0, Backoff(jitter=1.0)) == 2.0
    assert backoff(10**6, 0.5, Backoff(factor=1000.0, longest=7.0)) == 7.0
    assert backoff(3, policy=Backoff(first=0.0)) == 0.0


@pytest.mark.parametrize(
    ("error", "retry_on", "expected"),
    [
        ("com.x.error", (), True),
        ("com.x.error", ("com.x.error",), True),
        ("com.x.error.net", ("com.x.error",), False),
        ("com.x.error.net", ("com.y", "com.x.error.*"), True),
        ("com.x.error", ("com.x.error.*",), False),
    ],
)
def test_only_named_errors_are_worth_another_attempt(
    error: str, retry_on: tuple[str, ...], expected: bool
) -> None:
    assert is_worth(error, retry_on) is expected


def test_steps_instead_of_powers() -> None:
    policy = Backoff(steps=(5.0, 300.0, 1800.0), jitter=0.1)
    assert [backoff(failures, 0.5, policy) for failures in range(1, 6)] == [
        5,
        300,
        1800,
        1800,
        1800,
    ]
    assert (backoff(2, 0.0, policy), backoff(2, 1.0, policy)) == pytest.approx((270, 330))
    assert Policy.of(Policy(backoff=policy).text).backoff == policy


def test_the_backoff_of_a_job_that_an_older_version_has_stored() -> None:
    assert Policy.of('{"backoff":[2.0,3.0,20.0,0.0]}').backoff == Backoff(2.0, 3.0, 20.0, 0.0)


@pytest.mark.parametrize(
    ("about", "seconds"),
    [({"retry_after": 120}, 120), ({"retry_after": 0.5}, 0.5), ({}, 0),
     ({"retry_after": -1}, 0), ({"retry_after": True}, 0), ({"retry_after": "7"}, 0),
     ({"retry_after": 1e300}, LONGEST_DELAY)],
)  # fmt: skip
def test_an_error_may_ask_for_time(about: dict[str, object], seconds: float) -> None:
    assert wish(about) == seconds
