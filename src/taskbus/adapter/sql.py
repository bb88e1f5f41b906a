"""The store in SQL, through SQLAlchemy Core. SQLite is the embedded default."""

from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from taskbus.adapter.sql_database import SqlDatabase
from taskbus.adapter.sql_schema import (
    MIGRATIONS,
    VERSION,
    WAITING,
    event,
    job,
    key,
    link,
    metadata,
    place,
    placement,
    result,
    result_part,
    schema,
    tag,
)
from taskbus.adapter.stored import CHANGING, PART
from taskbus.model.errors import KeyTaken, StoreUnavailable
from taskbus.model.job import (
    FINAL,
    Change,
    Event,
    Job,
    Key,
    Link,
    Place,
    Placement,
    State,
    Submission,
)
from taskbus.model.json import load
from taskbus.port.store import Entry

_STATES = {state.value: state for state in State}
_WAITING = sa.text(WAITING)

job_columns = [job.c[name] for name in Job._fields]
_EVENT_COLUMNS = [event.c[name] for name in Event._fields]

_KEY: sa.BindParameter[Any] = sa.bindparam("key")

# What every job goes through; see _Hot.
_GET = sa.select(*job_columns).where(job.c.id == _KEY)
_ADVANCE = (
    sa.update(job)
    .where(job.c.id == _KEY, job.c.seq == sa.bindparam("before"))
    .values({name: sa.bindparam(name) for name in CHANGING})
)
# Who asks an attempt to end does not wait for the next one.
_RETRY = _ADVANCE.where(job.c.cancel.is_(None))
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
PARTS = sa.select(result_part.c.body).where(result_part.c.job == _KEY).order_by(result_part.c.part)
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
_after = job.alias("after_it")
# A job that has not ended waits for it, or looks back on it.
is_needed = sa.exists().where(
    link.c.before == job.c.id, _after.c.id == link.c.after, _after.c.state.not_in(FINAL)
)
_ENDED = (
    sa.select(job.c.id)
    .where(
        job.c.id.in_(sa.bindparam("keys", expanding=True)),
        job.c.state.in_(FINAL),
        ~is_needed,
    )
    .with_for_update()
)
_LOCKED_EVENT = (
    sa.select(*_EVENT_COLUMNS)
    .where(event.c.job == _KEY, event.c.seq == sa.bindparam("nth"))
    .with_for_update()
)
_EVENTS = (
    sa.select(*_EVENT_COLUMNS)
    .where(event.c.job == _KEY, event.c.seq > sa.bindparam("after"))
    .order_by(event.c.seq)
    .limit(sa.bindparam("most"))
)
_DUE = (
    sa.select(*job_columns)
    .where(_WAITING, job.c.due <= sa.bindparam("now"))
    .order_by(job.c.due)
    .limit(sa.bindparam("most"))
)
_NEXT_DUE = sa.select(sa.func.min(job.c.due)).where(_WAITING)
_UNPLACED = (
    sa.select(placement.c.job, job.c.priority, job.c.queue, placement.c.seq)
    .join(job, job.c.id == placement.c.job)
    .where(placement.c.since < sa.bindparam("before"))
    .order_by(placement.c.job)
    .limit(sa.bindparam("most"))
)
_TAGGED_JOB = tag.c.job
_TAGGED = sa.and_(tag.c.job == job.c.id, tag.c.tag == sa.bindparam("tag"))
_COUNTS = sa.select(job.c.state, sa.func.count()).group_by(job.c.state)


