"""Writes the figures and, once taskbus is among the contestants, its ratios and targets."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.contestant import ENQUEUE, Figures
from bench.environment import pins
from bench.measure import WORKERS, percentile

TASKBUS = "taskbus"
RQ = "RQ"
RQ_TUNED = "RQ, tuned"
CELERY = "Celery prefork"
CELERY_ONE = "Celery, one task per child"
# Rates that only taskbus has.
BATCH = "batch submit"
WAMP = "enqueue over WAMP, 64 calls outstanding"
WAMP_NOOP = "router's no-op call, 64 outstanding"
BRIDGE = "POST /call to job id, 16 connections"
BRIDGE_NOOP = "POST /call of a no-op procedure, 16 connections"

Round = Mapping[str, Figures]  # by the contestant's name


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    title: str
    digits: int
    of: Callable[[Figures], float | None]


@dataclass(frozen=True)
class Target:
    """`mine` of taskbus, over `theirs` of `peer`, both of one round."""

    text: str
    peer: str
    mine: Measure
    theirs: Measure
    bound: float
    at_most: bool = False

    def ratios(self, rounds: Sequence[Round]) -> list[float]:
        """One ratio for each round that has both figures."""
        found = []
        for figures in rounds:
            if TASKBUS in figures and self.peer in figures:
                mine = self.mine.of(figures[TASKBUS])
                theirs = self.theirs.of(figures[self.peer])
                if mine is not None and theirs:
                    found.append(mine / theirs)
        return found

    def met(self, ratio: float) -> bool:
        """Whether this ratio is good enough."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound


def _rate(name: str) -> Measure:
    return Measure(f"{name} (per s)", 0, lambda figures: figures.rates.get(name))


DRAIN = Measure("drain (jobs/s)", 1, lambda figures: figures.drain)
CPU = Measure("CPU (s per 1000 jobs drained)", 2, lambda figures: figures.cpu)
IDLE_P50 = Measure("acknowledged to start, p50 (ms)", 2, lambda figures: figures.idle_p50)
IDLE_P99 = Measure("acknowledged to start, p99 (ms)", 2, lambda figures: figures.idle_p99)
CALL_P50 = Measure("submit called to start, p50 (ms)", 2, lambda figures: figures.call_p50)
CALL_P99 = Measure("submit called to start, p99 (ms)", 2, lambda figures: figures.call_p99)

TARGETS = (
    Target("drain >= 8x RQ, fork per job", RQ, DRAIN, DRAIN, 8),
    Target("drain >= 8x RQ, quiet, tasks imported before", RQ_TUNED, DRAIN, DRAIN, 8),
    Target("drain >= 40x Celery, one task per child", CELERY_ONE, DRAIN, DRAIN, 40),
    Target("drain >= 0.9x Celery prefork", CELERY, DRAIN, DRAIN, 0.9),
    Target("idle start p50 <= 1/8 of RQ's", RQ, IDLE_P50, IDLE_P50, 1 / 8, at_most=True),
    Target(f"{WAMP} >= 0.85x {WAMP_NOOP}", TASKBUS, _rate(WAMP), _rate(WAMP_NOOP), 0.85),
    Target(
        "idle start p50 <= 1/8 of tuned RQ's", RQ_TUNED, IDLE_P50, IDLE_P50, 1 / 8, at_most=True
    ),
    Target("batch submit >= 5x RQ's enqueue", RQ, _rate(BATCH), _rate(ENQUEUE), 5),
    Target(f"{BRIDGE} >= 0.85x {BRIDGE_NOOP}", TASKBUS, _rate(BRIDGE), _rate(BRIDGE_NOOP), 0.85),
)


def report(rounds: Sequence[Round], header: str) -> str:
    """Return the whole report, in Markdown."""
    settings = {name: each.settings for figures in rounds for name, each in figures.items()}
    sections = [
        "# Benchmark results",
        header,
        f"No-op jobs, {WORKERS} workers, {machine()}. Each figure is the median of "
        f"{len(rounds)} round(s), (lowest to highest) behind it. bench/measure.py tells the "
        "method. Trust the ratios within a run, not the figures of different runs.",
        _figures(rounds),
        "## Targets",
        _targets(rounds),
        "## Settings",
        "\n".join(f"- **{name}**: {text}." for name, text in settings.items()),
        f"Peers: {', '.join(pins())}.",
    ]
    return "\n\n".join(sections) + "\n"


def machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def _figures(rounds: Sequence[Round]) -> str:
    names = list(dict.fromkeys(name for figures in rounds for name in figures))
    rates = dict.fromkeys(
        rate for figures in rounds for each in figures.values() for rate in each.rates
    )
    measures = [*map(_rate, rates), DRAIN, CPU, IDLE_P50, IDLE_P99, CALL_P50, CALL_P99]
    rows = [
        [measure.title, *(_cell(measure, [each[name] for each in rounds]) for name in names)]
        for measure in measures
    ]
    return table(["", *names], rows)


def _cell(measure: Measure, figures: Sequence[Figures]) -> str:
    values = [value for value in map(measure.of, figures) if value is not None]
    return _spread(values, measure.digits)


def _targets(rounds: Sequence[Round]) -> str:
    if not any(TASKBUS in figures for figures in rounds):
        return "taskbus was not among the contestants of this run."
    rows = []
    for target in TARGETS:
        ratios = target.ratios(rounds)
        verdict = ("met" if target.met(statistics.median(ratios)) else "MISSED") if ratios else ""
        rows.append([target.text, _spread(ratios, 3), verdict or "not measured"])
    return table(["target (ratio of the same round)", "ratio", "verdict"], rows)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def latency_row(
    title: str, rates: Sequence[float], latencies: Sequence[Sequence[float]], digits: int
) -> list[str]:
    """A rate, p50 and p99 in ms: medians over rounds; ``latencies``: the seconds of each round."""
    middles = [
        statistics.median(percentile(one, share) for one in latencies) for share in (0.5, 0.99)
    ]
    return [
        title,
        f"{statistics.median(rates):,.0f}",
        *(f"{1000 * middle:.{digits}f}" for middle in middles),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
