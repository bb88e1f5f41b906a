"""A real MariaDB on a Unix socket, that a test may stop and start again."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pymysql

from tests.support.quick import quick_folder

_PATH = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/bin"
_LOOK_AGAIN = 0.02


class MariaDb:
    """One server; its socket's path and its data stay the same over restarts."""

    def __init__(self, folder: Path) -> None:
        """``folder``: for socket and data; a short path, since it is a socket's."""
        self._folder = folder
        self.address = str(folder / "m.sock")
        self._process: subprocess.Popen[bytes] | None = None
        self._count = count(1)
        self._user = [f"--user={'root' if os.geteuid() == 0 else os.environ.get('USER', '')}"]
        subprocess.run(
            [_program("mariadb-install-db"), "--no-defaults", *self._user,
             f"--datadir={folder / 'data'}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--skip-name-resolve"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("mariadbd"), "--no-defaults", *self._user,
                 f"--datadir={self._folder / 'data'}", f"--socket={self.address}",
                 f"--pid-file={self._folder / 'pid'}", "--skip-networking",
                 "--innodb-buffer-pool-size=16M", "--performance-schema=OFF",
                 "--innodb-log-file-size=16M", "--max-connections=500"],
                stdout=log, stderr=log,
            )  # fmt: skip
        while not self._answers():
            try:
                status = self._process.wait(_LOOK_AGAIN)
            except subprocess.TimeoutExpired:
                continue
            said = (self._folder / "log").read_text(errors="replace")
            raise RuntimeError(f"mariadbd ended with status {status}: {said[-2000:]}")

    def stop(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{next(self._count)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.address}"

    def execute(self, statement: str, database: str | None = None) -> list[Any]:
        """Run a statement as an administrator."""
        with self.connected(database) as (_, cursor):
            cursor.execute(statement)
            return list(cursor.fetchall())

    @contextmanager
    def connected(self, database: str | None = None) -> Iterator[tuple[Any, Any]]:
        """A connection and a cursor of an administrator."""
        with (
            pymysql.connect(
                unix_socket=self.address, user="root", database=database, autocommit=True
            ) as db,
            db.cursor() as cursor,
        ):
            yield db, cursor

    def cut(self) -> int:
        """Break every connection; returns how many there were."""
        mine = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
        found = [row[0] for row in self.execute(f"{mine} AND user = 'root'")]
        for one in found:
            try:
                self.execute(f"KILL CONNECTION {one}")
            except pymysql.OperationalError:
                continue  # Gone meanwhile.
        return len(found)

    def _answers(self) -> bool:
        # PyMySQL leaves the socket of a connection that failed to the garbage collection.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.address)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True


@contextmanager
def running_mariadb() -> Iterator[MariaDb]:
    """A server with its files in a temporary folder."""
    with quick_folder() as folder:
        server = MariaDb(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program(name: str) -> str:
    return shutil.which(name, path=_PATH) or name
