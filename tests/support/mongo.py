"""A server of MongoDB's protocol, with transactions and a disk, that a test may stop and start.

Debian has no MongoDB. $MONGODB_URL may name a real one, for the tests that stop nothing.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from pymongo import MongoClient

from tests.support.quick import quick_folder

# What a killed client has begun is undone, and no longer in the way of others, after five seconds;
# as with MongoDB's transactionLifetimeLimitSeconds, which has no option here, it would be sixty.
_PROGRAM = [
    sys.executable,
    "-c",
    "from secantus import cli, server\n"
    "server.SecantusDBServer.__init__.__kwdefaults__['transaction_lifetime_seconds'] = 5.0\n"
    "raise SystemExit(cli.main())",
]
_LOOK_AGAIN = 0.02


class MongoDb:
    """One server; its port and its data stay the same over restarts."""

    def __init__(self, folder: Path, durable: bool = True) -> None:
        """``folder``: for data and log. Not ``durable``: for tests that do not kill it."""
        # It loses commits when it is killed, though they ask for its journal.
        self._sync = ["--sync-on-commit"] if durable else []
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._count = count(1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address: tuple[str, int] = probe.getsockname()

    def start(self, *options: str) -> None:
        """Returns when it answers."""
        host, port = self.address
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_PROGRAM, "--host", host, "--port", str(port), "--cache-size", "512M",
                 "--storage-path", self._folder / "data", "--log-level", "WARNING",
                 *self._sync, *options],
                stdout=log, stderr=log, cwd=self._folder,
            )  # fmt: skip
        while not self._answers():
            try:
                status = self._process.wait(_LOOK_AGAIN)
            except subprocess.TimeoutExpired:
                continue
            said = (self._folder / "log").read_text(errors="replace")
            raise RuntimeError(f"the server ended with status {status}: {said[-2000:]}")

    def stop(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def cut(self) -> int:
        """Break every connection, of which there is at least one."""
        self.stop()
        self.start()
        return 1

    def database(self) -> str:
        """The URL of a new, empty database."""
        host, port = self.address
        return f"mongodb://{host}:{port}/t{next(self._count)}?directConnection=true"

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0


class RealMongoDb:
    """Somebody else's server; what was made there is removed."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._names: list[str] = []

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._names.append(f"taskbus_test_{os.getpid()}_{len(self._names)}")
        return self._url._replace(path=f"/{self._names[-1]}").geturl()

    def close(self) -> None:
        """Remove all."""
        with MongoClient[dict[str, object]](self._url.geturl()) as client:
            for name in self._names:
                client.drop_database(name)


@contextmanager
def running_mongo(durable: bool = True) -> Iterator[MongoDb]:
    """A server of our own with its files in a temporary folder."""
    with quick_folder() as folder:
        server = MongoDb(folder, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def some_mongo() -> Iterator[MongoDb | RealMongoDb]:
    """The server that the environment names, or one of our own."""
    url = os.environ.get("MONGODB_URL")
    if url is None:
        with running_mongo(durable=False) as server:
            yield server
        return
    real = RealMongoDb(url)
    try:
        yield real
    finally:
        real.close()
