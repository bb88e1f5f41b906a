"""A MongoDB database as the store's parts use it: collections, indexes, transactions."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from taskbus.model.errors import StoreUnavailable

T = TypeVar("T")
Document = dict[str, Any]

VERSION = 3
# How long to wait for a server that does not answer, or for others to let go.
_PATIENCE = 30
_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
# Until a server that is down is told.
_LOOK_SECONDS = 2
_TURN_SECONDS = 0.5

_DURABLE = WriteConcern("majority", j=True)
_QUICK = WriteConcern(1)

_UP = pymongo.ASCENDING
_INDEXES: dict[str, list[dict[str, Any]]] = {
    "job": [
        {"keys": [("state", _UP), ("_id", _UP)]},
        {"keys": [("state", _UP), ("due", _UP)]},
        {"keys": [("uri", _UP), ("_id", _UP)]},
        {"keys": [("tag_list", _UP), ("_id", _UP)]},
        {"keys": [("lane", _UP), ("state", _UP), ("_id", _UP)]},
        {"keys": [("tied", _UP), ("finished", _UP)]},
        {"keys": [("expires", _UP)]},
    ],
    "event": [{"keys": [("job", _UP), ("seq", _UP)], "unique": True}],
    "result": [{"keys": [("job", _UP), ("part", _UP)], "unique": True}],
    "placement": [{"keys": [("since", _UP)]}],
    "job_key": [{"keys": [("job", _UP)]}, {"keys": [("until", _UP)]}],
    "job_link": [
        {"keys": [("before", _UP), ("after", _UP)], "unique": True},
        {"keys": [("after", _UP), ("met", _UP)]},
    ],
    "lane_slot": [
        {"keys": [("lane", _UP), ("nth", _UP)]},
        {"keys": [("job", _UP)]},
        {"keys": [("until", _UP)]},
    ],
    "record": [{"keys": [("kind", _UP), ("name", _UP)]}],
}


class MongoDatabase:
    """Collections of one database. Every driver's error leaves it as StoreUnavailable.

    Reads, and writes of one document, are tried once more by the driver where a connection broke;
    so is a commit whose answer was lost. A transaction that another one was in the way of is done
    again.
    """

    def __init__(self, url: str) -> None:
        """``url``: ``mongodb://host/database``. Raises StoreUnavailable where it cannot be used, or
        holds another schema version.
        """
        remedy = "write mongodb://user:password@host/database"
        try:
            self._client: MongoClient[Document] = MongoClient(
                url,
                serverSelectionTimeoutMS=_LOOK_SECONDS * 1000,
                connectTimeoutMS=_LOOK_SECONDS * 1000,
                socketTimeoutMS=_PATIENCE * 1000,
            )
            database = self._client.get_default_database()
        except (InvalidURI, ConfigurationError, ValueError) as error:
            raise StoreUnavailable(
                f"the store's URL cannot be used: {error}", field="store.url", remedy=remedy
            ) from None
        self._turn = threading.Lock()
        self._database = database.with_options(write_concern=_DURABLE)
        try:
            with self._told():
                self._create()
        except BaseException:
            self.close()
            raise
        self._jobs, self._events = self._database["job"], self._database["event"]
        self._results, self._placements = self._database["result"], self._database["placement"]
        self._keys, self._links = self._database["job_key"], self._database["job_link"]
        self._places, self._meta = self._database["lane_slot"], self._database["meta"]
        self._records = self._database["record"]

    def _create(self) -> None:
        hello = self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StoreUnavailable(
                "the MongoDB server is not part of a replica set, and so has no transactions",
                field="store.url",
                remedy="start it as a replica set; one member is enough",
            )
        for name, indexes in _INDEXES.items():
            for index in indexes:
                self._database[name].create_index(**index)
        meta = self._database["meta"]
        for document in ({"_id": "schema", "version": VERSION}, {"_id": "journal", "position": 0}):
            fresh = {key: value for key, value in document.items() if key != "_id"}
            meta.update_one({"_id": document["_id"]}, {"$setOnInsert": fresh}, upsert=True)
        found = meta.find_one({"_id": "schema"})
        if found is None or found["version"] != VERSION:
            version = found and found["version"]
            raise StoreUnavailable(
                f"the store has schema version {version}, this program needs {VERSION}",
                field="store.url",
                remedy="use the version of taskbus that made it",
            )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _transact(self, work: Callable[[ClientSession], T], durable: bool = True) -> T:
        """What ``work(session)`` returns, as one transaction; it may be called several times."""
        deadline, tried = time.monotonic() + _PATIENCE, 0
        with self._told(), self._in_turn():
            while True:
                tried += 1
                try:
                    return self._try(work, _DURABLE if durable else _QUICK, deadline)
                except PyMongoError as error:
                    if not _is_worth_a_try(error, "TransientTransactionError", deadline):
                        raise
                pause = min(_PAUSE * 1.5**tried, _LONGEST_PAUSE)
                time.sleep(random.uniform(0, pause))  # noqa: S311 - no secret

    def _try(self, work: Callable[[ClientSession], T], concern: WriteConcern, deadline: float) -> T:
        with (
            self._client.start_session() as session,
            # Left by an error, it undoes what was not committed.
            session.start_transaction(ReadConcern("snapshot"), concern),
        ):
            found = work(session)
            while True:
                try:
                    session.commit_transaction()
                except PyMongoError as error:
                    # The answer was lost, and the same commit may be asked for again.
                    if _is_worth_a_try(error, "UnknownTransactionCommitResult", deadline):
                        continue
                    raise
                return found

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """This process' threads do not begin what only one of them can finish; but none of them
        waits long for one that the server keeps waiting.
        """
        has_turn = self._turn.acquire(timeout=_TURN_SECONDS)
        try:
            yield
        finally:
            if has_turn:
                self._turn.release()

    def _take_positions(self, session: ClientSession, count: int) -> int:
        """The first of so many positions for the journal: what a transaction begins with.

        Until its commit nobody else can count: who tries begins anew, with nothing done in vain, so
        that later positions are both higher and visible later.
        """
        found = self._meta.find_one_and_update(
            {"_id": "journal"}, {"$inc": {"position": count}}, session=session
        )
        if found is None:
            raise StoreUnavailable("the store's journal has no position")
        return int(found["position"]) + 1

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The driver's errors as ours."""
        try:
            yield
        except PyMongoError as error:
            raise StoreUnavailable(f"the store did not answer: {error}") from error


def _is_worth_a_try(error: PyMongoError, label: str, deadline: float) -> bool:
    """A server that is down is told at once."""
    is_down = isinstance(error, ServerSelectionTimeoutError)
    return error.has_error_label(label) and not is_down and time.monotonic() < deadline
