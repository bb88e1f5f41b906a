"""The forker: warm with the task modules, lean in memory, it keeps spare children for the parent.

Started by the parent as ``python -m taskbus.worker.forker FD`` with a JSON object on stdin,
``{"handlers": {pattern: spec}, "path": [directory, ...]}``. It only forks, signals and reaps;
everything it imports makes each fork slower, so it imports next to nothing besides the tasks.
"""

import ctypes
import gc
import os
import select
import signal
import socket
import sys

# The signal and socket modules wrap these in enums, which costs every child page faults.
from _signal import signal as set_signal  # type: ignore[import-not-found]
from _socket import socketpair
from array import array
from collections.abc import Mapping
from typing import Any, NoReturn

from taskbus.handler import Handler, build
from taskbus.model.json import load
from taskbus.model.task import TaskInput, TaskResult
from taskbus.worker.channel import PACKET, receive_job, send_job
from taskbus.worker.child import live, report, run

_PR_SET_PDEATHSIG = 1
_WARM_ROUNDS = 30
_SOCKET, _RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_KILL, _CHILD, _DEFAULT = int(signal.SIGKILL), int(signal.SIGCHLD), int(signal.SIG_DFL)


class Forker:
    """One loop over the parent's commands and the deaths of children."""

    def __init__(self, control: socket.socket, handlers: Mapping[str, Handler]) -> None:
        self._control = control
        self._handlers = handlers
        self._children: set[int] = set()
        self._prctl = ctypes.CDLL(None).prctl
        self._woken, self._wakeup = socket.socketpair()
        for end in (self._woken, self._wakeup):
            end.setblocking(False)
        self._mine = (control.fileno(), self._woken.fileno(), self._wakeup.fileno())
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Serve until the parent is gone."""
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            pass  # It died before it had read everything.
        finally:
            self._abandon()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._woken.fileno():
                    self._woken.recv(PACKET)
                    self._reap()
                elif not self._obey(self._control.recv(PACKET)):
                    return

    def _obey(self, packet: bytes) -> bool:
        command, *words = packet.split() if packet else (b"",)
        if command == b"fork":
            for _ in range(int(words[0])):
                self._fork()
        elif command == b"kill":
            pid, number = map(int, words)
            if pid in self._children:
                _kill_group(pid, number)
        return bool(packet)

    def _fork(self) -> None:
        mine, childs = socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        forker = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._prctl(_PR_SET_PDEATHSIG, _KILL)
                if os.getppid() == forker:
                    signal.set_wakeup_fd(-1)
                    set_signal(_CHILD, _DEFAULT)
                    for fd in (*self._mine, mine.fileno(), out_read, err_read):
                        os.close(fd)
                    live(childs, out_write, err_write, self._handlers)  # type: ignore[arg-type]
            finally:
                os._exit(1)
        childs.close()
        os.close(out_write)
        os.close(err_write)
        self._children.add(pid)
        try:
            rights = array("i", [mine.fileno(), out_read, err_read])
            self._control.sendmsg([b"spare %d" % pid], [(_SOCKET, _RIGHTS, rights)])
        finally:
            mine.close()
            os.close(out_read)
            os.close(err_read)

    def _reap(self) -> None:
        """Tell the parent of each dead child, after whatever it left running is dead too."""
        while self._children:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            # Until it is reaped its pid, and so its group's number, cannot be given to another.
            _kill_group(found.si_pid, _KILL)
            _, status = os.waitpid(found.si_pid, 0)
            if found.si_pid in self._children:
                self._children.discard(found.si_pid)
                self._control.send(b"exit %d %d" % (found.si_pid, status))

    def _abandon(self) -> None:
        """The parent is dead: nobody would settle what the children do."""
        for pid in self._children:
            _kill_group(pid, _KILL)


def _kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # Not yet the leader of its group, or nobody left in it.
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def load_handlers(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Handler]:
    """A handler for each pattern; one that cannot be loaded fails its own jobs, not the others."""
    handlers: dict[str, Handler] = {}
    for pattern, spec in specs.items():
        try:
            handlers[pattern] = build(spec, None)
        except Exception as error:  # noqa: BLE001 - task code may raise anything at import
            handlers[pattern] = _failing(error)
    return handlers


def warm() -> None:
    """Run what every child runs, so that the interpreter has specialised it before the fork."""
    ours, theirs = socket.socketpair()
    job = b'{"handler":"","uri":"a.b","args":[1,"a"],"kwargs":{"a":1.5},"details":{"job":"a"}}'
    with ours, theirs:
        for _ in range(_WARM_ROUNDS):
            send_job(ours, job)
            given = receive_job(theirs) or b""
            report(theirs, run(theirs, given, {"": lambda task: TaskResult(*task.args)}))
            ours.recv(PACKET)


def spare_thread_bookkeeping() -> None:
    """Spare every child the reset of ``threading``'s locks after the fork.

    It costs as many page copies as all else that a child does before its job, and there is nothing
    to reset where this process has no other thread, whose locks a fork could have caught.
    """
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() == 1:
        threading._after_fork.__code__ = (lambda: None).__code__


def _failing(error: Exception) -> Handler:
    def fail(_task: TaskInput) -> TaskResult:
        raise error

    return fail


def main() -> NoReturn:
    """Entry point of the forker process."""
    control = socket.socket(fileno=int(sys.argv[1]))
    config = load(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:0] = config["path"]
    handlers = load_handlers(config["handlers"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    warm()
    spare_thread_bookkeeping()
    # Children must not collect what they inherit: touching a page copies it.
    gc.collect()
    gc.freeze()
    forker = Forker(control, handlers)
    control.send(b"ready")
    forker.run()
    os._exit(0)


if __name__ == "__main__":
    main()
