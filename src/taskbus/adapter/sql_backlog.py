"""The backlog of an SqlStore."""

import sqlalchemy as sa

from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_schema import job
from taskbus.model.job import Placement, State

_QUEUED = (
    sa.select(*[job.c[name] for name in ("id", "priority", "queue", "seq")])
    .where(job.c.state == State.QUEUED, job.c.id > sa.bindparam("after"))
    .order_by(job.c.id)
    .limit(sa.bindparam("most"))
)


class SqlBacklog:
    """Backlog; see ``taskbus.port.backlog``."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def queued(self, after: str, limit: int) -> list[Placement]:
        """See Backlog."""
        with self._store._read() as db:
            rows = db.execute(_QUEUED, {"after": after, "most": limit})
            return [Placement._make(row) for row in rows]
