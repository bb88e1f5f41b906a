"""What Linux tells of processes: who is alive, and what is ready."""

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

_PF_EXITING = 0x4


class ProcessLiveness:
    """Liveness by ``host/pid/start``: pids are reused, start times within a boot are not."""

    def __init__(self) -> None:
        self._host = _host()
        self._identity = f"{self._host}/{os.getpid()}/{_start(os.getpid())}"

    def identity(self) -> str:
        """See Liveness."""
        return self._identity

    def is_dead(self, identity: str) -> bool:
        """See Liveness. Of another host's processes nothing is known."""
        host, pid, start = identity.rsplit("/", 2)
        return host == self._host and _start(int(pid)) != start and not _is_hidden(int(pid))


class Presence:
    """A lock that a process holds while it is ready: it ends with the process, however it dies.

    Of several processes under one name, one holds it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.ready"
        self._fd: int | None = None
        self._about: dict[str, Any] = {}

    def hold(self, **about: Any) -> bool:
        """Say ready, with facts for whoever looks; False where another process has the name."""
        if self._fd is not None and about == self._about:
            return True
        if self._fd is None:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            # Waits only for those who look.
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._fd = fd
        self._about = about
        text = json.dumps({"pid": os.getpid(), **about}).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)
        return True

    def drop(self) -> None:
        """Not ready any more."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @staticmethod
    def look(folder: Path, name: str) -> dict[str, Any] | None:
        """The facts of who is ready under that name, or None."""
        try:
            fd = os.open(folder / f"{name}.ready", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # Nothing yet where its holder has the lock and is about to write.
            text = os.pread(fd, 4096, 0)
            found: dict[str, Any] | None = json.loads(text) if text else None
            return found
        finally:
            os.close(fd)
        return None


def _host() -> str:
    # Processes of different containers may share a host name, but not the boot and the namespace.
    namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    return f"{socket.gethostname()}/{boot}-{namespace}"


def _is_hidden(pid: int) -> bool:
    """Whether it is another user's, of whom /proc may tell nothing (its option hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.access(f"/proc/{pid}/stat", os.R_OK)
    except ProcessLookupError:
        pass
    return False


def _start(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; None when it is dead or dying."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    state, flags, start = fields[0], int(fields[6]), fields[19]
    return None if state in "ZX" or flags & _PF_EXITING else start
