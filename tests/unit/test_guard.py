"""What a killed process has called does not outlive it."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskbus.handler.guard import Guard
from tests.support.attempts import Watch
from tests.support.processes import python

# Once it was given something to do, it tells its own process id and that of a child of its own, and
# both stay for ever.
_PROGRAM = "cat >/dev/null; sleep 100000 & echo $$ $! >{fifo}; wait"
_CALLER = """
import sys
from taskbus.handler import build
from taskbus.model.task import TaskInput
call = build({{"kind": "exec", "target": ["sh", "-c", {program!r}]}}, {timeout})
call(TaskInput("a.b"))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_does_not_outlive_its_caller(tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    code = _CALLER.format(program=_PROGRAM.format(fifo=fifo), timeout=1000)
    with python("-c", code) as caller, ExitStack() as stack:
        pids = [int(word) for word in fifo.read_text(encoding="ascii").split()]
        watches = [stack.enter_context(Watch(pid)) for pid in pids]
        caller.send_signal(number)
        assert len(watches) == 2
        assert all(watch.ended() for watch in watches)


class Groups:
    """Process groups of one process each, and a guard."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.guard = Guard()

    def begin(self) -> int:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "100000"], {}, setpgroup=0)
        self._stack.callback(os.waitpid, pid, 0)
        self._stack.callback(os.kill, pid, signal.SIGKILL)
        self.guard.watch(pid)
        return pid

    def let_go(self) -> None:
        """As when the owner dies."""
        os.close(self.guard._pipe)
        os.waitpid(self.guard._pid, 0)


@pytest.fixture
def groups() -> Iterator[Groups]:
    with ExitStack() as stack:
        yield Groups(stack)


def test_only_what_is_left_is_killed(groups: Groups) -> None:
    left, forgotten = groups.begin(), groups.begin()
    groups.guard.forget(forgotten)
    with Watch(left) as watch, Watch(forgotten) as other:
        groups.let_go()
        assert watch.ended()
        assert not other.ended(0)


def test_a_guard_that_somebody_killed_is_replaced(groups: Groups) -> None:
    first = groups.begin()
    os.kill(groups.guard._pid, signal.SIGKILL)
    with Watch(groups.guard._pid) as gone:
        assert gone.ended()
    gone_too = groups.begin()
    groups.guard.forget(gone_too)
    with Watch(first) as watch, Watch(gone_too) as other:
        groups.let_go()
        assert watch.ended()
        assert not other.ended(0)
