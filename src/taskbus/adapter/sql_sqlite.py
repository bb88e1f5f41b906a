"""SQLite in WAL mode: the embedded default."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from taskbus.adapter.sql_kind import Kind
from taskbus.model.errors import StoreUnavailable

_BUSY_SECONDS = 30
_CHECKPOINT_PAGES = 4000


class Sqlite(Kind):
    """See Kind. It has one writer at a time, so positions are in the order of commits."""

    # A reader that turns writer would fail at once where another one writes.
    begin = "BEGIN IMMEDIATE"

    def prepare(self, engine: sa.Engine) -> None:
        """See Kind."""

        @sa.event.listens_for(engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000:.0f}")
            connection.execute("PRAGMA journal_mode=WAL")
            # A commit outlives the crash of any process; sync makes it outlive a power failure.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            connection.execute("PRAGMA foreign_keys=OFF")

    @contextmanager
    def alone(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """See Kind. Not even connecting can be left to SQLite: it does not wait for others where
        one of them turns the write-ahead log on.
        """
        folder = os.path.dirname(os.path.abspath(self.url.database or ""))
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreUnavailable(f"the store's folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with engine.connect() as db:
                yield db
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Bring the write-ahead log to the disk, as SQLite does with synchronous=FULL, but after
        the write lock is released, so that other writers need not wait for the disk.

        Opened anew each time: SQLite may have made a new file. It holds no locks on this one.
        """
        try:
            fd = os.open(f"{self.url.database}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StoreUnavailable(f"the store cannot sync its log: {error}") from error
