"""``exec = ["program", "argument"]``: JSON on stdin, JSON on stdout, stderr is the log, and
progress is told on another descriptor (``taskbus.handler.told``).
"""

import os
import selectors
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext

from taskbus.handler import Handler
from taskbus.handler.contract import LARGEST_ANSWER, answer, request
from taskbus.handler.perform import signal_name
from taskbus.handler.spawn import STDOUT, Program, spawn
from taskbus.handler.told import Told
from taskbus.model.errors import (
    CpuExceeded,
    HandlerUnreachable,
    InvalidResult,
    TaskFailure,
    TaskKilled,
    TaskTimeout,
)
from taskbus.model.task import TaskInput, TaskResult
from taskbus.model.trace import trace_environment

_CHUNK = 65536
_TAIL = 2000


def exec_handler(target: Sequence[str], timeout: float | None, answer_on: int = STDOUT) -> Handler:
    """A handler that runs the argument list once per call; no shell reads it. ``answer_on``: see
    ``spawn``.
    """
    argv = list(target)

    def run(task: TaskInput) -> TaskResult:
        if timeout is not None:
            return execute(task)
        # In a worker's child TERM goes to the program, too, which may clean up. Nobody waits for it
        # where we are dead.
        heeded = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            return execute(task)
        finally:
            signal.signal(signal.SIGTERM, heeded)

    def execute(task: TaskInput) -> TaskResult:
        try:
            # A timeout of our own needs a process group of our own to kill; without one, the
            # program stays in the group that the worker kills.
            program = spawn(
                argv,
                own_group=timeout is not None,
                variables=trace_environment(task.details),
                answer=answer_on,
            )
        except OSError as error:
            raise HandlerUnreachable(
                f"cannot start {argv[0]}: {error.strerror}", value=argv[0]
            ) from error
        talk = _Talk(program, task, answer_on)
        try:
            with task.leash.tied(program.kill) if task.leash else nullcontext():
                talk.until_its_end(timeout)
        except BaseException:
            program.kill()
            raise
        finally:
            talk.close()
            status = program.reap()
        return _judge(argv[0], status, bytes(talk.output), talk.errors)

    return run


class _Talk:
    """Feeds stdin, collects the answer, passes stderr and progress on as they come."""

    def __init__(self, program: Program, task: TaskInput, answer_on: int) -> None:
        self._program = program
        self._given = memoryview(request(task))
        self._told = Told(task)
        self._open = {program.stdin, program.answer, program.stderr, program.told, program.ended}
        self._awaited = {program.ended, program.stderr}
        if answer_on == STDOUT:
            self._awaited.add(program.answer)
        self._selector = selectors.DefaultSelector()
        for fd in self._open:
            way = selectors.EVENT_WRITE if fd == program.stdin else selectors.EVENT_READ
            self._selector.register(fd, way)
        self.output = bytearray()
        self.errors = b""

    def until_its_end(self, timeout: float | None) -> None:
        """Until the program has ended and nobody is left who could write to its stdout or stderr.

        Its progress is not waited for, nor an answer elsewhere: a process in the background may
        hold on to these pipes. Raises TaskTimeout, and InvalidResult where the
        answer is too long.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._open & self._awaited:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TaskTimeout(f"did not end within {timeout:g} seconds")
            for key, _ in self._selector.select(left):
                self._serve(key.fd)
        # What it told before its end was there, and heard, together with that.
        self._told.end()

    def close(self) -> None:
        """Close our ends."""
        self._selector.close()
        for fd in self._open:
            os.close(fd)

    def _serve(self, fd: int) -> None:
        """One step; the last one closes it."""
        program = self._program
        if fd == program.ended:
            goes_on = False
        elif fd == program.stdin:
            goes_on = self._feed()
        else:
            goes_on = self._hear(fd)
        if not goes_on:
            self._selector.unregister(fd)
            self._open.discard(fd)
            os.close(fd)

    def _feed(self) -> bool:
        """Write what fits; False at the end, and where the program does not read it."""
        try:
            self._given = self._given[os.write(self._program.stdin, self._given) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            return False
        return bool(self._given)

    def _hear(self, fd: int) -> bool:
        """Read what is there; False at the end."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if fd == self._program.told:
            self._told.feed(chunk)
        elif fd == self._program.stderr:
            _write(2, chunk)
            self.errors = (self.errors + chunk)[-_TAIL:]
        elif len(self.output) + len(chunk) > LARGEST_ANSWER:
            raise InvalidResult(f"the answer is larger than {LARGEST_ANSWER} bytes")
        else:
            self.output += chunk
        return bool(chunk)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _judge(program: str, status: int, output: bytes, errors: bytes) -> TaskResult:
    said = errors.decode(errors="replace").strip()
    if status == -signal.SIGXCPU:
        raise CpuExceeded(f"{program} used more CPU time than it may", stderr=said or None)
    if status < 0:
        raise TaskKilled(f"{program} was killed by {signal_name(-status)}", stderr=said or None)
    if status > 0:
        # A program may answer an error and a status: its own words say more.
        if output:
            try:
                answer(output, program)
            except InvalidResult:
                pass
        raise TaskFailure(f"{program} exited with status {status}", stderr=said or None)
    return answer(output, program)
