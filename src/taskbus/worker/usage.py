"""What an attempt's processes use of memory and CPU time, and whether that is too much.

Counted are the child's process group and session, whatever they started, and what of this was seen
once and has gone its own way since. What makes itself a daemon between two looks is not seen: it
belongs to nobody any more.
"""

import logging
import math
import os
import resource
import signal
from collections.abc import Iterator
from typing import NamedTuple

from taskbus.model.errors import CpuExceeded, MemoryExceeded, TaskFailure
from taskbus.model.job import Job
from taskbus.model.policy import Policy

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
_MIB = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
# The kernel's own limit of CPU time, in whole seconds and for each process, comes that much later:
# it holds where the worker cannot look, as while the store does not answer.
_SLACK = 1
_LAST_WORDS = 5


class Used(NamedTuple):
    """Bytes that are in memory, pages that several processes share counted for each; seconds of
    CPU time, that of processes which somebody has waited for included.
    """

    memory: int
    cpu: float


class Limits:
    """The limits of one job, and the processes they are for."""

    def __init__(self, policy: Policy, pid: int) -> None:
        """``pid``: the child, before it begins. Raises OSError where it is dead."""
        self._policy = policy
        self._usage = Usage(pid)
        if policy.cpu is not None:
            _limit_cpu(pid, math.ceil(policy.cpu) + _SLACK)

    @classmethod
    def of(cls, job: Job, pid: int) -> "Limits | None":
        """None where the job has none."""
        if job.policy == "{}":
            return None
        policy = Policy.of(job.policy)
        return None if policy.memory is None and policy.cpu is None else cls(policy, pid)

    def exceeded(self) -> TaskFailure | None:
        """Look; the error of the job that uses too much."""
        used = self._usage.look()
        memory, cpu = self._policy.memory, self._policy.cpu
        if memory is not None and used.memory > memory * _MIB:
            return too_much_memory(memory, math.ceil(used.memory / _MIB))
        if cpu is not None and used.cpu > cpu:
            return too_much_cpu(cpu, used.cpu)
        return None

    def kill(self) -> None:
        """End all that the last look has seen."""
        self._usage.kill()

    def killed_by_kernel(self) -> TaskFailure:
        """The error where its own limit of CPU time came first."""
        return too_much_cpu(self._policy.cpu or 0.0, None)


def too_much_memory(limit: int, used: int) -> MemoryExceeded:
    """In MiB."""
    return MemoryExceeded(
        f"used {used} MiB of memory, its limit is {limit}", limit=limit, used=used
    )


def too_much_cpu(limit: float, used: float | None) -> CpuExceeded:
    """In seconds; None where nobody has counted."""
    said = f"{used:.2f} seconds" if used is not None else "too much"
    return CpuExceeded(
        f"used {said} of CPU time, its limit is {limit:g}",
        limit=limit,
        used=None if used is None else round(used, 2),
    )


class Usage:
    """The processes of one job, looked at now and then."""

    def __init__(self, pid: int) -> None:
        """``pid`` leads their group and their session."""
        self._pid = pid
        # Process ids are used again; with the time of their start they are not.
        self._seen: dict[int, int] = {}
        self._cpu = 0.0

    def look(self) -> Used:
        """What they use now. CPU time never becomes less."""
        members = self._members(list(_processes()))
        self._seen = {one.pid: one.start for one in members}
        self._cpu = max(self._cpu, sum(one.ticks for one in members) / _TICKS)
        return Used(sum(one.pages for one in members) * _PAGE, self._cpu)

    def kill(self) -> None:
        """Those that the last look has seen, whatever group they are in now."""
        for pid, start in self._seen.items():
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                found = _process(pid)
                if found is not None and found.start == start:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            except OSError:
                pass  # It is dead, or has become another user's.
            finally:
                os.close(handle)

    def _members(self, processes: list["_Process"]) -> list["_Process"]:
        children: dict[int, list[_Process]] = {}
        for one in processes:
            children.setdefault(one.parent, []).append(one)
        found: dict[int, _Process] = {}
        waiting = [one for one in processes if self._is_ours(one)]
        while waiting:
            one = waiting.pop()
            if one.pid not in found:
                found[one.pid] = one
                waiting += children.get(one.pid, ())
        return list(found.values())

    def _is_ours(self, one: "_Process") -> bool:
        return self._pid in (one.group, one.session) or self._seen.get(one.pid) == one.start


class _Process(NamedTuple):
    """A line of /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    session: int
    ticks: int
    start: int
    pages: int


def _processes() -> Iterator[_Process]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := _process(int(name))):
            yield found


def _process(pid: int) -> _Process | None:
    """None when it is gone, or another user's of whom /proc tells nothing (its option hidepid)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            line = file.read()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything.
    fields = line.rpartition(b")")[2].split()
    parent, group, session = map(int, fields[1:4])
    ticks = sum(map(int, fields[11:15]))
    return _Process(pid, parent, group, session, ticks, int(fields[19]), int(fields[21]))


def _limit_cpu(pid: int, seconds: int) -> None:
    try:
        _, most = resource.prlimit(pid, resource.RLIMIT_CPU)
        if most == resource.RLIM_INFINITY or most > seconds + _LAST_WORDS:
            resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds + _LAST_WORDS))
    except PermissionError as error:
        log.warning("the kernel does not limit the CPU time of jobs here: %s", error)
