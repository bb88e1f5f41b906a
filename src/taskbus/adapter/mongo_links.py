"""The links beside a MongoStore."""

from collections.abc import Collection

from taskbus.adapter.mongo import MongoStore, as_job
from taskbus.adapter.mongo_database import Document
from taskbus.adapter.stored import PART
from taskbus.model.job import Job, Link, State
from taskbus.port.links import Ended


class MongoLinks:
    """Links; see ``taskbus.port.links``."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def of(self, jobs: Collection[str]) -> list[Link]:
        """See Links."""
        with self._store._told():
            found = self._store._links.find({"before": _among(jobs)})
            return [Link(*[one[name] for name in Link._fields]) for one in found]

    def meet(self, jobs: Collection[str], conditions: Collection[str]) -> None:
        """See Links."""
        unmet = {"before": _among(jobs), "on": _among(conditions), "met": 0}
        with self._store._told():
            self._store._links.update_many(unmet, {"$set": {"met": 1}})

    def waiting(self, jobs: Collection[str]) -> list[Job]:
        """See Links."""
        # One that waits for its place in a limit has a lane.
        wanted = {"_id": _among(jobs), "state": State.WAITING, "lane": None}
        with self._store._told():
            return [as_job(one) for one in self._store._jobs.find(wanted)]

    def free(self, jobs: Collection[str]) -> list[Job]:
        """See Links."""
        links = self._store._links
        with self._store._told():
            after = {one["after"] for one in links.find({"before": _among(jobs)}, {"after": 1})}
            unmet = links.find({"after": _among(after), "met": 0}, {"after": 1})
            free = after - {one["after"] for one in unmet}
        return self.waiting(free) if free else []

    def tied(self, before: float, limit: int) -> list[Job]:
        """See Links."""
        wanted = {"tied": 1, "finished": {"$ne": None, "$lt": before}}
        with self._store._told():
            found = self._store._jobs.find(wanted).sort("finished").limit(limit)
            return [as_job(one) for one in found]

    def untie(self, jobs: Collection[str]) -> None:
        """See Links."""
        ended = {"_id": _among(jobs), "finished": {"$ne": None}}
        with self._store._told():
            self._store._jobs.update_many(ended, {"$set": {"tied": 0}})

    def outcomes(self, jobs: Collection[str], largest: int) -> list[Ended]:
        """See Links."""
        wanted = {"job": _among(jobs), "part": 0}
        fits = wanted | {"size": {"$lte": min(largest, PART)}}
        with self._store._told():
            sizes = {one["job"]: one["size"] for one in self._store._results.find(wanted, _SIZE)}
            bodies = {one["job"]: one["body"] for one in self._store._results.find(fits)}
            found = self._store._jobs.find({"_id": _among(jobs)}, _STANDING)
            return [
                _ended(one, bodies.get(one["_id"]), sizes.get(one["_id"], 0), largest)
                for one in found
            ]


_SIZE = {"job": 1, "size": 1}
_STANDING = {"uri": 1, "state": 1, "error": 1}


def _ended(found: Document, body: str | None, size: int, largest: int) -> Ended:
    error: str | None = found["error"]
    if error is not None:
        size = len(error)
        body = error if size <= largest else None
    return Ended(found["_id"], found["uri"], State(found["state"]), body or None, size)


def _among(values: Collection[str]) -> Document:
    return {"$in": list(values)}
