"""A real beanstalkd on a Unix socket, with a binlog, that a test may stop and start again."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = shutil.which("beanstalkd", path="/usr/local/bin:/usr/bin:/usr/sbin:/bin") or "beanstalkd"
_LOOK_AGAIN = 0.005


class Beanstalkd:
    """One server; its socket's path and its binlog stay the same over restarts."""

    def __init__(self, folder: Path) -> None:
        """``folder``: for socket and binlog; a short path, since it is a socket's."""
        self.address = str(folder / "beanstalkd.sock")
        self._binlog = folder / "binlog"
        self._binlog.mkdir(exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._process = subprocess.Popen(
            [_PROGRAM, "-l", f"unix:{self.address}", "-b", self._binlog, "-f", "0"]
        )
        while not self._answers():
            try:
                status = self._process.wait(_LOOK_AGAIN)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"beanstalkd ended with status {status}")

    def stop(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def drain(self) -> None:
        """From the next command on it takes no more entries."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.address)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True


@contextmanager
def running_beanstalkd(folder: Path) -> Iterator[Beanstalkd]:
    """A server with its files in ``folder``."""
    server = Beanstalkd(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
