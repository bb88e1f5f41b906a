"""Throttles: a rate may be used up at once, then there is room as time passes."""

import pytest

from taskbus.core.throttle import Throttles
from taskbus.model.errors import RateLimited


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def taken(throttles: Throttles, rate: str | None, tries: int, sender: str = "ann") -> int:
    count = 0
    for _ in range(tries):
        try:
            throttles.take(sender, rate)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_rate_is_used_up_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    throttles = Throttles(clock)
    assert taken(throttles, "6/minute", 10) == 6
    with pytest.raises(RateLimited) as caught:
        throttles.take("ann", "6/minute")
    assert caught.value.about["retry_after"] == pytest.approx(10)
    clock.now += 9.9
    assert taken(throttles, "6/minute", 3) == 0
    clock.now += 0.1
    assert taken(throttles, "6/minute", 3) == 1
    clock.now += 1000
    assert taken(throttles, "6/minute", 10) == 6


def test_each_sender_has_it_for_itself_and_none_has_no_limit() -> None:
    throttles = Throttles(Clock())
    assert taken(throttles, "1/second", 2) == 1
    assert taken(throttles, "1/second", 2, "bob") == 1
    assert taken(throttles, None, 100) == 100


def test_rounding_refuses_nobody() -> None:
    clock = Clock()
    throttles = Throttles(clock)
    for _ in range(1000):
        assert taken(throttles, "7/second", 1) == 1
        clock.now += 1 / 7


def test_who_has_sent_nothing_for_a_while_is_forgotten() -> None:
    clock = Clock()
    throttles = Throttles(clock)
    for number in range(1500):
        throttles.take(str(number), "1/second")
        clock.now += 0.01
    assert len(throttles._done) < 700
