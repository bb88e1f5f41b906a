"""What a background job costs in PHP, forked from a warm PHP and started cold, and in Python.

    python -m bench.php [--rounds 3] [--scale 1.0] [--samples 50]

Everything else is the same, and is measured as bench/measure.py tells.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.environment import REPO
from bench.measure import WORKERS, drained, percentile, started
from bench.report import machine, table
from bench.taskbus_peer import Taskbus

RESULTS = REPO / "bench" / "php.md"
_PHP = f"""
[php]
client = "{REPO}/clients/php"
tasks = "{REPO}/bench/php_tasks"
processes = 1
warm = {{}}
"""
PYTHON, WARM, COLD = "Python", "PHP, warm", "PHP, cold"


class Variant(NamedTuple):
    """What runs the jobs, and how many of them a drain has: a few seconds' work."""

    make: Callable[[], Taskbus]
    jobs: int


VARIANTS = {
    PYTHON: Variant(Taskbus, 10_000),
    WARM: Variant(lambda: Taskbus(more=_PHP.format("true"), kind="php"), 5000),
    COLD: Variant(lambda: Taskbus(more=_PHP.format("false"), kind="php"), 500),
}


class Figures(NamedTuple):
    """Jobs a second, CPU seconds for a thousand, and milliseconds from the call that submits a job
    to the task's first line, on an idle bus.
    """

    drain: float
    cpu: float
    p50: float
    p99: float


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.php", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians over these")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of jobs")
    parser.add_argument("--samples", type=int, default=50, help="jobs for an idle bus, each round")
    options = parser.parse_args()
    # Each round has every variant, so that what the machine does meanwhile bears on all of them.
    rounds = [
        {
            title: measure(
                one.make(), max(WORKERS, round(one.jobs * options.scale)), options.samples
            )
            for title, one in VARIANTS.items()
        }
        for _ in range(options.rounds)
    ]
    text = report(rounds)
    RESULTS.write_text(text)
    print(text)


def measure(bus: Taskbus, jobs: int, samples: int) -> Figures:
    """A bus with one worker of four slots."""
    with started(bus) as folder:
        bus.start_workers(WORKERS)
        drain, cpu = drained(bus, folder, jobs)
        taken = bus.latencies(samples, folder)
    idle = [1000 * (sample.started - sample.called) for sample in taken]
    return Figures(drain, cpu, statistics.median(idle), percentile(idle, 0.99))


def report(rounds: Sequence[dict[str, Figures]]) -> str:
    """The whole report, in Markdown."""
    rows = [
        [title, *(f"{_median(rounds, title, nth):,.{digits}f}" for nth, digits in _DIGITS)]
        for title in VARIANTS
    ]
    ratios = [
        ["warm PHP's drain / cold PHP's", _ratio(rounds, WARM, COLD, 0)],
        ["warm PHP's drain / Python's", _ratio(rounds, WARM, PYTHON, 0)],
        ["warm PHP's idle start p50 / cold PHP's", _ratio(rounds, WARM, COLD, 2)],
        ["warm PHP's idle start p50 / Python's", _ratio(rounds, WARM, PYTHON, 2)],
    ]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    head = ["", "drain (jobs/s)", "CPU s per 1000 jobs", "idle start p50 (ms)", "p99 (ms)"]
    return (
        f"# Jobs in PHP\n\n{today}; {machine()}; load average {os.getloadavg()[0]:.1f}.\n\n"
        f"No-op jobs, one worker with {WORKERS} slots, a fresh process for each job. Warm: forked "
        "from a PHP that has loaded the classes. Cold: a PHP of its own, started by a child of the "
        "worker. Python: forked from a Python that has imported the tasks. Idle start: from the "
        "call that submits a job until the task's first line. Each figure is the median of "
        f"{len(rounds)} round(s), (lowest to highest) behind a ratio of figures of the same "
        "round.\n\n"
        f"{table(head, rows)}\n\n{table(['ratio', ''], ratios)}\n"
    )


_DIGITS = ((0, 0), (1, 2), (2, 1), (3, 1))


def _median(rounds: Sequence[dict[str, Figures]], title: str, nth: int) -> float:
    return statistics.median(one[title][nth] for one in rounds)


def _ratio(rounds: Sequence[dict[str, Figures]], over: str, under: str, nth: int) -> str:
    found = [one[over][nth] / one[under][nth] for one in rounds]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


if __name__ == "__main__":
    main()
