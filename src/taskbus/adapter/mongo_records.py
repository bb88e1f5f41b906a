"""The records of a MongoStore."""

from collections.abc import Mapping
from typing import Any

from pymongo.client_session import ClientSession

from taskbus.adapter.mongo import MongoStore
from taskbus.model.json import dump, load
from taskbus.port.records import Record

# No record's name: the version of this document counts the changes of its kind, and of two who are
# about to change one, it makes one begin anew.
_COUNT = ""


class MongoRecords:
    """Records; see ``taskbus.port.records``."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def get(self, kind: str, name: str) -> Record | None:
        """See Records."""
        with self._store._told():
            found = self._store._records.find_one(_at(kind, name))
            return None if found is None else _record(found)

    def all(self, kind: str) -> list[Record]:
        """See Records."""
        with self._store._told():
            found = self._store._records.find({"kind": kind, "name": {"$ne": _COUNT}})
            return [_record(one) for one in found.sort("name")]

    def put(self, kind: str, name: str, body: Mapping[str, Any], seen: int) -> bool:
        """See Records."""
        # As a text: a key of a document may not be any text.
        fresh = {"kind": kind, "name": name, "body": dump(body), "version": seen + 1}

        def work(session: ClientSession) -> bool:
            records = self._store._records
            self._count(session, kind)
            if seen:
                now = _at(kind, name) | {"version": seen}
                return records.update_one(now, {"$set": fresh}, session=session).matched_count > 0
            if records.find_one(_at(kind, name), session=session):
                return False
            records.insert_one(_at(kind, name) | fresh, session=session)
            return True

        return self._store._transact(work)

    def remove(self, kind: str, name: str) -> bool:
        """See Records."""

        def work(session: ClientSession) -> bool:
            self._count(session, kind)
            gone = self._store._records.delete_one(_at(kind, name), session=session)
            return gone.deleted_count > 0

        return self._store._transact(work)

    def changes(self, kind: str) -> int:
        """See Records."""
        with self._store._told():
            found = self._store._records.find_one(_at(kind, _COUNT))
            return found["version"] if found else 0

    def _count(self, session: ClientSession, kind: str) -> None:
        grown = {"$inc": {"version": 1}, "$set": {"kind": kind, "name": _COUNT}}
        self._store._records.update_one(_at(kind, _COUNT), grown, upsert=True, session=session)


def _at(kind: str, name: str) -> dict[str, Any]:
    return {"_id": f"{kind}/{name}"}


def _record(found: Mapping[str, Any]) -> Record:
    return Record(found["name"], load(found["body"]), found["version"])
