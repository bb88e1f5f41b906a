"""The expiry of a MongoStore's jobs."""

from collections.abc import Iterable, Iterator
from itertools import islice

from taskbus.adapter.mongo import MongoStore


class MongoExpiry:
    """Expiry; see ``taskbus.port.expiry``."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def expired(self, now: float, limit: int) -> list[str]:
        """See Expiry."""
        over = {"expires": {"$ne": None, "$lte": now}}
        found: list[str] = []
        with self._store._told():
            cursor = self._store._jobs.find(over, {"_id": 1}).sort("expires")
            for some in _bites((one["_id"] for one in cursor), limit):
                needed = self._store.needed(some)
                found += [job for job in some if job not in needed]
                if len(found) >= limit:
                    break
        return found[:limit]


def _bites(jobs: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(jobs)
    while some := list(islice(rest, size)):
        yield some
