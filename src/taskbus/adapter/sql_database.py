"""A SQL database as the store's parts use it: statements, transactions, and what is tried again."""

import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from taskbus.adapter.sql_kind import Kind, Lost, Unsure
from taskbus.adapter.sql_schema import event
from taskbus.adapter.sql_sqlite import Sqlite
from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import Event

T = TypeVar("T")

_MOST_ROWS = 64
_PAUSE = 0.005


class Hot:
    """A statement compiled once and given to the driver as it is.

    SQLAlchemy's own execution costs five times what the database needs for one row.
    """

    def __init__(
        self,
        engine: sa.Engine,
        statement: Any,
        columns: Sequence[str] = (),
        most_text: int | None = None,
    ) -> None:
        """``columns``: those that an insert fills, with no more text than so many characters at a
        time.
        """
        self._columns = columns
        self._most_text = most_text
        self._inserts: dict[int, str] = {}
        compiled = statement.compile(engine, column_keys=list(columns) or None)
        self.sql = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup
        # What the dialect adds, as SQLite's OFFSET 0.
        self._own = {name: value for name, value in compiled.params.items() if value is not None}

    def run(self, cursor: Any, **values: Any) -> Any:
        """Execute with these values; returns the cursor."""
        if self._own:
            values = self._own | values
        given = values if self._order is None else [values[name] for name in self._order]
        cursor.execute(self.sql, given)
        return cursor

    def run_each(self, cursor: Any, rows: Sequence[Any]) -> None:
        """Insert these rows, whose values are in the order of the insert's columns."""
        if self._order is None:
            cursor.executemany(
                self.sql, [dict(zip(self._columns, row, strict=True)) for row in rows]
            )
            return
        begin = 0
        while begin < len(rows):
            # Sizes that are powers of two: few statements, which the driver keeps prepared.
            size = min(1 << (len(rows) - begin).bit_length() - 1, _MOST_ROWS)
            while size > 1 and self._is_too_long(rows[begin : begin + size]):
                size //= 2
            values = [value for row in rows[begin : begin + size] for value in row]
            cursor.execute(self._rows(size), values)
            begin += size

    def _is_too_long(self, rows: Sequence[Any]) -> bool:
        if self._most_text is None:
            return False
        texts = (value for row in rows for value in row if isinstance(value, str))
        return sum(map(len, texts)) > self._most_text

    def _rows(self, size: int) -> str:
        """The insert of so many rows. One statement for many: between statements the driver hands
        the interpreter's lock to and fro, which costs more than the rows.
        """
        if size not in self._inserts:
            head, values, row = self.sql.rpartition(" VALUES ")
            self._inserts[size] = head + values + ", ".join([row] * size)
        return self._inserts[size]


