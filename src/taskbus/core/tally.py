"""What a program has done, by task: how often and how it ended, how long it waited and took.

Counts are kept by the pattern of the API map's entry, not by URI: there are no more of them than
entries. They go on where the program before has left them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taskbus.port.clock import Clock

# Upper bounds in seconds; what takes longer is in one more bucket behind them.
BOUNDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip
ATTEMPT, CALL = "attempt", "call"
_SAVE_SECONDS = 1.0


class Seconds:
    """How many took how long."""

    def __init__(self, counts: Iterable[int] = (), total: float = 0.0) -> None:
        self.counts = list(counts) or [0] * (len(BOUNDS) + 1)
        self.total = total

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def merge(self, other: "Seconds") -> None:
        """All of the other's."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Counts:
    """Of one task: ``outcomes`` by name, and how long it ``waited`` and ``took``."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.waited = Seconds()
        self.took = Seconds()

    def merge(self, other: "Counts") -> None:
        """All of the other's."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.waited.merge(other.waited)
        self.took.merge(other.took)


Tallied = dict[tuple[str, str], Counts]


class Tally:
    """Counts of one program, for one thread."""

    def __init__(
        self,
        clock: Clock,
        save: Callable[[Mapping[str, Any]], None] | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """``save`` is given what ``told`` is once more, at most once a second; without it counts
        are for nobody.
        """
        self._clock = clock
        self._save = save
        self._counts = tallied(told or {})
        self.wake = math.inf

    def attempt(self, task: str, outcome: str, waited: float, took: float) -> None:
        """An attempt has ended, which was due ``waited`` seconds before it began."""
        self._count(ATTEMPT, task, outcome, took).waited.add(max(0.0, waited))

    def call(self, task: str, outcome: str, took: float) -> None:
        """A foreground call has ended."""
        self._count(CALL, task, outcome, took)

    def tend(self) -> None:
        """Save what there is to save, if it is time (``wake``)."""
        if self._clock() >= self.wake:
            self.save()

    def save(self) -> None:
        """The same now."""
        if self._save is not None and self.wake < math.inf:
            self.wake = math.inf
            self._save(_told(self._counts))

    def _count(self, kind: str, task: str, outcome: str, took: float) -> Counts:
        counts = self._counts.get((kind, task))
        if counts is None:
            counts = self._counts[kind, task] = Counts()
        counts.outcomes[outcome] = counts.outcomes.get(outcome, 0) + 1
        counts.took.add(max(0.0, took))
        if self._save is not None and self.wake == math.inf:
            self.wake = self._clock() + _SAVE_SECONDS
        return counts


def tallied(told: Mapping[str, Any]) -> Tallied:
    """What a tally has saved; nothing where that was a version with other bounds."""
    if told.get("bounds") != list(BOUNDS):
        return {}
    found: Tallied = {}
    for kind, task, outcomes, waited, took in told["counts"]:
        counts = found[kind, task] = Counts()
        counts.outcomes = dict(outcomes)
        counts.waited, counts.took = Seconds(*waited), Seconds(*took)
    return found


def together(programs: Iterable[Tallied]) -> Tallied:
    """The counts of several programs."""
    found: Tallied = {}
    for one in programs:
        for key, counts in one.items():
            found.setdefault(key, Counts()).merge(counts)
    return found


def _told(counts: Tallied) -> dict[str, Any]:
    return {
        "bounds": BOUNDS,
        "counts": [
            [
                kind, task, one.outcomes,
                [one.waited.counts, one.waited.total],
                [one.took.counts, one.took.total],
            ]
            for (kind, task), one in counts.items()
        ],
    }  # fmt: skip
