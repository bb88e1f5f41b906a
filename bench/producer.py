"""The producer process: submits jobs through one contestant's client, in that one's Python.

    python -m bench.producer CLIENT rates COUNT
    python -m bench.producer CLIENT submit COUNT TASK [ARG...]
    python -m bench.producer CLIENT latencies COUNT FOLDER

CLIENT is a module with `connect() -> Client`. The last line printed is the answer in JSON.
"""

import importlib
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from bench.measure import Probe

WARM_UP = 200  # submissions that are not counted: connections, lazy imports, caches
PASSES = 4  # in which the ways take turns
WARM_STARTS = 5  # the same, one at a time, with workers that have already drained a queue
GAP = (0.1, 0.3)  # seconds between two latency samples, so that every bus is idle again


class Client(Protocol):
    """One connection to a contestant."""

    def submit(self, task: str, args: tuple[str, ...]) -> float:
        """Queue one job of bench.tasks; when its acceptance was known (CLOCK_REALTIME, s)."""

    def ways(self) -> Mapping[str, Callable[[int], object]]:
        """Ways to queue so many no-op jobs, by the name of their rate."""


def rates(client: Client, count: int) -> dict[str, float]:
    """Jobs per second, for each way of submitting.

    There and back again: what the machine does meanwhile bears on all of them alike.
    """
    ways = client.ways()
    seconds = dict.fromkeys(ways, 0.0)
    for enqueue in ways.values():
        enqueue(WARM_UP)
    names = list(ways)
    few = count // PASSES
    for nth in range(PASSES):
        for name in names[:: -1 if nth % 2 else 1]:
            begin = time.perf_counter()
            ways[name](few)
            seconds[name] += time.perf_counter() - begin
    return {name: PASSES * few / seconds[name] for name in ways}


def submit(client: Client, count: int, task: str, args: tuple[str, ...]) -> None:
    """Queue the same job `count` times."""
    for _ in range(count):
        client.submit(task, args)


def latencies(client: Client, count: int, folder: Path) -> list[tuple[float, float, float]]:
    """Return (called, acknowledged, started), CLOCK_REALTIME s, of `count` jobs one at a time."""
    probe = Probe(folder / "latency.sock")
    gaps = random.Random(count)
    samples = []
    for _ in range(WARM_STARTS + count):
        time.sleep(gaps.uniform(*GAP))
        called = time.time()
        acknowledged = client.submit("stamp", (probe.address,))
        samples.append((called, acknowledged, float(probe.wait())))
    probe.close()
    return samples[WARM_STARTS:]


def main(module: str, command: str, count: int, *args: str) -> None:
    """Do one command and print its answer."""
    client: Client = importlib.import_module(module).connect()
    answer: object = None
    if command == "rates":
        answer = rates(client, count)
    elif command == "submit":
        submit(client, count, args[0], args[1:])
    elif command == "latencies":
        answer = latencies(client, count, Path(args[0]))
    else:
        raise SystemExit(f"unknown command {command!r}")
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
