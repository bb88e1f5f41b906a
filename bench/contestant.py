"""What a contestant offers the harness, and what is measured of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ENQUEUE = "enqueue"  # the rate every contestant has: one process, one job at a time


@dataclass(frozen=True)
class Sample:
    """One job submitted to an idle system; CLOCK_REALTIME, seconds."""

    called: float
    acknowledged: float
    started: float


@dataclass(frozen=True)
class Figures:
    """One contestant, one round."""

    rates: Mapping[str, float]  # per second, workers stopped; ENQUEUE is one of them
    drain: float  # jobs per second
    cpu: float  # CPU seconds per 1000 jobs drained
    idle_p50: float  # milliseconds, acknowledged -> first line of the task
    idle_p99: float
    call_p50: float  # milliseconds, submit called -> first line of the task
    call_p99: float
    settings: str  # see Contestant.settings


class Contestant(Protocol):
    """A job bus. Per round: start, rates, stop; start, start_workers, drain, latencies, stop."""

    name: str
    drain_jobs: int
    """How many jobs take this contestant about 10 seconds."""

    def start(self, folder: Path) -> None:
        """Start everything but the workers, from nothing, with all files in `folder`."""

    def start_workers(self, slots: int) -> None:
        """Start workers that run `slots` jobs at once; need not wait until they are up."""

    def rates(self) -> Mapping[str, float]:
        """Jobs per second by way of submitting. The harness has not started the workers."""

    def submit(self, task: str, *args: str, count: int = 1) -> None:
        """Queue `count` jobs that call `task` of bench.tasks; return once all are accepted."""

    def latencies(self, samples: int, folder: Path) -> list[Sample]:
        """Run bench.tasks.stamp `samples` times, one at a time (see bench.producer)."""

    def settled(self) -> int:
        """How many jobs have finished and have their outcome recorded, since `start`."""

    def processes(self) -> list[int]:
        """Pids of the roots of every process tree that a drain's CPU is charged to."""

    def settings(self) -> str:
        """Versions, durability and pool in one sentence, asked of the running system."""

    def stop(self) -> None:
        """End every process started. Called after a failure too, however far `start` got."""
