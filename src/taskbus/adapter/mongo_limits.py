"""The limits' side of a MongoStore."""

from taskbus.adapter.mongo import MongoStore, as_job
from taskbus.model.job import Job, Place, State


class MongoLimits:
    """Limits; see ``taskbus.port.limits``."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def places(self, lane: str) -> list[Place]:
        """See Limits."""
        with self._store._told():
            found = self._store._places.find({"lane": lane}).sort("nth")
            return [Place(*[one[name] for name in Place._fields]) for one in found]

    def coming(self, lane: str) -> int:
        """See Limits."""
        with self._store._told():
            return self._store._jobs.count_documents({"lane": lane, "state": State.QUEUED})

    def first(self, lane: str, count: int) -> list[Job]:
        """See Limits."""
        wanted = {"lane": lane, "state": State.WAITING}
        with self._store._told():
            found = self._store._jobs.find(wanted).sort([("priority", -1), ("_id", 1)])
            return [as_job(one) for one in found.limit(count)]

    def crowded(self) -> list[str]:
        """See Limits."""
        waiting = {"state": State.WAITING, "lane": {"$ne": None}}
        with self._store._told():
            return sorted(self._store._jobs.distinct("lane", waiting))

    def forget(self, now: float) -> int:
        """See Limits."""
        with self._store._told():
            over = {"until": {"$ne": None, "$lte": now}}
            return self._store._places.delete_many(over).deleted_count
