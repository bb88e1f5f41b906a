"""Run the contestants in turn, round after round, and write bench/results.md."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable

from bench.celery_peer import Celery
from bench.contestant import Contestant
from bench.environment import REPO, peer_python
from bench.measure import measure
from bench.report import Round, report
from bench.rq_peer import Rq
from bench.taskbus_peer import Taskbus

CONTESTANTS: dict[str, Callable[[], Contestant]] = {
    "taskbus": Taskbus,
    "rq": lambda: Rq(peer_python()),
    "rq-tuned": lambda: Rq(peer_python(), is_tuned=True),
    "celery": lambda: Celery(peer_python()),
    "celery-one": lambda: Celery(peer_python(), one_task_per_child=True),
}
RESULTS = REPO / "bench" / "results.md"


def main() -> None:
    """Measure, write, print."""
    options = _options()
    # As an exception, so that `finally` ends the contestants' processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    contestants = [CONTESTANTS[name]() for name in options.only]
    loads: list[str] = []
    rounds: list[Round] = []
    for number in range(1, options.rounds + 1):
        loads.append(f"{os.getloadavg()[0]:.1f}")
        figures = {}
        for contestant in contestants:
            print(f"round {number} of {options.rounds}: {contestant.name}", flush=True)
            figures[contestant.name] = measure(contestant, options.samples, options.scale)
        rounds.append(figures)
    header = (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {options.samples} idle starts and "
        f"{options.scale:g} times the usual jobs per round; the machine's load average as each "
        f"round began: {', '.join(loads)}."
    )
    text = report(rounds, header)
    options.output.write_text(text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians over these")
    parser.add_argument("--samples", type=int, default=100, help="idle starts per round")
    parser.add_argument("--scale", type=float, default=1.0, help="1: a drain takes about 10 s")
    parser.add_argument(
        "--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME"
    )
    parser.add_argument("--output", type=lambda name: REPO / name, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
