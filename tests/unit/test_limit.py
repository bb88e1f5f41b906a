"""Limits as lanes and places."""

import itertools
import random

import pytest

from taskbus.core.limit import MOST_RATE_PLACES, Lane, free, lane_named, lanes_of, taken
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.job import Place
from taskbus.model.options import Rate
from taskbus.model.policy import Policy
from tests.support.values import a_job

URI = "com.example.dante.sleeper"


def an_entry(pattern: str = URI, concurrency: int | None = None, rate: Rate | None = None) -> Entry:
    return Entry(pattern, "exec", ("true",), concurrency=concurrency, rate=rate)


def test_without_limits_there_are_no_lanes() -> None:
    job = a_job(policy=Policy(concurrency_key="ann", rate_key="ann").text)
    assert lanes_of(job, an_entry()) == []


def test_the_lanes_of_an_entry() -> None:
    entry = an_entry(concurrency=2, rate=Rate(10, 60.0))
    assert lanes_of(a_job(), entry) == [
        Lane(URI, 2, None, "2 at a time"),
        Lane(f"rate {URI}", 10, 60.0, "10 in 60 s"),
    ]


def test_each_key_has_a_lane_for_itself() -> None:
    entry = an_entry("com.example.*", concurrency=2, rate=Rate(10, 60.0))
    job = a_job(policy=Policy(concurrency_key="ann", rate_key="b#c").text)
    names = [lane.name for lane in lanes_of(job, entry)]
    assert names == ["com.example.*#ann", "rate com.example.*#b#c"]


def test_a_lane_is_found_by_its_name() -> None:
    entry = an_entry("com.example.*", concurrency=2, rate=Rate(10, 60.0))
    api = ApiMap([entry, an_entry("com.other.x")])
    job = a_job(policy=Policy(concurrency_key="rate x", rate_key="b#c").text)
    lanes = lanes_of(job, entry) + lanes_of(a_job(), entry)
    assert [lane_named(lane.name, api) for lane in lanes] == lanes
    assert lane_named("com.other.x", api) is None
    assert lane_named("rate com.other.x#ann", api) is None
    assert lane_named("com.gone.x", api) is None


@pytest.mark.parametrize("attempts", [1, 7, 99, 100, 101, 250, 1009, 10**9])
def test_a_large_rate_is_shared_out_and_never_exceeded(attempts: int) -> None:
    [lane] = lanes_of(a_job(), an_entry(rate=Rate(attempts, 60.0)))
    assert lane.seconds is not None
    shares = round(60.0 / lane.seconds)
    assert lane.seconds * shares == pytest.approx(60.0)
    assert attempts * 0.99 <= lane.places * shares <= attempts
    assert lane.places <= MOST_RATE_PLACES
    assert shares == 1 or attempts > MOST_RATE_PLACES


def test_places_are_taken_by_others_or_until_a_time() -> None:
    places = [
        Place("a", 0, "me", None), Place("a", 1, "you", None),
        Place("a", 2, "me", 1000.0), Place("a", 3, "me", 1000.1),
    ]  # fmt: skip
    assert taken(places, 1000.0) == {0, 1, 3}
    assert taken(places, 1000.0, "me") == {1, 3}


def test_whoever_fills_a_lane_never_overfills_it() -> None:
    """However many choose at once, beside places that the limit no longer has."""
    for most, held in itertools.product(range(1, 5), ({9}, {7, 8}, {1, 9}, {0, 1, 2, 3}, set())):
        lane = Lane("a", most, None, "")
        offered = set(free(lane, held))
        assert not offered & held
        assert len(offered) == max(0, most - len(held))
        assert offered <= set(range(most))


def test_starts_are_never_more_than_the_rate_in_any_such_time() -> None:
    """As many try as like, whenever they like."""
    chance = random.Random(1)
    lane = Lane("a", 5, 10.0, "")
    places: dict[int, Place] = {}
    starts: list[float] = []
    now = 0.0
    while len(starts) < 500:
        now += chance.choice([0.0, 0.01, 0.5, 3.0, 25.0])
        if rest := free(lane, taken(list(places.values()), now)):
            nth = chance.choice(rest)
            places[nth] = lane.place(nth, "job", now)
            starts.append(now)
    assert all(later - one >= 10.0 for one, later in zip(starts, starts[5:], strict=False))
    assert any(later == one for one, later in itertools.pairwise(starts))
