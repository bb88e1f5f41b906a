"""The store in SQL, through SQLAlchemy Core. SQLite in WAL mode is the embedded default."""

import fcntl
import os
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from taskbus.adapter.sql_schema import (
    MIGRATIONS,
    VERSION,
    WAITING,
    event,
    job,
    key,
    link,
    metadata,
    placement,
    result,
    schema,
    tag,
)
from taskbus.model.errors import KeyTaken, StoreUnavailable
from taskbus.model.job import FINAL, Change, Event, Job, Key, Link, Placement, State, Submission
from taskbus.model.json import load
from taskbus.port.store import Entry

_STATES = {state.value: state for state in State}
_BUSY_SECONDS = 30
_CHECKPOINT_PAGES = 4000
_MOST_ROWS = 64
_WAITING = sa.text(WAITING)

_JOB_COLUMNS = [job.c[name] for name in Job._fields]
_EVENT_COLUMNS = [event.c[name] for name in Event._fields]

_KEY: sa.BindParameter[Any] = sa.bindparam("key")
_FIXED = frozenset(
    {
        "id",
        "uri",
        "priority",
        "timeout",
        "retries",
        "args",
        "kwargs",
        "details",
        "created",
        "queue",
        "policy",
        "tags",
        "cancel",
    }
)
_CHANGING = [name for name in Job._fields if name not in _FIXED]

# What every job goes through; see _Hot.
_GET = sa.select(*_JOB_COLUMNS).where(job.c.id == _KEY)
_ADVANCE = (
    sa.update(job)
    .where(job.c.id == _KEY, job.c.seq == sa.bindparam("before"))
    .values({name: sa.bindparam(name) for name in _CHANGING})
)
_NOTE = (
    sa.update(job)
    .where(job.c.id == _KEY, job.c.seq == sa.bindparam("before"))
    .values(seq=sa.bindparam("seq"))
)
_JOURNAL = (
    sa.select(event.c.position, *_EVENT_COLUMNS)
    .where(event.c.position > sa.bindparam("after"))
    .order_by(event.c.position)
    .limit(sa.bindparam("most"))
)

# What is asked now and then.
_RESULT = sa.select(result.c.body).where(result.c.job == _KEY)
_RENEW = (
    sa.update(job)
    .where(job.c.id == _KEY, job.c.attempt == sa.bindparam("mine"), job.c.state == State.RUNNING)
    .values(lease=sa.bindparam("until"))
)
_REPLAY = (
    sa.update(job)
    .where(job.c.id == _KEY)
    .values({name: sa.bindparam(name) for name in ("args", "kwargs", "cancel")})
)
_ASK_TO_END = (
    sa.update(job)
    .where(job.c.id == _KEY, job.c.attempt == sa.bindparam("mine"), job.c.state == State.RUNNING)
    .values(cancel=sa.func.coalesce(job.c.cancel, sa.bindparam("actor")))
)
_ASKED_TO_END = sa.select(job.c.id, job.c.cancel).where(
    job.c.id.in_(sa.bindparam("keys", expanding=True)), job.c.cancel.is_not(None)
)
_ENDED = sa.select(job.c.id).where(
    job.c.id.in_(sa.bindparam("keys", expanding=True)), job.c.state.in_(FINAL)
)
_EVENTS = (
    sa.select(*_EVENT_COLUMNS)
    .where(event.c.job == _KEY, event.c.seq > sa.bindparam("after"))
    .order_by(event.c.seq)
    .limit(sa.bindparam("most"))
)
_POSITION = sa.select(sa.func.max(event.c.position))
_DUE = (
    sa.select(*_JOB_COLUMNS)
    .where(_WAITING, job.c.due <= sa.bindparam("now"))
    .order_by(job.c.due)
    .limit(sa.bindparam("most"))
)
_NEXT_DUE = sa.select(sa.func.min(job.c.due)).where(_WAITING)
_UNPLACED = (
    sa.select(placement.c.job, job.c.priority, job.c.queue)
    .join(job, job.c.id == placement.c.job)
    .where(placement.c.since < sa.bindparam("before"))
    .order_by(placement.c.job)
    .limit(sa.bindparam("most"))
)
_COUNTS = sa.select(job.c.state, sa.func.count()).group_by(job.c.state)


