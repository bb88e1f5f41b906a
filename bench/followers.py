"""A thousand who follow one busy job over HTTP, and what they cost.

    python -m bench.followers [--followers 1000]

A job's journal grows as a chatty task makes it grow, four times a second; then as fast as the
store takes it. Times are from when an event is written to when a client has read it; clients and
writer share the machine with what they measure.
"""

import argparse
import json
import re
import selectors
import socket
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.environment import REPO
from bench.measure import percentile, started
from bench.process import cpu_seconds, tree
from bench.report import machine
from bench.taskbus_peer import Taskbus
from bench.taskbus_site import Site
from taskbus.adapter.doorbell import Doorbell
from taskbus.model.identity import new_job_id
from taskbus.model.job import Change, Job, State, Submission, born, move, note
from taskbus.wire import open_store

RESULTS = REPO / "bench" / "followers.md"
PARTS = ("router", "gateway", "control")
_EVERY = 0.25
_CALM_SECONDS = 15.0
_BURST = 400
_PATIENCE = 120.0
_AT = re.compile(rb'"seq":(\d+),"at":([0-9.]+)')
_END = b"event: end\n"


class Writer:
    """Writes the journal of a job that nobody runs."""

    def __init__(self, site: Site) -> None:
        self._store = open_store(f"sqlite:///{site.var}/data/taskbus.db")
        self._bell = Doorbell(site.var / "run" / "doorbell.sock")
        now = time.time()
        self._job = Job(
            id=new_job_id(), uri="com.example.bench.chatter", state=State.SCHEDULED, priority=500,
            timeout=300.0, retries=0, args="[]", kwargs="{}", details="{}", created=now,
            due=now + 86400, seq=1,
        )  # fmt: skip
        self._store.add([Submission(self._job, born(self._job, "submitted", "bench"))])
        self.id = self._job.id

    def write(self) -> None:
        """One event with a line of 80 bytes, as a worker writes it."""
        line = {"stream": "stdout", "text": f"{self._job.seq:079}\n"}
        self._apply(note(self._job, time.time(), [("output", line)]))

    def end(self) -> None:
        """The job has ended."""
        now = time.time()
        end = move(
            self._job, State.CANCELLED, now, reason="enough", actor="bench",
            finished=now, expires=now + 86400,
        )  # fmt: skip
        self._apply(end)
        self._store.close()
        self._bell.close()

    def _apply(self, change: Change) -> None:
        assert self._store.advance([change], durable=False) == [True]
        self._job = change.after
        self._bell.ring()

    @property
    def seq(self) -> int:
        """Of its last event."""
        return self._job.seq


