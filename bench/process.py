"""Start, stop and account for the processes of a contestant (Linux only: reads /proc)."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """The part of /proc/<pid>/stat that matters here."""

    pid: int
    parent: int
    ticks: int
    """CPU used by the process and by the children it has reaped, and theirs."""
    started: int


def spawn(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `argv` with its output appended to `log`; the kernel kills it if the harness dies."""
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is the harness's to act upon
        )


def stop(processes: Iterable[subprocess.Popen[bytes]], patience: float = 15.0) -> None:
    """TERM each process, wait `patience` seconds for all, then KILL what is left of the trees."""
    running = [process for process in processes if process.poll() is None]
    # Before the TERM: the children of a process that has gone can no longer be told from others.
    members = tree(process.pid for process in running)
    for process in running:
        process.terminate()
    deadline = time.monotonic() + patience
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for member in members:
        now = _stat(member.pid)
        if now is not None and now.started == member.started:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
    for process in running:
        process.wait()


def cpu_seconds(roots: Iterable[int]) -> float:
    """CPU seconds (user and system) used so far by the trees below `roots`.

    A child that was waited for is in its parent's count and no longer in /proc; one that still
    runs is in /proc and in nobody else's count: so each is counted once. A contestant must not
    ignore SIGCHLD (the kernel then drops the child's time) nor orphan children.
    """
    return sum(member.ticks for member in tree(roots)) / TICKS_PER_SECOND


def tree(roots: Iterable[int]) -> list[Stat]:
    """Return the processes `roots` and all their descendants that are alive now."""
    everyone = [_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    alive = {stat.pid: stat for stat in everyone if stat is not None}
    children: dict[int, list[int]] = {}
    for stat in alive.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: dict[int, Stat] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid in alive and pid not in found:
            found[pid] = alive[pid]
            waiting += children.get(pid, [])
    return list(found.values())


def _stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may hold spaces and brackets: count from the last one. Field 3 is [0].
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return Stat(pid, int(fields[1]), ticks, int(fields[19]))


def wait_until(true: Callable[[], bool], what: str, timeout: float, interval: float = 0.01) -> None:
    """Ask every `interval` seconds until `true`; TimeoutError names `what` after `timeout`."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)
