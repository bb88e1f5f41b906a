"""Limits as lanes: each lane has so many places, and an attempt needs one in each lane of its job.

A place of a concurrency limit is taken until the attempt has ended, one of a rate limit for the
rate's time: so never more attempts begin in any such time than the rate allows.

A lane is named by the entry's pattern, with ``#key`` where the job has one, and with ``rate`` in
front of a rate's: ``com.example.x#ann``, ``rate com.example.x``.
"""

from collections.abc import Callable, Collection
from itertools import islice
from typing import NamedTuple

from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.job import Job, Place
from taskbus.model.options import Rate
from taskbus.model.policy import Policy

# Every attempt looks at all places of its lanes.
MOST_RATE_PLACES = 100
_RATE = "rate "


class Lane(NamedTuple):
    """A lane as the API map has it now: each place is taken for so many seconds, or (None) as long
    as the attempt lasts. ``rule`` is the limit in words.
    """

    name: str
    places: int
    seconds: float | None
    rule: str

    def place(self, nth: int, job: str, now: float) -> Place:
        """The place as the job takes it."""
        return Place(self.name, nth, job, None if self.seconds is None else now + self.seconds)


# A lane as it is to be used now, where something else than the API map decides on that as well.
Valve = Callable[[Lane], Lane]


def as_it_is(lane: Lane) -> Lane:
    """The valve of a bus that has none."""
    return lane


def lanes_of(job: Job, entry: Entry) -> list[Lane]:
    """The lanes in which the job's next attempt needs a place."""
    if entry.concurrency is None and entry.rate is None:
        return []
    policy = Policy.of(job.policy)
    found = (
        _concurrency_lane(_name(entry.pattern, policy.concurrency_key), entry.concurrency),
        _rate_lane(_name(entry.pattern, policy.rate_key), entry.rate),
    )
    return [lane for lane in found if lane is not None]


def lane_named(name: str, api: ApiMap) -> Lane | None:
    """The lane of this name; None where the API map has no such limit any more."""
    plain = name.removeprefix(_RATE)
    pattern = plain.partition("#")[0]
    entry = api.entries.get(pattern) or api.built_in.get(pattern)
    if entry is None:
        return None
    if plain == name:
        return _concurrency_lane(name, entry.concurrency)
    return _rate_lane(plain, entry.rate)


def taken(places: Collection[Place], now: float, job: str = "") -> set[int]:
    """Which places are taken for others than this job's new attempt."""
    return {one.nth for one in places if (one.job != job if one.until is None else one.until > now)}


def free(lane: Lane, held: Collection[int]) -> list[int]:
    """The places that may be taken beside those held.

    Where the limit was lowered, others are held than the lane has now. No more are offered than it
    takes to fill the lane, and always the same: so all who choose together do not overfill it.
    """
    rest = (nth for nth in range(lane.places) if nth not in held)
    return list(islice(rest, max(0, lane.places - len(held))))


def _name(pattern: str, key: str | None) -> str:
    return pattern if key is None else f"{pattern}#{key}"


def _concurrency_lane(name: str, most: int | None) -> Lane | None:
    return None if most is None else Lane(name, most, None, f"{most} at a time")


def _rate_lane(name: str, rate: Rate | None) -> Lane | None:
    if rate is None:
        return None
    # An even share of the attempts in an even share of the time never exceeds the whole.
    shares = -(-rate.attempts // MOST_RATE_PLACES)
    rule = f"{rate.attempts} in {rate.seconds:g} s"
    return Lane(_RATE + name, rate.attempts // shares, rate.seconds / shares, rule)
