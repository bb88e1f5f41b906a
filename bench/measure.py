"""The one method by which every contestant is measured.

Drain: a gate job occupies each of the 4 workers, so all are up and have work in hand. The jobs
are then queued behind the closed gate, a last marked job behind them. The clock starts when
the gate opens, and stops when the contestant's own records say that every job is settled; they
are only asked once the marked job has run, so asking does not disturb the drain. No contestant
needs a pause command, none is charged for its start, and enqueueing takes no CPU meanwhile.

Idle start: the workers of the drain stay up; jobs are submitted one at a time, each 0.1 to
0.3 s after the previous one ran.
"""

import fcntl
import math
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contestant import Contestant, Figures
from bench.process import cpu_seconds, wait_until

WORKERS = 4
PATIENCE = 300.0  # seconds until something that should have happened counts as a failure


class Probe:
    """A datagram socket to which tasks tell that they run."""

    def __init__(self, address: Path) -> None:
        self.address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(PATIENCE)

    def wait(self) -> str:
        """Return the next message."""
        return self._socket.recv(100).decode()

    def close(self) -> None:
        """Forget the address too, so that another probe can have it."""
        self._socket.close()
        Path(self.address).unlink()


def measure(contestant: Contestant, samples: int, scale: float) -> Figures:
    """One round of `contestant`; `scale` multiplies the number of jobs drained."""
    with started(contestant):
        rates = contestant.rates()
    with started(contestant) as folder:
        contestant.start_workers(WORKERS)
        drain, cpu = drained(contestant, folder, max(WORKERS, round(contestant.drain_jobs * scale)))
        taken = contestant.latencies(samples, folder)
        settings = contestant.settings()
    idle = [1000 * (sample.started - sample.acknowledged) for sample in taken]
    call = [1000 * (sample.started - sample.called) for sample in taken]
    return Figures(
        rates=rates,
        drain=drain,
        cpu=cpu,
        idle_p50=statistics.median(idle),
        idle_p99=percentile(idle, 0.99),
        call_p50=statistics.median(call),
        call_p99=percentile(call, 0.99),
        settings=settings,
    )


def drained(contestant: Contestant, folder: Path, jobs: int) -> tuple[float, float]:
    """Jobs per second, and CPU seconds per 1000 jobs."""
    probe = Probe(folder / "drain.sock")
    lock = folder / "gate"
    with lock.open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        contestant.submit("gate", probe.address, str(lock), count=WORKERS)
        for _ in range(WORKERS):
            probe.wait()
        contestant.submit("noop", count=jobs)
        contestant.submit("stamp", probe.address)
        cpu_before = cpu_seconds(contestant.processes())
        opened = time.monotonic()
        fcntl.flock(gate, fcntl.LOCK_UN)
    probe.wait()
    # Nothing tells that the last outcome is recorded: ask. What is left is a few jobs' work.
    everything = WORKERS + jobs + 1
    wait_until(lambda: contestant.settled() >= everything, f"{contestant.name} settled", PATIENCE)
    seconds = time.monotonic() - opened
    cpu = cpu_seconds(contestant.processes()) - cpu_before
    probe.close()
    started = jobs + 1  # the gate jobs started before the clock did
    return started / seconds, 1000 * cpu / started


@contextmanager
def started(contestant: Contestant) -> Iterator[Path]:
    """Start it in a folder of its own, and stop it."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        try:
            contestant.start(folder)
            yield folder
        except Exception:
            _show_logs(folder)
            raise
        finally:
            contestant.stop()


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
