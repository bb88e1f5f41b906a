"""What Linux tells of the bus' programs: which of them are ready, and what memory they use."""

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskbus.adapter.process import Presence

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PATIENCE = 1.0

# The processes of each pool.
Pools = Mapping[str, Sequence[str]]


class Programs:
    """Those of one site."""

    def __init__(
        self, folder: Path, names: Sequence[str], sockets: Mapping[str, Path], pools: Pools
    ) -> None:
        """``names``: of those that say when they are ready; ``sockets``: where others listen."""
        self._folder = folder
        self._names = names
        self._sockets = sockets
        self._pools = pools

    def workers(self) -> dict[str, tuple[int, int]]:
        """By pool: how many there are to be, and how many take jobs."""
        return {
            pool: (len(names), sum(self._pid(name) is not None for name in names))
            for pool, names in self._pools.items()
        }

    def memory(self) -> dict[str, int]:
        """Resident bytes by program; nothing of those that do not run, or are hidden from us."""
        pids = {name: self._pid(name) for name in self._names}
        pids |= {name: listener(path) for name, path in self._sockets.items()}
        found = {name: _resident(pid) for name, pid in pids.items() if pid is not None}
        return {name: size for name, size in found.items() if size is not None}

    def _pid(self, name: str) -> int | None:
        about = Presence.look(self._folder, name)
        return None if about is None else int(about["pid"])


def listener(path: Path) -> int | None:
    """The process that listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
            told = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
        pid: int = struct.unpack("3i", told)[0]
        return pid


def _resident(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    return int(text.split()[1]) * _PAGE
