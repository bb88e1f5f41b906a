"""The bus on each store that it knows: what is submitted, run, cancelled and logged.

python -m bench.stores [--rounds 2] [--scale 0.25]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.environment import REPO
from bench.measure import WORKERS, drained, percentile, started
from bench.report import BATCH, WAMP, machine, table
from bench.taskbus_peer import Taskbus
from tests.support.mariadb import MariaDb
from tests.support.mongo import MongoDb

RESULTS = REPO / "bench" / "stores.md"
_DRAIN_JOBS = 4000
_CANCELS = 20
_LINES = 10_000

Figures = Mapping[str, float]


Databases = Callable[[], str]


@contextmanager
def _sqlite() -> Iterator[Databases]:
    # Each site makes a file of its own.
    yield str


@contextmanager
def _server(kind: type[MariaDb] | type[MongoDb]) -> Iterator[Databases]:
    # On the disk that SQLite has its file on, not where tests have their servers.
    with TemporaryDirectory(prefix="bench-") as folder:
        server = kind(Path(folder))
        server.start()
        try:
            yield server.database
        finally:
            server.stop()


STORES: Mapping[str, Callable[[], AbstractContextManager[Databases]]] = {
    "SQLite": _sqlite,
    "MariaDB": partial(_server, MariaDb),
    "MongoDB's protocol (secantusdb)": partial(_server, MongoDb),
}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.stores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="figures are medians over these")
    parser.add_argument("--scale", type=float, default=0.25, help="1: 4000 jobs are drained")
    parser.add_argument("--only", nargs="+", choices=STORES, default=list(STORES), metavar="NAME")
    options = parser.parse_args()
    chosen = {name: STORES[name] for name in options.only}
    rounds: dict[str, list[Figures]] = {name: [] for name in chosen}
    for number in range(1, options.rounds + 1):
        for name, serve in chosen.items():
            print(f"round {number} of {options.rounds}: {name}", flush=True)
            with serve() as database:
                rounds[name].append(_measure(database, options.scale))
    text = _report(rounds)
    RESULTS.write_text(text)
    print(text)


def _measure(database: Databases, scale: float) -> Figures:
    # What one bus has left undone, another one on its store would do.
    bus = Taskbus(database())
    with started(bus):
        rates = bus.rates()
    bus = Taskbus(database())
    with started(bus) as folder:
        bus.start_workers(WORKERS)
        drain, cpu = drained(bus, folder, max(WORKERS, round(_DRAIN_JOBS * scale)))
        cancels = bus.cancels(_CANCELS, folder)
        lines = bus.log_lines(_LINES)
    return {
        "enqueue over WAMP, 64 outstanding (jobs/s)": rates[WAMP],
        "batch submit (jobs/s)": rates[BATCH],
        "drain (jobs/s)": drain,
        "CPU (s per 1000 jobs drained)": cpu,
        "cancel called to job ended, p50 (ms)": 1000 * statistics.median(cancels),
        "cancel called to job ended, p99 (ms)": 1000 * percentile(cancels, 0.99),
        "log, one job (lines of 80 bytes/s)": lines,
    }


def _report(rounds: Mapping[str, Sequence[Figures]]) -> str:
    names = list(rounds)
    rows = []
    for measure in rounds[names[0]][0]:
        medians = [statistics.median(one[measure] for one in rounds[name]) for name in names]
        rows.append([measure, *(f"{each:,.{0 if each > 100 else 2}f}" for each in medians)])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"# The bus on each store\n\n{today}; {machine()}; no-op jobs, {WORKERS} at a time, a "
        f"process for each; medians of {len(rounds[names[0]])} round(s). A cancelled job was "
        f"running. Every store syncs a job to the disk before its id is returned.\n\n"
        f"{table(['', *names], rows)}\n"
    )


if __name__ == "__main__":
    main()