class SqlStore(SqlDatabase):
    """A Store on SQLite, MySQL or MariaDB; see ``taskbus.port.store``."""

    def __init__(self, url: str) -> None:
        """``url``: SQLAlchemy's, for example ``sqlite:////var/lib/taskbus/taskbus.db``.

        Raises StoreUnavailable when it cannot be opened or has another schema version.
        """
        super().__init__(url)
        with self._told(), self._kind.alone(self._engine) as db:
            self._create(db)
        hot = self._hot
        self._prepare_journal()
        self._get, self._advance, self._note = hot(_GET), hot(_ADVANCE), hot(_NOTE)
        self._journal, self._replay = hot(_JOURNAL), hot(_REPLAY)
        self._retry, self._locked_event = hot(_RETRY), hot(_LOCKED_EVENT)
        self._insert_job = hot(sa.insert(job), Job._fields)
        self._insert_result = hot(sa.insert(result), ("job", "body"))
        self._delete_result = hot(sa.delete(result).where(result.c.job == _KEY))
        self._insert_part = hot(sa.insert(result_part), ("job", "part", "body"))
        self._delete_parts = hot(sa.delete(result_part).where(result_part.c.job == _KEY))
        self._insert_placement = hot(sa.insert(placement), ("job", "since", "seq"))
        self._unplace = hot(
            sa.delete(placement).where(
                placement.c.job == _KEY, placement.c.seq <= sa.bindparam("nth")
            )
        )
        self._insert_key = hot(sa.insert(key), Key._fields)
        self._insert_link = hot(sa.insert(link), Link._fields)
        self._insert_tag = hot(sa.insert(tag), ("tag", "job"))
        self._key_until = hot(sa.select(key.c.until).where(key.c.name == _KEY))
        # Another one may have forgotten it, and taken it, since it was read.
        self._expire_key = hot(
            sa.delete(key).where(key.c.name == _KEY, key.c.until <= sa.bindparam("now"))
        )
        self._release_keys = hot(sa.delete(key).where(key.c.job == _KEY, key.c.until.is_(None)))
        self._insert_place = hot(sa.insert(place), Place._fields)
        self._expire_place = hot(
            sa.delete(place).where(
                place.c.lane == _KEY,
                place.c.nth == sa.bindparam("which"),
                place.c.until <= sa.bindparam("now"),
            )
        )
        self._release_place = hot(
            sa.delete(place).where(place.c.job == _KEY, place.c.until.is_(None))
        )

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

    def add(self, submissions: Sequence[Submission], placed: Sequence[Placement] = ()) -> None:
        """See Store."""
        jobs = [one.job for one in submissions]
        waiting = [(one.id, one.created, one.seq) for one in jobs if one.state is State.QUEUED]

        def work(cursor: Any) -> bool:
            if placed:
                cursor.executemany(self._unplace.sql, [(one.job, one.seq) for one in placed])
            self._insert_job.run_each(cursor, jobs)
            self._insert_placement.run_each(cursor, waiting)
            for one in submissions:
                self._insert_link.run_each(cursor, one.links)
                if one.job.tags != "[]":
                    tags = [(name, one.job.id) for name in load(one.job.tags)]
                    self._insert_tag.run_each(cursor, tags)
                if one.keys:
                    self._take_keys(cursor, one.keys, one.job.created)
            self._record(cursor, [one.event for one in submissions])
            return True

        def recall(cursor: Any) -> bool | None:
            return self._recorded(cursor, submissions[0].event) or None

        self._transact(work, recall=recall if submissions else None)

    def _recorded(self, cursor: Any, one: Event) -> bool:
        """Whether the journal has just this event."""
        row = self._locked_event.run(cursor, key=one.job, nth=one.seq).fetchone()
        return row is not None and Event._make(row) == one

    def _take_keys(self, cursor: Any, keys: Sequence[Key], now: float) -> None:
        if taken := self._taken(cursor, keys, now):
            raise KeyTaken(taken)
        try:
            self._insert_key.run_each(cursor, keys)
        except self._driver.IntegrityError as error:
            # A server lets several write at a time: another one was about to take it.
            raise KeyTaken(keys[0].name) from error

    def _taken(self, cursor: Any, keys: Sequence[Key], now: float) -> str:
        """The first of these that is held; those whose time is over are forgotten."""
        for one in keys:
            held = self._key_until.run(cursor, key=one.name).fetchone()
            if held is None:
                continue
            if held[0] is None or held[0] > now:
                return one.name
            self._expire_key.run(cursor, key=one.name, now=now)
        return ""

    def placed(self, placements: Sequence[Placement]) -> None:
        """See Store."""
        rows = [(one.job, one.seq) for one in placements]
        self._transact(lambda cursor: cursor.executemany(self._unplace.sql, rows), durable=False)

    def unplaced(self, before: float, limit: int) -> list[Placement]:
        """See Store."""
        with self._read() as db:
            rows = db.execute(_UNPLACED, {"before": before, "most": limit})
            return [Placement._make(row) for row in rows]

    def advance(self, changes: Sequence[Change], durable: bool = True) -> list[bool]:
        """See Store."""

        def work(cursor: Any) -> list[bool]:
            done: list[bool] = []
            # Another's change may have left the job just where a refused one would have.
            refused: set[str] = set()
            for change in changes:
                apply = self._apply_placed if change.places else self._apply
                done.append(change.before.id not in refused and apply(cursor, change))
                if not done[-1]:
                    refused.add(change.before.id)
            applied = [change for change, ok in zip(changes, done, strict=True) if ok]
            self._await_placing(cursor, applied)
            self._record(cursor, [event for change in applied for event in change.events])
            return done

        def recall(cursor: Any) -> list[bool] | None:
            done = [self._recorded(cursor, change.events[-1]) for change in changes]
            return done if any(done) else None

        return self._transact(work, durable, recall)

    def sync(self) -> None:
        """See Store."""
        self._kind.sync()

    def _apply_placed(self, cursor: Any, change: Change) -> bool:
        """Together with its places, or not at all."""
        cursor.execute("SAVEPOINT places")
        if not (self._apply(cursor, change) and self._take_places(cursor, change)):
            cursor.execute("ROLLBACK TO SAVEPOINT places")
            return False
        cursor.execute("RELEASE SAVEPOINT places")
        return True

    def _take_places(self, cursor: Any, change: Change) -> bool:
        now = change.events[-1].at
        for one in change.places:
            self._expire_place.run(cursor, key=one.lane, which=one.nth, now=now)
        try:
            self._insert_place.run_each(cursor, change.places)
        except self._driver.IntegrityError:
            return False
        return True

    def _apply(self, cursor: Any, change: Change) -> bool:
        before, after = change.before, change.after
        if change.keys and self._taken(cursor, change.keys, change.events[-1].at):
            return False
        if before.state is after.state:
            self._note.run(cursor, key=before.id, before=before.seq, seq=after.seq)
        else:
            changed = {name: getattr(after, name) for name in CHANGING}
            advance = self._retry if after.state is State.RETRYING else self._advance
            advance.run(cursor, key=before.id, before=before.seq, **changed)
        if cursor.rowcount != 1:
            return False
        if before.lane is not None and before.state is State.RUNNING is not after.state:
            self._release_place.run(cursor, key=before.id)
        if before.state in FINAL:
            self._replay.run(
                cursor, key=before.id, args=after.args, kwargs=after.kwargs, cancel=after.cancel
            )
            self._delete_result.run(cursor, key=before.id)
            self._delete_parts.run(cursor, key=before.id)
            self._take_keys(cursor, change.keys, change.events[-1].at)
        if change.result is not None:
            self._write_result(cursor, after.id, change.result)
        if after.state in FINAL and after.tied:
            self._release_keys.run(cursor, key=after.id)
        return True

    def _await_placing(self, cursor: Any, applied: Sequence[Change]) -> None:
        """What these have left as queued; who takes over a lost worker's job claims it at once."""
        queued = [change for change in applied if change.after.state is State.QUEUED]
        if queued:
            moved_on = {
                change.before.id for change in applied if change.before.state is State.QUEUED
            }
            for change in queued:
                if change.after.id not in moved_on:
                    # An earlier placement may never have been confirmed.
                    after = change.after
                    self._unplace.run(cursor, key=after.id, nth=after.seq)
                    row = (after.id, change.events[-1].at, after.seq)
                    self._insert_placement.run_each(cursor, [row])

    def _write_result(self, cursor: Any, job: str, body: str) -> None:
        """In parts that a server takes, the first of them in a table of its own."""
        self._insert_result.run_each(cursor, [(job, body[:PART])])
        for part, begin in enumerate(range(PART, len(body), PART), 1):
            self._insert_part.run_each(cursor, [(job, part, body[begin : begin + PART])])

    def renew(self, job: Job, lease: float) -> bool:
        """See Store."""
        with self._told(), self._engine.begin() as db:
            found = db.execute(_RENEW, {"key": job.id, "mine": job.attempt, "until": lease})
            return found.rowcount == 1

    def ask_to_end(self, job: Job, actor: str) -> bool:
        """See Store."""
        with self._told(), self._engine.begin() as db:
            found = db.execute(_ASK_TO_END, {"key": job.id, "mine": job.attempt, "actor": actor})
            return found.rowcount == 1

    def asked_to_end(self, jobs: Collection[str]) -> dict[str, str]:
        """See Store."""
        with self._read() as db:
            found = db.execute(_ASKED_TO_END, {"keys": list(jobs)})
            return {row[0]: row[1] for row in found}

    def remove(self, jobs: Collection[str]) -> list[str]:
        """See Store."""

        def work(db: sa.Connection) -> list[str]:
            keys = list(db.execute(_ENDED, {"keys": list(jobs)}).scalars())
            for table, column in (
                (job, job.c.id),
                (event, event.c.job),
                (result, result.c.job),
                (result_part, result_part.c.job),
                (placement, placement.c.job),
                (key, key.c.job),
                (tag, tag.c.job),
                (link, link.c.before),
                (link, link.c.after),
            ):
                db.execute(sa.delete(table).where(column.in_(keys)))
            return keys

        return self._change(work)

    def job(self, job: str) -> Job | None:
        """See Store."""
        rows = self._ask(self._get, key=job)
        return as_job(rows[0]) if rows else None

    def result(self, job: str) -> str | None:
        """See Store."""
        with self._read() as db:
            first: str | None = db.execute(_RESULT, {"key": job}).scalar()
            if first is None or len(first) < PART:
                return first
            return "".join([first, *db.execute(PARTS, {"key": job}).scalars()])

    def jobs(
        self,
        states: Collection[State] = (),
        uri: str = "",
        before: str = "",
        limit: int = 100,
        tag: str = "",
    ) -> list[Job]:
        """See Store."""
        id_ = _TAGGED_JOB if tag else job.c.id
        query = sa.select(*job_columns).order_by(id_.desc()).limit(limit)
        if tag:
            query = query.where(_TAGGED)
        query = query.where(*_with_uri(uri))
        if before:
            query = query.where(id_ < before)
        # Each state by itself, since an index has the newest of one state, not of several.
        newest = [query.where(job.c.state == state) for state in set(states)] or [query]
        with self._read() as db:
            rows = [row for one in newest for row in db.execute(one, {"tag": tag} if tag else {})]
        return sorted(map(as_job, rows), key=itemgetter(0), reverse=True)[:limit]

    def due(self, now: float, limit: int) -> list[Job]:
        """See Store."""
        with self._read() as db:
            return [as_job(row) for row in db.execute(_DUE, {"now": now, "most": limit})]

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
        rows = self._ask(self._journal, after=after, most=limit)
        return [Entry(row[0], Event._make(row[1:])) for row in rows]

    def position(self) -> int:
        """See Store."""
        [row] = self._ask(self._newest)
        return row[0] or 0

    def counts(self, states: Collection[State] = (), uri: str = "") -> Mapping[State, int]:
        """See Store."""
        if not states and not uri:
            with self._read() as db:
                return {_STATES[state]: count for state, count in db.execute(_COUNTS)}
        query = sa.select(sa.func.count()).select_from(job).where(*_with_uri(uri))
        # Each state by itself: its index is better than that of the URIs, whose jobs have ended.
        with self._read() as db:
            found = {
                state: db.execute(query.where(job.c.state == state)).scalar_one()
                for state in states or State
            }
        return {state: count for state, count in found.items() if count}


def _with_uri(uri: str) -> tuple[sa.ColumnElement[bool], ...]:
    if uri.endswith(".*"):
        # '/' sorts right after '.': every URI below the namespace, and an index can serve it.
        return job.c.uri > uri[:-1], job.c.uri < uri[:-2] + "/"
    return (job.c.uri == uri,) if uri else ()


def as_job(row: Any) -> Job:
    """A row of ``job_columns``."""
    return Job(row[0], row[1], _STATES[row[2]], *row[3:])
