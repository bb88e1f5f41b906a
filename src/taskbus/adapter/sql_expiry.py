"""The expiry of an SqlStore's jobs."""

import sqlalchemy as sa

from taskbus.adapter.sql import SqlStore, is_needed
from taskbus.adapter.sql_schema import job

# Of what has not ended, expires is null.
_EXPIRED = (
    sa.select(job.c.id)
    .where(job.c.expires <= sa.bindparam("now"), ~is_needed)
    .order_by(job.c.expires)
    .limit(sa.bindparam("most"))
)


class SqlExpiry:
    """Expiry; see ``taskbus.port.expiry``."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def expired(self, now: float, limit: int) -> list[str]:
        """See Expiry."""
        with self._store._read() as db:
            return list(db.execute(_EXPIRED, {"now": now, "most": limit}).scalars())
