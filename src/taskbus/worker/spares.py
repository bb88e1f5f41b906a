"""The parent's end of a forker: spare children at hand, signals to send, deaths to hear of."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from taskbus.model.errors import TaskbusError
from taskbus.worker.channel import MOST_CHILDREN, PACKET, send_job

_START_SECONDS = 60.0
# The forker binds the functions of its libraries at its start, or each child would do so anew.
_BOUND = {"LD_BIND_NOW": "1"}


class ForkerGone(TaskbusError):
    """The forker died; the worker starts another one."""


class Child(NamedTuple):
    """A spare child: its process id and the parent's ends of its channels."""

    pid: int
    sock: socket.socket
    stdout: int
    stderr: int

    def start(self, job: bytes) -> None:
        """Hand it the job; raises OSError when the spare has died."""
        send_job(self.sock, job)
        self.sock.setblocking(False)

    def close(self) -> None:
        """Let go of it; a spare that never got a job leaves by itself."""
        self.sock.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Exit(NamedTuple):
    """A child and its whole process group are gone; ``status`` is its wait status."""

    pid: int
    status: int


class Spares:
    """Starts a forker and keeps a few spare children."""

    def __init__(
        self,
        handlers: Mapping[str, Any],
        path: Sequence[str],
        spares: int,
        forker: Sequence[str] | None = None,
    ) -> None:
        """``handlers``: for each pattern what the forker knows its task by; ``path``: where
        tasks are found; ``spares``: how many children wait at least; ``forker``: the program,
        Python's own where it is None; its last argument is its end of the control socket.

        Returns when the tasks are loaded; raises ForkerGone if that fails.
        """
        program = forker or (sys.executable, "-m", "taskbus.worker.forker")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*program, str(theirs.fileno())],
                    stdin=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env=os.environ | _BOUND if forker is None else None,
                    # A terminal's Ctrl-C is for the parent, which lets the job in hand finish.
                    start_new_session=True,
                )
        except OSError as error:
            self._control.close()
            raise ForkerGone(f"cannot start {program[0]}: {error.strerror}") from error
        self._idle: deque[Child] = deque()
        self._control.settimeout(_START_SECONDS)
        try:
            assert self._process.stdin is not None  # noqa: S101
            # One that has ended already says so below.
            with suppress(BrokenPipeError), self._process.stdin as stdin:
                stdin.write(json.dumps({"handlers": handlers, "path": list(path)}).encode())
            self.hear()
        except (OSError, ForkerGone) as error:
            self._process.kill()
            self.close()
            raise ForkerGone(f"the forker did not start: {error}") from error
        self._control.settimeout(None)
        # Forking several at a time costs the forker fewer page copies than one by one.
        self._batch = min(spares, MOST_CHILDREN)
        self._low = spares
        self._coming = 0
        self._replenish()

    def fileno(self) -> int:
        """Readable when ``hear`` has something to hear."""
        return self._control.fileno()

    def take(self) -> Child | None:
        """A spare child, and another one is on its way; None when none is ready yet."""
        if not self._idle:
            return None
        child = self._idle.popleft()
        self._replenish()
        return child

    def kill(self, child: Child, number: int) -> None:
        """Signal the child's whole process group."""
        self._say(b"kill %d %d" % (child.pid, number))

    def hear(self) -> list[Exit]:
        """Read one message of the forker: the exits of children with a job."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._control, PACKET, 3 * MOST_CHILDREN)
        except OSError as error:
            raise ForkerGone(f"the forker is gone: {error}") from error
        word, *numbers = packet.split() if packet else (b"",)
        if word == b"spares":
            for pid, sock, stdout, stderr in zip(
                map(int, numbers), fds[::3], fds[1::3], fds[2::3], strict=True
            ):
                os.set_blocking(stdout, False)
                os.set_blocking(stderr, False)
                self._coming -= 1
                self._idle.append(Child(pid, socket.socket(fileno=sock), stdout, stderr))
        elif word == b"exits":
            exits = map(Exit, map(int, numbers[::2]), map(int, numbers[1::2]))
            return [one for one in exits if not self._was_idle(one.pid)]
        elif word != b"ready":
            raise ForkerGone(f"the forker is gone (exit status {self._process.wait()})")
        return []

    def close(self) -> None:
        """End the forker and, with it, every child."""
        for child in self._idle:
            child.close()
        self._idle.clear()
        self._control.close()
        self._process.wait()

    def abandon(self, child: Child) -> None:
        """The forker died without ending this child's process group: do it here."""
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _replenish(self) -> None:
        while len(self._idle) + self._coming < self._low:
            self._coming += self._batch
            self._say(b"fork %d" % self._batch)

    def _say(self, packet: bytes) -> None:
        try:
            self._control.send(packet)
        except OSError as error:
            raise ForkerGone(f"the forker is gone: {error}") from error

    def _was_idle(self, pid: int) -> bool:
        for child in self._idle:
            if child.pid == pid:
                # Somebody killed a spare: replace it.
                self._idle.remove(child)
                child.close()
                self._replenish()
                return True
        return False