class Followers:
    """Clients that only count, read by one thread."""

    def __init__(self, port: int, target: str, token: str, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._rest: dict[socket.socket, bytes] = {}
        # The last event that each of them has.
        self.seen: dict[socket.socket, int] = {}
        self.ended = 0
        self.latencies: list[float] = []
        self.delivered = 0
        head = f"GET {target} HTTP/1.0\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(head.encode())
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)
            self._rest[client], self.seen[client] = b"", 0

    def read(self, seconds: float) -> None:
        """What comes within this time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                self._take(key.fileobj)

    def read_until(self, seq: int) -> None:
        """Until all have got this event."""
        deadline = time.monotonic() + _PATIENCE
        while min(self.seen.values()) < seq:
            if time.monotonic() > deadline:
                raise TimeoutError(f"somebody has not got event {seq}")
            self.read(0.02)

    def close(self) -> None:
        """Hang up."""
        for client in self._rest:
            client.close()
        self._selector.close()

    def _take(self, client: socket.socket) -> None:
        data = self._rest[client] + client.recv(1 << 18)
        now = time.time()
        events, _, self._rest[client] = data.rpartition(b"\n")
        for seq, at in _AT.findall(events):
            if int(seq) != self.seen[client] + 1:
                raise RuntimeError(f"event {seq.decode()} after {self.seen[client]}")
            self.seen[client] = int(seq)
            self.latencies.append(now - float(at))
            self.delivered += 1
        self.ended += events.count(_END)


class Figures(NamedTuple):
    """Seconds, events per second, and MB of each part."""

    joined: float
    p50: float
    p99: float
    calm_cpu: float
    burst: float
    idle: Mapping[str, float]
    calm: Mapping[str, float]
    after: Mapping[str, float]


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.followers", description=__doc__)
    parser.add_argument("--followers", type=int, default=1000)
    options = parser.parse_args()
    bus = Taskbus()
    with started(bus) as folder:
        site = Site(folder / "site")
        text = report(options.followers, measure(bus, site, options.followers))
    RESULTS.write_text(text)
    print(text)


def measure(bus: Taskbus, site: Site, count: int) -> Figures:
    """All of it."""
    token = _key(site)
    pids = _pids(site)
    idle = _memory(pids)
    writer = Writer(site)
    target = f"/v1/jobs/{writer.id}/stream"
    began = time.monotonic()
    followers = Followers(site.port(), target, token, count)
    followers.read_until(writer.seq)
    joined = time.monotonic() - began
    followers.latencies.clear()
    before = cpu_seconds(bus.processes())
    for _ in range(round(_CALM_SECONDS / _EVERY)):
        writer.write()
        followers.read(_EVERY)
    followers.read_until(writer.seq)
    cpu = (cpu_seconds(bus.processes()) - before) / _CALM_SECONDS
    latencies = followers.latencies.copy()
    calm = _memory(pids)
    delivered, began = followers.delivered, time.monotonic()
    for _ in range(_BURST):
        writer.write()
    followers.read_until(writer.seq)
    burst = (followers.delivered - delivered) / (time.monotonic() - began)
    writer.end()
    followers.read_until(writer.seq)
    after = _memory(pids)
    followers.close()
    return Figures(
        joined, statistics.median(latencies), percentile(latencies, 0.99), cpu, burst, idle, calm,
        after,
    )  # fmt: skip


def _key(site: Site) -> str:
    told = _taskbus(site, "key", "create", "bench", "--scope", "*")
    return str(told["key"])


def _pids(site: Site) -> dict[str, int]:
    programs = _taskbus(site, "status")["programs"]
    return {one["name"]: one["pid"] for one in programs if one["name"] in PARTS}


def _taskbus(site: Site, *command: str) -> dict[str, Any]:
    program = str(REPO / ".venv" / "bin" / "taskbus")
    argv = [program, "--settings", str(site.settings), *command, "--json"]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _memory(pids: Mapping[str, int]) -> dict[str, float]:
    """MB that each has in memory, with the processes below it."""
    return {name: sum(_resident(one.pid) for one in tree([pid])) for name, pid in pids.items()}


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def report(count: int, told: Figures) -> str:
    """The page."""
    memory = [
        f"| {name} | {told.idle[name]:.0f} | {told.calm[name]:.0f} | {told.after[name]:.0f} |"
        for name in PARTS
    ]
    return "\n".join(
        [
            f"# {count:,} followers of one busy job, over HTTP",
            "",
            f"{time.strftime('%Y-%m-%d', time.gmtime())}; {machine()}; clients and writer on the "
            "same machine. An event is a line of output, told to each follower by itself.",
            "",
            "| | |",
            "| --- | --- |",
            f"| all have joined and got the first event | {told.joined:.1f} s |",
            f"| 4 events a second: latency, p50 | {1000 * told.p50:.0f} ms |",
            f"| the same, p99 | {1000 * told.p99:.0f} ms |",
            f"| the same, CPU of the whole bus | {100 * told.calm_cpu:.0f}% of one core |",
            f"| {_BURST} events as fast as they are written, delivered | {told.burst:,.0f}/s |",
            "",
            "| MB in memory | before | following | after the burst |",
            "| --- | --- | --- | --- |",
            *memory,
            "",
        ]
    )


if __name__ == "__main__":
    main()