class _Hot:
    """A statement compiled once and given to the driver as it is.

    SQLAlchemy's own execution costs five times what the database needs for one row.
    """

    def __init__(self, engine: sa.Engine, statement: Any, columns: Sequence[str] = ()) -> None:
        """``columns``: those that an insert fills."""
        self._columns = columns
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
            values = [value for row in rows[begin : begin + size] for value in row]
            cursor.execute(self._rows(size), values)
            begin += size

    def _rows(self, size: int) -> str:
        """The insert of so many rows. One statement for many: between statements the driver hands
        the interpreter's lock to and fro, which costs more than the rows.
        """
        if size not in self._inserts:
            head, values, row = self.sql.rpartition(" VALUES ")
            self._inserts[size] = head + values + ", ".join([row] * size)
        return self._inserts[size]


class SqlStore:
    """A Store on any database that SQLAlchemy reaches; see ``taskbus.port.store``."""

    def __init__(self, url: str) -> None:
        """``url``: SQLAlchemy's, for example ``sqlite:////var/lib/taskbus/taskbus.db``.

        Raises StoreUnavailable when it cannot be opened or has another schema version.
        """
        # Every transaction here is written out; nothing begins one by itself.
        # Every thread that uses the store keeps a connection: the pool must not run out of them.
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", max_overflow=-1)
        self._driver: Any = self._engine.dialect.dbapi
        self._local = threading.local()
        self._kept: weakref.WeakSet[Any] = weakref.WeakSet()
        self._kept_lock = threading.Lock()
        self._wal, self._begin = "", "BEGIN"
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
            self._wal = f"{self._engine.url.database}-wal"
            self._begin = "BEGIN IMMEDIATE"
        with _told(), _alone(self._engine), self._engine.connect() as db:
            self._create(db)
        hot = partial(_Hot, self._engine)
        self._get, self._advance, self._note = hot(_GET), hot(_ADVANCE), hot(_NOTE)
        self._journal, self._position = hot(_JOURNAL), hot(_POSITION)
        self._replay = hot(_REPLAY)
        self._insert_job = hot(sa.insert(job), Job._fields)
        self._insert_event = hot(sa.insert(event), Event._fields)
        self._insert_result = hot(sa.insert(result), ("job", "body"))
        self._delete_result = hot(sa.delete(result).where(result.c.job == _KEY))
        self._insert_placement = hot(sa.insert(placement), ("job", "since"))
        self._unplace = hot(sa.delete(placement).where(placement.c.job == _KEY))
        self._insert_key = hot(sa.insert(key), Key._fields)
        self._insert_link = hot(sa.insert(link), Link._fields)
        self._insert_tag = hot(sa.insert(tag), ("tag", "job"))
        self._key_holder = hot(sa.select(key.c.job).where(key.c.name == _KEY))
        self._expire_key = hot(
            sa.delete(key).where(key.c.name == _KEY, key.c.until <= sa.bindparam("now"))
        )
        self._release_keys = hot(sa.delete(key).where(key.c.job == _KEY, key.c.until.is_(None)))

    def _create(self, db: sa.Connection) -> None:
        """Make the tables where there are none."""
        metadata.create_all(db)
        found = db.execute(sa.select(schema.c.version)).scalar()
        if found is None:
            db.execute(sa.insert(schema).values(version=VERSION))
            return
        while found in MIGRATIONS:
            db.execute(sa.text("BEGIN"))
            for statement in MIGRATIONS[found]:
                db.execute(sa.text(statement))
            found += 1
            db.execute(sa.update(schema).values(version=found))
            db.execute(sa.text("COMMIT"))
        if found != VERSION:
            raise StoreUnavailable(
                f"the store has schema version {found}, this program needs {VERSION}",
                field="store.url",
                remedy="use the version of taskbus that made it",
            )

    def add(self, submissions: Sequence[Submission], placed: Sequence[str] = ()) -> None:
        """See Store."""
        jobs = [one.job for one in submissions]
        waiting = [(one.id, one.created) for one in jobs if one.state is State.QUEUED]
        with self._write() as cursor:
            if placed:
                cursor.executemany(self._unplace.sql, [(key,) for key in placed])
            self._insert_job.run_each(cursor, jobs)
            self._insert_event.run_each(cursor, [one.event for one in submissions])
            self._insert_placement.run_each(cursor, waiting)
            for one in submissions:
                self._insert_link.run_each(cursor, one.links)
                if one.job.tags != "[]":
                    tags = [(name, one.job.id) for name in load(one.job.tags)]
                    self._insert_tag.run_each(cursor, tags)
                if one.keys:
                    self._take_keys(cursor, one)

    def _take_keys(self, cursor: Any, submission: Submission) -> None:
        now = submission.job.created
        for one in submission.keys:
            self._expire_key.run(cursor, key=one.name, now=now)
            if self._key_holder.run(cursor, key=one.name).fetchone() is not None:
                raise KeyTaken(one.name)
        self._insert_key.run_each(cursor, submission.keys)

    def placed(self, jobs: Sequence[str]) -> None:
        """See Store."""
        with self._write(durable=False) as cursor:
            cursor.executemany(self._unplace.sql, [(key,) for key in jobs])

    def unplaced(self, before: float, limit: int) -> list[Placement]:
        """See Store."""
        with self._read() as db:
            rows = db.execute(_UNPLACED, {"before": before, "most": limit})
            return [Placement._make(row) for row in rows]

    def advance(self, changes: Sequence[Change], durable: bool = True) -> list[bool]:
        """See Store."""
        done: list[bool] = []
        # Another's change may have left the job just where a refused one would have.
        refused: set[str] = set()
        with self._write(durable) as cursor:
            for change in changes:
                done.append(change.before.id not in refused and self._apply(cursor, change))
                if not done[-1]:
                    refused.add(change.before.id)
        return done

    def _apply(self, cursor: Any, change: Change) -> bool:
        before, after = change.before, change.after
        if before.state is after.state:
            self._note.run(cursor, key=before.id, before=before.seq, seq=after.seq)
        else:
            changed = {name: getattr(after, name) for name in _CHANGING}
            self._advance.run(cursor, key=before.id, before=before.seq, **changed)
        if cursor.rowcount != 1:
            return False
        if before.state in FINAL:
            self._replay.run(
                cursor, key=before.id, args=after.args, kwargs=after.kwargs, cancel=after.cancel
            )
            cursor.execute(self._delete_result.sql, (before.id,))
        self._insert_event.run_each(cursor, change.events)
        if change.result is not None:
            cursor.execute(self._insert_result.sql, (after.id, change.result))
        if after.state in FINAL and after.tied:
            self._release_keys.run(cursor, key=after.id)
        if after.state is State.QUEUED and before.state is not State.RUNNING:
            # What a lost worker had is taken over by whoever the queue delivered it to.
            # An earlier placement may never have been confirmed.
            cursor.execute(self._unplace.sql, (after.id,))
            cursor.execute(self._insert_placement.sql, (after.id, change.events[-1].at))
        return True

    def renew(self, job: Job, lease: float) -> bool:
        """See Store."""
        with _told(), self._engine.begin() as db:
            found = db.execute(_RENEW, {"key": job.id, "mine": job.attempt, "until": lease})
            return found.rowcount == 1

    def ask_to_end(self, job: Job, actor: str) -> bool:
        """See Store."""
        with _told(), self._engine.begin() as db:
            found = db.execute(_ASK_TO_END, {"key": job.id, "mine": job.attempt, "actor": actor})
            return found.rowcount == 1

    def asked_to_end(self, jobs: Collection[str]) -> dict[str, str]:
        """See Store."""
        with self._read() as db:
            found = db.execute(_ASKED_TO_END, {"keys": list(jobs)})
            return {row[0]: row[1] for row in found}

    def remove(self, jobs: Collection[str]) -> list[str]:
        """See Store."""
        with _told(), self._engine.connect() as db:
            db.execute(sa.text(self._begin))
            keys = list(db.execute(_ENDED, {"keys": list(jobs)}).scalars())
            for table, column in (
                (job, job.c.id),
                (event, event.c.job),
                (result, result.c.job),
                (placement, placement.c.job),
                (key, key.c.job),
                (tag, tag.c.job),
                (link, link.c.before),
                (link, link.c.after),
            ):
                db.execute(sa.delete(table).where(column.in_(keys)))
            db.execute(sa.text("COMMIT"))
            return keys

    def job(self, job: str) -> Job | None:
        """See Store."""
        with self._cursor() as cursor:
            row = self._get.run(cursor, key=job).fetchone()
            return None if row is None else _job(row)

    def result(self, job: str) -> str | None:
        """See Store."""
        with self._read() as db:
            found: str | None = db.execute(_RESULT, {"key": job}).scalar()
            return found

    def jobs(
        self, states: Collection[State] = (), uri: str = "", before: str = "", limit: int = 100
    ) -> list[Job]:
        """See Store."""
        query = sa.select(*_JOB_COLUMNS)
        if uri.endswith(".*"):
            # '/' sorts right after '.': every URI below the namespace, and an index can serve it.
            query = query.where(job.c.uri > uri[:-1], job.c.uri < uri[:-2] + "/")
        elif uri:
            query = query.where(job.c.uri == uri)
        if before:
            query = query.where(job.c.id < before)
        newest = [query.where(job.c.state == state) for state in set(states)] or [query]
        with self._read() as db:
            # Each state by itself, since an index has the newest of one state, not of several.
            rows = [
                row
                for one in newest
                for row in db.execute(one.order_by(job.c.id.desc()).limit(limit))
            ]
        return sorted(map(_job, rows), key=itemgetter(0), reverse=True)[:limit]

    def due(self, now: float, limit: int) -> list[Job]:
        """See Store."""
        with self._read() as db:
            return [_job(row) for row in db.execute(_DUE, {"now": now, "most": limit})]

    def next_due(self) -> float | None:
        """See Store."""
        with self._read() as db:
            found: float | None = db.execute(_NEXT_DUE).scalar()
            return found

    def events(self, job: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """See Store."""
        with self._read() as db:
            rows = db.execute(_EVENTS, {"key": job, "after": after, "most": limit})
            return [Event._make(row) for row in rows]

    def journal(self, after: int, limit: int) -> list[Entry]:
        """See Store."""
        with self._cursor() as cursor:
            rows = self._journal.run(cursor, after=after, most=limit).fetchall()
            return [Entry(row[0], Event._make(row[1:])) for row in rows]

    def position(self) -> int:
        """See Store."""
        with self._cursor() as cursor:
            return self._position.run(cursor).fetchone()[0] or 0

    def counts(self) -> Mapping[State, int]:
        """See Store."""
        with self._read() as db:
            return {_STATES[state]: count for state, count in db.execute(_COUNTS)}

    def close(self) -> None:
        """See Store."""
        with self._kept_lock:
            for connection in tuple(self._kept):
                connection.close()
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with _told(), self._engine.connect() as db:
            yield db

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor on this thread's own connection, outside any transaction.

        A pooled connection would cost more than the statements that most calls run on it.
        """
        try:
            cursor = getattr(self._local, "cursor", None)
            if cursor is None:
                with _told():
                    # Kept: the pool would take it back when nothing refers to it.
                    connection = self._local.connection = self._engine.raw_connection()
                with self._kept_lock:
                    self._kept.add(connection)
                cursor = self._local.cursor = self._local.connection.cursor()
            yield cursor
        except self._driver.Error as error:
            self._local.connection.invalidate()
            self._local.cursor = None
            raise StoreUnavailable(f"the store did not answer: {error}") from error

    @contextmanager
    def _write(self, durable: bool = True) -> Iterator[Any]:
        """One transaction, undone when its body raises."""
        with self._cursor() as cursor:
            # A reader that turns writer would fail at once where another one writes.
            cursor.execute(self._begin)
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")
            if durable and self._wal:
                try:
                    _sync(self._wal)
                except OSError as error:
                    raise StoreUnavailable(f"the store cannot sync its log: {error}") from error


def _job(row: Any) -> Job:
    return Job(row[0], row[1], _STATES[row[2]], *row[3:])


@contextmanager
def _told() -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        raise StoreUnavailable(f"the store did not answer: {cause}") from error


def _sync(wal: str) -> None:
    """Bring the write-ahead log to the disk, as SQLite does with synchronous=FULL, but after the
    write lock is released, so that other writers need not wait for the disk.

    Opened anew each time: SQLite may have made a new file. It holds no locks on this one.
    """
    fd = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """Several processes may open a new SQLite file at the same moment: one at a time makes it, as
    SQLite does not wait for others where one of them turns the write-ahead log on.
    """
    if engine.dialect.name != "sqlite":
        yield
        return
    folder = os.path.dirname(os.path.abspath(engine.url.database or ""))
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreUnavailable(f"the store's folder {folder}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA journal_mode=WAL")
        # A commit outlives the crash of any process; _sync makes it outlive a power failure.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA foreign_keys=OFF")
