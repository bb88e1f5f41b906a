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

# The socket module wraps this one in enums, which costs every child page faults.
from _socket import socketpair
from array import array
from collections.abc import Callable, Mapping, Sequence
from os import _exit, close, getppid
from typing import Any, NamedTuple, NoReturn

from taskbus.handler import Handler, build
from taskbus.model.json import load
from taskbus.model.task import TaskInput, TaskResult
from taskbus.worker.channel import MOST_CHILDREN, PACKET, receive_job, send_job
from taskbus.worker.child import live, report, run

_PR_SET_PDEATHSIG = 1
_WARM_ROUNDS = 30
_AGAIN_MILLISECONDS = 1000
_SOCKET, _RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_KILL = int(signal.SIGKILL)


class _Channels(NamedTuple):
    """Between the parent and one child: both ends of the job's socket, stdout and stderr."""

    parents: tuple[int, int, int]
    childs: tuple[int, int, int]

    @classmethod
    def made(cls) -> "_Channels":
        """New ones."""
        pairs = [[end.detach() for end in socketpair()], os.pipe(), os.pipe()]
        parents, childs = zip(*pairs, strict=True)
        return cls(parents, childs)


class Forker:
    """One loop over the parent's commands and the deaths of children."""

    def __init__(self, control: socket.socket, handlers: Mapping[str, Handler]) -> None:
        self._control = control
        self._handlers = handlers
        self._poll = select.poll()
        # Process descriptors become readable when the child is dead. A handler of SIGCHLD would
        # have to be undone in every child.
        self._children: dict[int, int] = {}
        self._prctl = ctypes.CDLL(None).prctl
        # Children that were asked for and are not made yet.
        self._owed = 0

    def run(self) -> None:
        """Serve until the parent is gone."""
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            pass  # It died before it had read everything.
        finally:
            self._abandon()

    def _serve(self) -> None:
        control = self._control.fileno()
        self._poll.register(control, select.POLLIN)
        while True:
            exits = []
            ready = self._poll.poll(_AGAIN_MILLISECONDS if self._owed else None)
            # No more than a packet has room for; the others are still ready in the next round.
            for fd, _ in ready[:MOST_CHILDREN]:
                if fd != control:
                    exits.append(self._reap(fd))
                elif not self._obey(self._control.recv(PACKET)):
                    return
            if exits:
                self._control.send(b"exits %b" % b" ".join(exits))
            while self._owed and self._fork(min(self._owed, MOST_CHILDREN)):
                pass

    def _obey(self, packet: bytes) -> bool:
        command, *words = packet.split() if packet else (b"",)
        if command == b"fork":
            self._owed += int(words[0])
        elif command == b"kill":
            pid, number = map(int, words)
            if pid in self._children.values():
                _kill_group(pid, number)
        return bool(packet)

    def _fork(self, count: int) -> bool:
        """So many children. What is written to between two forks is copied for each of them: there
        is nothing but the fork itself. False where the machine has no room for them all just now,
        of which the jobs in hand must not die.
        """
        forker, prctl, handlers = os.getpid(), self._prctl, self._handlers
        made = [_Channels.made() for _ in range(count)]
        ends = [end for each in made for end in each.parents + each.childs]
        inherited = [self._control.fileno(), *self._children, *ends]
        pids = []
        for _, childs in made:
            try:
                pid = os.fork()
            except OSError as error:
                sys.stderr.write(f"the next children have to wait: {error}\n")
                break
            if pid == 0:
                _become(childs, inherited, forker, prctl, handlers)
            pids.append(pid)
        for pid in pids:
            watch = os.pidfd_open(pid)
            self._children[watch] = pid
            self._poll.register(watch, select.POLLIN)
        if pids:
            rights = array("i", [end for each in made[: len(pids)] for end in each.parents])
            told = b"spares %b" % b" ".join([b"%d" % pid for pid in pids])
            self._control.sendmsg([told], [(_SOCKET, _RIGHTS, rights)])
        for end in ends:
            os.close(end)
        self._owed -= len(pids)
        return len(pids) == count

    def _reap(self, watch: int) -> bytes:
        """What to tell the parent of a dead child, once whatever it left running is dead too."""
        pid = self._children.pop(watch)
        self._poll.unregister(watch)
        os.close(watch)
        # Until it is reaped its pid, and so its group's number, cannot be given to another.
        _kill_group(pid, _KILL)
        _, status = os.waitpid(pid, 0)
        return b"%d %d" % (pid, status)

    def _abandon(self) -> None:
        """The parent is dead: nobody would settle what the children do."""
        for pid in self._children.values():
            _kill_group(pid, _KILL)


def _become(
    channels: tuple[int, int, int],
    inherited: Sequence[int],
    forker: int,
    prctl: Callable[..., int],
    handlers: Mapping[str, Handler],
) -> NoReturn:
    """A child's first steps. Every object that it touches costs it a page: it has all that it needs
    at hand.
    """
    try:
        prctl(_PR_SET_PDEATHSIG, _KILL)
        if getppid() == forker:
            for fd in inherited:
                if fd not in channels:
                    close(fd)
            live(*channels, handlers)
    finally:
        _exit(1)


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
            # Else nobody hears of it before its first job. stderr is the worker's log.
            sys.stderr.write(f"{pattern} will fail: {error}\n")
            handlers[pattern] = _failing(error)
    return handlers


def warm() -> None:
    """Run what every child runs, so that the interpreter has specialised it before the fork."""
    ours, theirs = socket.socketpair()
    job = b'{"handler":"","uri":"a.b","args":[1,"a"],"kwargs":{"a":1.5},"details":{"job":"a"}}'
    with ours, theirs:
        for _ in range(_WARM_ROUNDS):
            send_job(ours, job)
            given = receive_job(theirs.fileno()) or b""
            outcome = run(theirs.fileno(), given, {"": lambda task: TaskResult(*task.args)})
            report(theirs.fileno(), *outcome)
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
    # For this process alone, not for the programs of its tasks.
    os.environ.pop("LD_BIND_NOW", None)
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
