"""The keys of a MongoStore."""

from collections.abc import Collection, Sequence

from pymongo.client_session import ClientSession

from taskbus.adapter.mongo import MongoStore
from taskbus.model.job import Key


class MongoKeys:
    """Keys; see ``taskbus.port.keys``."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def holders(self, names: Collection[str], now: float) -> dict[str, Key]:
        """See Keys."""
        held = [{"until": None}, {"until": {"$gt": now}}]
        with self._store._told():
            found = self._store._keys.find({"_id": {"$in": list(names)}, "$or": held})
            return {one["_id"]: Key(*[one[name] for name in Key._fields]) for one in found}

    def hold(self, keys: Sequence[Key], now: float) -> None:
        """See Keys."""

        def work(session: ClientSession) -> None:
            self._store._take_keys(session, keys, now)

        self._store._transact(work)

    def expire(self, now: float, limit: int) -> int:
        """See Keys."""
        over = {"until": {"$ne": None, "$lte": now}}
        with self._store._told():
            found = self._store._keys.find(over, {"_id": 1}).sort("until").limit(limit)
            names = [one["_id"] for one in found]
            # Somebody may have taken it anew meanwhile.
            self._store._keys.delete_many({"_id": {"$in": names}, **over})
            return len(names)
