"""The records of an SqlStore."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_schema import record
from taskbus.model.json import dump, load
from taskbus.port.records import Record

# No record's name: the version of this row counts the changes of its kind, and whoever is about to
# change one locks it.
_COUNT = ""


class SqlRecords:
    """Records; see ``taskbus.port.records``."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def get(self, kind: str, name: str) -> Record | None:
        """See Records."""
        with self._store._read() as db:
            row = db.execute(sa.select(record).where(*_at(kind, name))).one_or_none()
        return None if row is None else Record(row.name, load(row.body), row.version)

    def all(self, kind: str) -> list[Record]:
        """See Records."""
        chosen = sa.select(record).where(record.c.kind == kind, record.c.name != _COUNT)
        with self._store._read() as db:
            rows = db.execute(chosen.order_by(record.c.name)).all()
        return [Record(row.name, load(row.body), row.version) for row in rows]

    def put(self, kind: str, name: str, body: Mapping[str, Any], seen: int) -> bool:
        """See Records."""

        def work(db: sa.Connection) -> bool:
            _count(db, kind)
            if seen:
                changed = sa.update(record).where(*_at(kind, name), record.c.version == seen)
                return bool(db.execute(changed.values(body=dump(body), version=seen + 1)).rowcount)
            if db.execute(sa.select(record.c.version).where(*_at(kind, name))).first():
                return False
            db.execute(sa.insert(record).values(kind=kind, name=name, body=dump(body), version=1))
            return True

        return self._store._change(work)

    def remove(self, kind: str, name: str) -> bool:
        """See Records."""

        def work(db: sa.Connection) -> bool:
            _count(db, kind)
            return bool(db.execute(sa.delete(record).where(*_at(kind, name))).rowcount)

        return self._store._change(work)

    def changes(self, kind: str) -> int:
        """See Records."""
        with self._store._read() as db:
            chosen = sa.select(record.c.version).where(*_at(kind, _COUNT))
            return db.execute(chosen).scalar() or 0


def _at(kind: str, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return record.c.kind == kind, record.c.name == name


def _count(db: sa.Connection, kind: str) -> None:
    grown = sa.update(record).where(*_at(kind, _COUNT)).values(version=record.c.version + 1)
    if not db.execute(grown).rowcount:
        db.execute(sa.insert(record).values(kind=kind, name=_COUNT, body="", version=1))
