"""The options of a job: what each accepts."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from taskbus.model.errors import InvalidArgument
from taskbus.model.options import (
    LONGEST_DELAY,
    LONGEST_TIMEOUT,
    PRIORITIES,
    check_delay,
    check_priority,
    check_retries,
    check_timeout,
)

NEVER: list[Any] = [
    None,
    "",
    "x",
    "1",
    True,
    False,
    [],
    {},
    math.nan,
    math.inf,
    -math.inf,
    -1,
    10**400,
    b"1",
]


@pytest.mark.parametrize("check", [check_priority, check_delay, check_timeout, check_retries])
@pytest.mark.parametrize("value", NEVER, ids=lambda value: repr(value)[:20])
def test_never(check: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(value)
    field = check.__name__.removeprefix("check_")
    assert caught.value.about["field"] == field
    assert caught.value.message.startswith(field)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    ("check", "least", "most"),
    [
        (check_priority, 0, 1000),
        (check_delay, 0, int(LONGEST_DELAY)),
        (check_timeout, 0.01, int(LONGEST_TIMEOUT)),
        (check_retries, 0, 100),
    ],
)
def test_bounds(check: Callable[[Any], Any], least: float, most: int) -> None:
    assert check(least) == least
    assert check(most) == most
    for value in (least - 0.001, most + 1):
        with pytest.raises(InvalidArgument):
            check(value)


def test_levels() -> None:
    assert [check_priority(level) for level in PRIORITIES] == [250, 500, 750, 1000]
    with pytest.raises(InvalidArgument, match="urgent"):
        check_priority("High")


def test_times_are_floats_and_counts_are_whole() -> None:
    assert isinstance(check_timeout(1), float)
    assert check_delay(0.5) == 0.5
    for check in (check_priority, check_retries):
        with pytest.raises(InvalidArgument):
            check(1.0)
