"""The keys of an SqlStore."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_schema import key
from taskbus.model.job import Key

_MOST_NAMES = 500

_COLUMNS = [key.c[name] for name in Key._fields]
_HOLDERS = sa.select(*_COLUMNS).where(
    key.c.name.in_(sa.bindparam("names", expanding=True)),
    sa.or_(key.c.until.is_(None), key.c.until > sa.bindparam("now")),
)
_OVER = (
    sa.select(key.c.name)
    .where(key.c.until <= sa.bindparam("now"))
    .order_by(key.c.until)
    .limit(sa.bindparam("most"))
)
# Somebody may have taken it anew meanwhile.
_FORGET = sa.delete(key).where(
    key.c.name.in_(sa.bindparam("names", expanding=True)), key.c.until <= sa.bindparam("now")
)


class SqlKeys:
    """Keys; see ``taskbus.port.keys``."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def holders(self, names: Collection[str], now: float) -> dict[str, Key]:
        """See Keys."""
        asked = list(names)
        found: dict[str, Key] = {}
        with self._store._read() as db:
            for start in range(0, len(asked), _MOST_NAMES):
                some = asked[start : start + _MOST_NAMES]
                rows = db.execute(_HOLDERS, {"names": some, "now": now})
                found |= {row.name: Key._make(row) for row in rows}
        return found

    def hold(self, keys: Sequence[Key], now: float) -> None:
        """See Keys."""
        self._store._transact(lambda cursor: self._store._take_keys(cursor, keys, now))

    def expire(self, now: float, limit: int) -> int:
        """See Keys."""
        with self._store._read() as db:
            names = list(db.execute(_OVER, {"now": now, "most": limit}).scalars())
            if names:
                db.execute(_FORGET, {"names": names, "now": now})
            return len(names)
