"""``exec = ["program", "argument"]``: JSON on stdin, JSON on stdout, stderr is the log."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO

from taskbus.handler import Handler
from taskbus.handler.contract import LARGEST_ANSWER, answer, request
from taskbus.handler.perform import signal_name
from taskbus.model.errors import (
    HandlerUnreachable,
    InvalidResult,
    TaskFailure,
    TaskKilled,
    TaskTimeout,
)
from taskbus.model.task import TaskInput, TaskResult

_CHUNK = 65536
_TAIL = 2000


def exec_handler(target: Sequence[str], timeout: float | None) -> Handler:
    """A handler that runs the argument list once per call; no shell reads it."""
    argv = list(target)

    def run(task: TaskInput) -> TaskResult:
        try:
            # A timeout of our own needs a process group of our own to kill; without one, the
            # program stays in the group that the worker kills.
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=None if timeout is None else 0,
            )
        except OSError as error:
            raise HandlerUnreachable(
                f"cannot start {argv[0]}: {error.strerror}", value=argv[0]
            ) from error
        with process:
            try:
                output, errors = _converse(process, request(task), timeout)
            except BaseException:
                _kill(process, timeout is not None)
                raise
        return _judge(argv[0], process.returncode, output, errors)

    return run


def _converse(
    process: "subprocess.Popen[bytes]", given: bytes, timeout: float | None
) -> tuple[bytes, bytes]:
    """Feed stdin, collect stdout, pass stderr on as it comes; returns stdout and stderr's tail."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None and stdout is not None and stderr is not None  # noqa: S101, PT018
    deadline = None if timeout is None else time.monotonic() + timeout
    output, errors = bytearray(), b""
    for stream in (stdin, stdout, stderr):
        os.set_blocking(stream.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE)
        selector.register(stdout, selectors.EVENT_READ)
        selector.register(stderr, selectors.EVENT_READ)
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TaskTimeout(f"did not end within {timeout:g} seconds")
            for key, _ in selector.select(left):
                stream = key.fileobj  # type: ignore[assignment]
                if stream is stdin:
                    given = _feed(stdin, given)
                    if not given:
                        selector.unregister(stdin)
                        stdin.close()
                elif not (chunk := os.read(key.fd, _CHUNK)):
                    selector.unregister(stream)
                elif stream is stderr:
                    os.write(2, chunk)
                    errors = (errors + chunk)[-_TAIL:]
                elif len(output) + len(chunk) > LARGEST_ANSWER:
                    raise InvalidResult(f"the answer is larger than {LARGEST_ANSWER} bytes")
                else:
                    output += chunk
    _wait(process, deadline, timeout)
    return bytes(output), errors


def _wait(
    process: "subprocess.Popen[bytes]", deadline: float | None, timeout: float | None
) -> None:
    """A program may close its outputs long before it ends."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        process.wait(left)
    except subprocess.TimeoutExpired:
        raise TaskTimeout(f"did not end within {timeout:g} seconds") from None


def _feed(stdin: IO[bytes], given: bytes) -> bytes:
    """Write what fits; returns what is left, nothing where the program does not read it."""
    try:
        return given[os.write(stdin.fileno(), given) :]
    except BlockingIOError:
        return given
    except BrokenPipeError:
        return b""


def _kill(process: "subprocess.Popen[bytes]", own_group: bool) -> None:
    if own_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _judge(program: str, status: int, output: bytes, errors: bytes) -> TaskResult:
    said = errors.decode(errors="replace").strip()
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
