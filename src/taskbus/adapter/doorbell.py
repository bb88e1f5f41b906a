"""The bell on one host: a Unix datagram socket. Rings that find nobody are lost."""

import os
import socket
from pathlib import Path


class Doorbell:
    """The writer's end; see ``taskbus.port.bell``."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)

    def ring(self) -> None:
        """See Bell."""
        try:
            self._sock.sendto(b"!", self._path)
        except OSError:
            # Nobody listens, or enough rings wait already: the listener looks by itself.
            pass

    def close(self) -> None:
        """Ring no more."""
        self._sock.close()


class Door:
    """The reader's end: wait for a ring."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path.unlink(missing_ok=True)
        self._sock.bind(str(path))
        os.chmod(path, 0o660)

    def wait(self, seconds: float) -> None:
        """Return at the first ring, or after that time; rings that came together count as one."""
        self._sock.settimeout(max(seconds, 0.001))
        try:
            while True:
                self._sock.recv(16)
                self._sock.settimeout(0)
        except (TimeoutError, BlockingIOError):
            pass

    def close(self) -> None:
        """Listen no more."""
        self._sock.close()
