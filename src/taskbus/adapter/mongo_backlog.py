"""The backlog of a MongoStore."""

from taskbus.adapter.mongo import MongoStore
from taskbus.model.job import Placement, State

_FIELDS = dict.fromkeys(("priority", "queue", "seq"), 1)


class MongoBacklog:
    """Backlog; see ``taskbus.port.backlog``."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def queued(self, after: str, limit: int) -> list[Placement]:
        """See Backlog."""
        wanted = {"state": State.QUEUED, "_id": {"$gt": after}}
        with self._store._told():
            found = self._store._jobs.find(wanted, _FIELDS).sort("_id").limit(limit)
            return [Placement(one["_id"], *(one[name] for name in _FIELDS)) for one in found]
