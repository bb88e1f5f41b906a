"""The limits' side of an SqlStore."""

import sqlalchemy as sa

from taskbus.adapter.sql import SqlStore, as_job
from taskbus.adapter.sql_schema import job, place
from taskbus.model.job import Job, Place, State

_BITE = 256

_LANE: sa.BindParameter[str] = sa.bindparam("lane")

_PLACES = sa.select(*[place.c[name] for name in Place._fields]).where(place.c.lane == _LANE)
_COMING = sa.select(sa.func.count()).where(job.c.lane == _LANE, job.c.state == State.QUEUED)
_FIRST = (
    sa.select(*[job.c[name] for name in Job._fields])
    .where(job.c.lane == _LANE, job.c.state == State.WAITING)
    .order_by(job.c.priority.desc(), job.c.id)
    .limit(sa.bindparam("most"))
)
# By the index of lanes: as an expression, the state is served by no other one.
_CROWDED = (
    sa.select(job.c.lane)
    .where(job.c.lane > sa.bindparam("after"), sa.func.coalesce(job.c.state, "") == State.WAITING)
    .order_by(job.c.lane)
    .limit(_BITE)
)
_FORGET = sa.delete(place).where(place.c.until <= sa.bindparam("now"))


class SqlLimits:
    """Limits; see ``taskbus.port.limits``."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def places(self, lane: str) -> list[Place]:
        """See Limits."""
        with self._store._read() as db:
            return [Place._make(row) for row in db.execute(_PLACES, {"lane": lane})]

    def coming(self, lane: str) -> int:
        """See Limits."""
        with self._store._read() as db:
            return db.execute(_COMING, {"lane": lane}).scalar_one()

    def first(self, lane: str, count: int) -> list[Job]:
        """See Limits."""
        with self._store._read() as db:
            return [as_job(row) for row in db.execute(_FIRST, {"lane": lane, "most": count})]

    def crowded(self) -> list[str]:
        """See Limits."""
        lanes: dict[str, None] = {}
        after = ""
        with self._store._read() as db:
            while found := db.execute(_CROWDED, {"after": after}).scalars().all():
                lanes |= dict.fromkeys(found)
                # Whatever else waits in the last one is passed over.
                after = found[-1]
        return list(lanes)

    def forget(self, now: float) -> int:
        """See Limits."""
        with self._store._read() as db:
            return db.execute(_FORGET, {"now": now}).rowcount