class SqlDatabase:
    """Connections to a database. Every driver's error leaves it as StoreUnavailable."""

    def __init__(self, url: str) -> None:
        """``url``: SQLAlchemy's. Raises StoreUnavailable where it is none that can be used."""
        try:
            kind = _kind(sa.make_url(url))
            # Every transaction here is written out; nothing begins one by itself.
            # Every thread that uses it keeps a connection: the pool must not run out of them.
            self._engine = sa.create_engine(
                kind.url, isolation_level="AUTOCOMMIT", max_overflow=-1, **kind.options
            )
        except (exc.ArgumentError, ImportError) as error:
            raise StoreUnavailable(
                f"the store's URL cannot be used: {error}",
                field="store.url",
                remedy="write sqlite:////path, mysql+pymysql://user:password@host/database or "
                "mongodb://user:password@host/database",
            ) from None
        self._kind = kind
        self._driver: Any = self._engine.dialect.dbapi
        self._local = threading.local()
        self._kept: weakref.WeakSet[Any] = weakref.WeakSet()
        self._kept_lock = threading.Lock()
        kind.prepare(self._engine)

    def _hot(self, statement: Any, columns: Sequence[str] = ()) -> Hot:
        return Hot(self._engine, statement, columns, self._kind.most_text)

    def _prepare_journal(self) -> None:
        """Once the tables are there."""
        columns = (("position",) if self._kind.numbers else ()) + Event._fields
        self._insert_event = self._hot(sa.insert(event), columns)
        self._newest = self._hot(self._kind.newest)

    def _record(self, cursor: Any, events: Sequence[Event]) -> None:
        """Add to the journal: the last thing that a transaction does; see ``MySql``."""
        if not events:
            return
        rows: Sequence[Any] = events
        if self._kind.numbers:
            first = self._kind.take_positions(cursor, len(events))
            rows = [(position, *one) for position, one in enumerate(events, first)]
        self._insert_event.run_each(cursor, rows)

    def close(self) -> None:
        """Let go of files and connections."""
        with self._kept_lock:
            for connection in tuple(self._kept):
                connection.close()
        self._engine.dispose()

    def _transact(
        self,
        work: Callable[[Any], T],
        durable: bool = True,
        recall: Callable[[Any], T | None] | None = None,
    ) -> T:
        """What ``work(cursor)`` returns, as one transaction. It is done again where another one
        was in the way, or the connection broke before the commit.

        ``recall(cursor)`` answers for an earlier commit of which it is not known whether it was
        done: what ``work`` has returned, or None where it was not. It has to lock what it reads,
        since that commit may still be under way.
        """
        is_unsure, tried = False, 0
        while True:
            tried += 1
            try:
                with self._write(durable) as cursor:
                    found = recall(cursor) if is_unsure and recall else None
                    return work(cursor) if found is None else found
            except StoreUnavailable as error:
                is_unsure = is_unsure or isinstance(error, Unsure)
                if tried >= self._tries(error, recall is not None):
                    raise
            time.sleep(random.uniform(0, _PAUSE * 2**tried))  # noqa: S311 - no secret

    def _tries(self, error: StoreUnavailable, can_recall: bool) -> int:
        if isinstance(error, Lost):
            return 2 if can_recall or not isinstance(error, Unsure) else 1
        return self._kind.tries(error.__cause__)

    def _change(self, work: Callable[[sa.Connection], T]) -> T:
        """As ``_transact``, on a pooled connection: for what is done now and then."""
        tried = 0
        while True:
            tried += 1
            try:
                # Returned to the pool, the connection undoes what was not committed.
                with self._read() as db:
                    db.exec_driver_sql(self._kind.begin)
                    done = work(db)
                    db.exec_driver_sql("COMMIT")
                    return done
            except StoreUnavailable as error:
                if isinstance(error, Lost) or tried >= self._tries(error, False):
                    raise
            time.sleep(random.uniform(0, _PAUSE * 2**tried))  # noqa: S311 - no secret

    def _ask(self, statement: Hot, **values: Any) -> list[Any]:
        """The rows of a query, on this thread's own connection."""
        for is_last in (False, True):
            try:
                with self._cursor() as cursor:
                    found: list[Any] = statement.run(cursor, **values).fetchall()
                    return found
            except Lost:
                if is_last:
                    raise
        raise AssertionError

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        """A pooled connection, for what is asked now and then."""
        with self._told(), self._engine.connect() as db:
            yield db

    @contextmanager
    def _write(self, durable: bool = True) -> Iterator[Any]:
        """One transaction, undone when its body raises; see ``_transact``."""
        with self._cursor(self._kind.begin) as cursor:
            try:
                yield cursor
            except BaseException:
                self._roll_back(cursor)
                raise
            try:
                cursor.execute("COMMIT")
            except self._driver.Error as error:
                if not self._kind.is_lost(error):
                    raise
                self._drop()
                raise Unsure(f"the store did not answer a commit: {error}") from error
            if durable:
                self._kind.sync()

    def _roll_back(self, cursor: Any) -> None:
        try:
            cursor.execute("ROLLBACK")
        except self._driver.Error:
            # Closing the connection undoes it as well.
            self._drop()

    @contextmanager
    def _cursor(self, first: str = "") -> Iterator[Any]:
        """A cursor on this thread's own connection, which has executed ``first``.

        A pooled connection would cost more than the statements that most calls run on it.
        """
        try:
            yield self._ready(first)
        except self._driver.Error as error:
            if self._kind.tries(error) == 1:
                self._drop()
            raise self._unavailable(error) from error

    def _ready(self, first: str) -> Any:
        """A connection that broke since it was used last is made anew."""
        try:
            return self._executed(first)
        except self._driver.Error as error:
            if not self._kind.is_lost(error):
                raise
            self._drop()
            return self._executed(first)

    def _executed(self, first: str) -> Any:
        cursor = getattr(self._local, "cursor", None)
        if cursor is None:
            with self._told():
                # Kept: the pool would take it back when nothing refers to it.
                connection = self._local.connection = self._engine.raw_connection()
            with self._kept_lock:
                self._kept.add(connection)
            cursor = self._local.cursor = self._local.connection.cursor()
        if first:
            cursor.execute(first)
        return cursor

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The errors of the driver and of SQLAlchemy as ours."""
        try:
            yield
        except exc.DBAPIError as error:
            raise self._unavailable(error.orig or error) from error.orig
        except exc.TimeoutError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        lost = Lost if self._kind.is_lost(error) else StoreUnavailable
        return lost(f"the store did not answer: {error}")

    def _drop(self) -> None:
        """This thread's connection is of no use any more."""
        if getattr(self._local, "cursor", None) is not None:
            self._local.connection.invalidate()
            self._local.cursor = None


def _kind(url: sa.URL) -> Kind:
    """A driver is imported only where a URL asks for it."""
    if url.get_backend_name() == "sqlite":
        return Sqlite(url)
    if url.get_backend_name() in ("mysql", "mariadb"):
        from taskbus.adapter.sql_mysql import MySql

        return MySql(url)
    raise exc.ArgumentError(f"{url.get_backend_name()!r} is not a database that it knows")
