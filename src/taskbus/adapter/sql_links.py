"""Links in SQL, beside the jobs of a SqlStore."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from taskbus.adapter.sql import SqlStore, as_job, job_columns
from taskbus.adapter.sql_schema import TIED, job, link, result, result_part
from taskbus.adapter.stored import PART
from taskbus.model.job import Job, Link, State
from taskbus.port.links import Ended

_JOBS: sa.BindParameter[Any] = sa.bindparam("jobs", expanding=True)

_OF = sa.select(link.c.before, link.c.after, link.c.on).where(link.c.before.in_(_JOBS))
_MEET = (
    sa.update(link)
    .where(
        link.c.before.in_(_JOBS),
        link.c.on.in_(sa.bindparam("conditions", expanding=True)),
        link.c.met == 0,
    )
    .values(met=1)
)
# One that waits for its place in a limit has a lane.
_WAITING = sa.select(*job_columns).where(
    job.c.id.in_(_JOBS), job.c.state == State.WAITING, job.c.lane.is_(None)
)
_other = link.alias("other")
# Without a look at the jobs: one that comes after many has a long list of them in its details.
_FREE = sa.select(link.c.after).where(
    link.c.before.in_(_JOBS),
    ~sa.exists().where(_other.c.after == link.c.after, _other.c.met == 0),
)
_TIED = (
    sa.select(*job_columns)
    .where(sa.text(TIED), job.c.finished < sa.bindparam("before"))
    .order_by(job.c.finished)
    .limit(sa.bindparam("most"))
)
_UNTIE = sa.update(job).where(job.c.id.in_(_JOBS), job.c.finished.is_not(None)).values(tied=0)
_BODY = sa.func.coalesce(job.c.error, result.c.body)
_PARTS = (
    sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(result_part.c.body)), 0))
    .where(result_part.c.job == job.c.id)
    .scalar_subquery()
)
_SIZE = sa.func.coalesce(sa.func.length(_BODY), 0) + _PARTS
_OUTCOMES = (
    sa.select(
        job.c.id,
        job.c.uri,
        job.c.state,
        sa.case((_SIZE.between(1, sa.bindparam("largest")), _BODY)),
        _SIZE,
    )
    .join_from(job, result, result.c.job == job.c.id, isouter=True)
    .where(job.c.id.in_(_JOBS))
)


class SqlLinks:
    """Links in the database of a store; see ``taskbus.port.links``."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def of(self, jobs: Collection[str]) -> list[Link]:
        """See Links."""
        return [Link._make(row) for row in self._read(_OF, jobs=list(jobs))]

    def meet(self, jobs: Collection[str], conditions: Collection[str]) -> None:
        """See Links."""
        values = {"jobs": list(jobs), "conditions": list(conditions)}
        self._store._change(lambda db: db.execute(_MEET, values))

    def waiting(self, jobs: Collection[str]) -> list[Job]:
        """See Links."""
        return [as_job(row) for row in self._read(_WAITING, jobs=list(jobs))]

    def free(self, jobs: Collection[str]) -> list[Job]:
        """See Links."""
        free = {row[0] for row in self._read(_FREE, jobs=list(jobs))}
        return self.waiting(free) if free else []

    def tied(self, before: float, limit: int) -> list[Job]:
        """See Links."""
        return [as_job(row) for row in self._read(_TIED, before=before, most=limit)]

    def untie(self, jobs: Collection[str]) -> None:
        """See Links."""
        self._store._change(lambda db: db.execute(_UNTIE, {"jobs": list(jobs)}))

    def outcomes(self, jobs: Collection[str], largest: int) -> list[Ended]:
        """See Links."""
        # What has further parts is larger than its first one.
        rows = self._read(_OUTCOMES, jobs=list(jobs), largest=min(largest, PART))
        return [Ended(row[0], row[1], State(row[2]), row[3], int(row[4])) for row in rows]

    def _read(self, query: Any, **values: Any) -> Sequence[Any]:
        with self._store._read() as db:
            return db.execute(query, values).fetchall()
