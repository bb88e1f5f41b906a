"""Start a program with pipes for its input, its answer, its log and its progress.

``posix_spawn`` and not ``subprocess``: the program finds its progress on a descriptor of the same
small number each time, which a shell can name, whatever this process has open.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from taskbus.handler.guard import Guard
from taskbus.model.trace import VARIABLES

STDOUT = 1
# Where the program tells its progress; its number is also in the environment.
TOLD = 3
VARIABLE = "TASKBUS_FD"
# Where it answers instead of stdout, where that is its log.
ANSWER = 4
ANSWER_VARIABLE = "TASKBUS_ANSWER_FD"

# They may be ignored here; a program expects them as they are by default.
_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM)


_guard = Guard()


class Program(NamedTuple):
    """A running program: process id, a descriptor that is readable once it has ended, and our ends
    of its pipes, which do not block. Who has it closes them.
    """

    pid: int
    own_group: bool
    ended: int
    stdin: int
    answer: int
    stderr: int
    told: int

    def kill(self, hard: bool = True) -> None:
        """End it, with its process group where that is its own; not after ``reap``. Not ``hard``:
        it may clean up.
        """
        kill = os.killpg if self.own_group else os.kill
        kill(self.pid, signal.SIGKILL if hard else signal.SIGTERM)

    def reap(self) -> int:
        """Wait for its end; its exit status, the signal's negative number where it was killed."""
        if self.own_group:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            _guard.forget(self.pid)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def spawn(
    argv: Sequence[str],
    own_group: bool,
    variables: Mapping[str, str] | None = None,
    answer: int = STDOUT,
) -> Program:
    """Start it, looked for in PATH; raises OSError. ``own_group``: it leads a process group, which
    does not outlive us. ``variables``: for its environment. ``answer``: the descriptor on which it
    answers; with another one than stdout, its stdout is ours.
    """
    if own_group:
        _guard.prepare()
    ours: list[int] = []
    theirs: dict[int, int] = {}
    try:
        for number in (0, answer, 2, TOLD):
            read, write = os.pipe()
            ours.append(write if number == 0 else read)
            theirs[number] = read if number == 0 else write
            os.set_blocking(ours[-1], False)
        start = partial(os.posix_spawnp, setpgroup=0) if own_group else os.posix_spawnp
        pid = start(
            argv[0],
            list(argv),
            {**_own_environment(), **_numbers(answer), **(variables or {})},
            file_actions=[
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()),
                # Ascending: none of them is overwritten before it is where it has to be.
                *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in sorted(theirs.items())),
            ],
            setsigdef=_SIGNALS,
        )
        return Program(pid, own_group, _watched(pid, own_group), *ours)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs.values():
            os.close(fd)


def _own_environment() -> dict[str, str]:
    """Ours, but not the trace of whoever started the bus."""
    return {name: os.environ[name] for name in os.environ if name not in VARIABLES}


def _numbers(answer: int) -> dict[str, str]:
    apart = {} if answer == STDOUT else {ANSWER_VARIABLE: str(answer)}
    return {VARIABLE: str(TOLD), **apart}


def _inherited() -> list[int]:
    """What is none of the program's business. Python's own descriptors close themselves."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > TOLD and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            pass  # Closed by now, as that of the list itself.
    return found


def _watched(pid: int, own_group: bool) -> int:
    try:
        if own_group:
            _guard.watch(pid)
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        _guard.forget(pid)
        os.waitpid(pid, 0)
        raise
