"""No program outlives the process that has called it, not even where that is killed.

A program with a process group of its own is told to a guard, a small process that kills what is
left when its pipe ends: the kernel closes that, however its owner dies. Lean: the forker imports
this.
"""

import os
import signal
import sys
from _thread import allocate_lock
from collections.abc import Iterable


class Guard:
    """Starts the guard with the first program, and anew where somebody killed it."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._groups: set[int] = set()
        self._pid = 0
        self._pipe = -1

    def prepare(self) -> None:
        """Be there before a program is, which so has not long to wait for its guard."""
        with self._lock:
            if not self._pid:
                self._start()

    def watch(self, group: int) -> None:
        """This process group has begun; raises OSError where there can be no guard."""
        with self._lock:
            self._groups.add(group)
            try:
                self._tell(b"+%d\n" % group)
            except OSError:
                self._start()

    def forget(self, group: int) -> None:
        """It has ended; its leader must not be reaped before, as its number would be free."""
        with self._lock:
            self._groups.discard(group)
            try:
                self._tell(b"-%d\n" % group)
            except OSError:
                pass  # The next guard will not hear of it at all.

    def _tell(self, lines: bytes) -> None:
        if not self._pid:
            raise BrokenPipeError
        os.write(self._pipe, lines)

    def _start(self) -> None:
        if self._pid:
            os.close(self._pipe)
            os.waitpid(self._pid, 0)
            self._pid = 0
        theirs, ours = os.pipe()
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "taskbus.handler.guard"],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)],
                # A terminal's Ctrl-C is for its owner.
                setsid=True,
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours
        self._tell(b"".join(b"+%d\n" % group for group in self._groups))


def main(lines: Iterable[bytes]) -> None:
    """The guard: until its owner is gone."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line.startswith(b"+") else groups.discard
        change(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main(sys.stdin.buffer)
