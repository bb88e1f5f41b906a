"""The store in MongoDB: a collection for each kind of thing, and transactions over them."""

from collections.abc import Collection, Mapping, Sequence

from pymongo import DeleteOne
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError

from taskbus.adapter.mongo_database import Document, MongoDatabase
from taskbus.adapter.stored import CHANGING, PART
from taskbus.model.errors import KeyTaken
from taskbus.model.job import FINAL, Change, Event, Job, Key, Place, Placement, State, Submission
from taskbus.model.json import load
from taskbus.port.store import Entry

_WAITING = (State.SCHEDULED, State.RETRYING)
_NEWEST = [("_id", -1)]


class MongoStore(MongoDatabase):
    """A Store; see ``taskbus.port.store``. Its documents are the fields of Job, Event, ..."""

    def add(self, submissions: Sequence[Submission], placed: Sequence[Placement] = ()) -> None:
        """See Store."""
        jobs = [one.job for one in submissions]
        links = [link._asdict() | {"met": 0} for one in submissions for link in one.links]
        waiting = [
            {"_id": job.id, "since": job.created, "seq": job.seq} for job in jobs if _is_queued(job)
        ]

        def work(session: ClientSession) -> None:
            first = self._take_positions(session, len(submissions))
            self._record(session, first, [one.event for one in submissions])
            if placed:
                self._placements.bulk_write(_taken_by_the_queue(placed), session=session)
            for documents, collection in (
                ([_document(job) for job in jobs], self._jobs),
                (waiting, self._placements),
                (links, self._links),
            ):
                if documents:
                    collection.insert_many(documents, session=session)
            for one in submissions:
                if one.keys:
                    self._take_keys(session, one.keys, one.job.created)

        self._transact(work)

    def _record(self, session: ClientSession, first: int, events: Sequence[Event]) -> None:
        """Add to the journal."""
        if events:
            documents = [
                {"_id": position, **event._asdict()} for position, event in enumerate(events, first)
            ]
            self._events.insert_many(documents, session=session)

    def _take_keys(self, session: ClientSession, keys: Sequence[Key], now: float) -> None:
        if taken := self._taken(session, keys, now):
            raise KeyTaken(taken)
        try:
            self._keys.insert_many(
                [{"_id": key.name, **key._asdict()} for key in keys], session=session
            )
        except DuplicateKeyError as error:
            raise KeyTaken(keys[0].name) from error

    def _taken(self, session: ClientSession, keys: Sequence[Key], now: float) -> str:
        """The first of these that is held; those whose time is over are forgotten."""
        for key in keys:
            held = self._keys.find_one({"_id": key.name}, session=session)
            if held is None:
                continue
            if held["until"] is None or held["until"] > now:
                return key.name
            self._keys.delete_one({"_id": key.name}, session=session)
        return ""

    def placed(self, placements: Sequence[Placement]) -> None:
        """See Store."""
        if placements:
            with self._told():
                self._placements.bulk_write(_taken_by_the_queue(placements))

    def unplaced(self, before: float, limit: int) -> list[Placement]:
        """See Store."""
        with self._told():
            found = self._placements.find({"since": {"$lt": before}}).sort("_id").limit(limit)
            seqs = {one["_id"]: one["seq"] for one in found}
            jobs = self._jobs.find({"_id": {"$in": list(seqs)}}).sort("_id")
            return [
                Placement(one["_id"], one["priority"], one["queue"], seqs[one["_id"]])
                for one in jobs
            ]

    def advance(self, changes: Sequence[Change], durable: bool = True) -> list[bool]:
        """See Store."""
        if not changes:
            return []
        most = sum(len(change.events) for change in changes)

        def work(session: ClientSession) -> list[bool]:
            first = self._take_positions(session, most)
            done: list[bool] = []
            # Another's change may have left the job just where a refused one would have.
            refused: set[str] = set()
            for change in changes:
                done.append(change.before.id not in refused and self._apply(session, change))
                if not done[-1]:
                    refused.add(change.before.id)
            applied = [change for change, ok in zip(changes, done, strict=True) if ok]
            self._await_placing(session, applied)
            events = [event for change in applied for event in change.events]
            self._record(session, first, events)
            if len(events) < most:
                # Nobody else has counted meanwhile.
                self._take_positions(session, len(events) - most)
            return done

        return self._transact(work, durable)

    def sync(self) -> None:
        """See Store. The server's journal is in order: who waits for this waits for all before."""
        with self._told():
            self._meta.update_one({"_id": "sync"}, {"$inc": {"count": 1}}, upsert=True)

    def _apply(self, session: ClientSession, change: Change) -> bool:
        now = change.events[-1].at
        if change.keys and self._taken(session, change.keys, now):
            return False
        if change.places and not self._are_free(session, change.places, now):
            return False
        if not self._move(session, change):
            return False
        for place in change.places:
            at = {"_id": _place_id(place)}
            self._places.replace_one(at, place._asdict(), upsert=True, session=session)
        if change.before.state in FINAL:
            self._results.delete_many({"job": change.before.id}, session=session)
            if change.keys:
                self._take_keys(session, change.keys, now)
        if change.result is not None:
            self._results.insert_many(_parts(change.after.id, change.result), session=session)
        return True

    def _move(self, session: ClientSession, change: Change) -> bool:
        """The job itself, and what it lets go of."""
        before, after = change.before, change.after
        names = ["seq"] if before.state is after.state else CHANGING
        if before.state in FINAL:
            names = [*names, "args", "kwargs", "cancel"]
        # Who asks an attempt to end does not wait for the next one.
        unasked = {"cancel": None} if after.state is State.RETRYING else {}
        found = self._jobs.update_one(
            {"_id": before.id, "seq": before.seq, **unasked},
            {"$set": {name: getattr(after, name) for name in names}},
            session=session,
        )
        if found.matched_count != 1:
            return False
        until_now = {"job": before.id, "until": None}
        if before.lane is not None and before.state is State.RUNNING is not after.state:
            self._places.delete_many(until_now, session=session)
        if after.state in FINAL and after.tied:
            self._keys.delete_many(until_now, session=session)
        return True

    def _are_free(self, session: ClientSession, places: Sequence[Place], now: float) -> bool:
        ids = {"$in": [_place_id(place) for place in places]}
        held = {"_id": ids, "$or": [{"until": None}, {"until": {"$gt": now}}]}
        return self._places.find_one(held, session=session) is None

    def _await_placing(self, session: ClientSession, applied: Sequence[Change]) -> None:
        """What these have left as queued; who takes over a lost worker's job claims it at once."""
        moved_on = {change.before.id for change in applied if _is_queued(change.before)}
        for change in applied:
            if _is_queued(change.after) and change.after.id not in moved_on:
                self._placements.replace_one(
                    {"_id": change.after.id},
                    {"since": change.events[-1].at, "seq": change.after.seq},
                    upsert=True,
                    session=session,
                )

    def renew(self, job: Job, lease: float) -> bool:
        """See Store."""
        with self._told():
            found = self._jobs.update_one(_attempt(job), {"$set": {"lease": lease}})
            return found.matched_count == 1

    def ask_to_end(self, job: Job, actor: str) -> bool:
        """See Store."""
        asked = [{"$set": {"cancel": {"$ifNull": ["$cancel", {"$literal": actor}]}}}]
        with self._told():
            return self._jobs.update_one(_attempt(job), asked).matched_count == 1

    def asked_to_end(self, jobs: Collection[str]) -> dict[str, str]:
        """See Store."""
        with self._told():
            found = self._jobs.find({"_id": {"$in": list(jobs)}, "cancel": {"$ne": None}})
            return {one["_id"]: one["cancel"] for one in found}

    def remove(self, jobs: Collection[str]) -> list[str]:
        """See Store."""

        def work(session: ClientSession) -> list[str]:
            ended = {"_id": {"$in": list(jobs)}, "state": {"$in": list(FINAL)}}
            over = {one["_id"] for one in self._jobs.find(ended, {"_id": 1}, session=session)}
            found = sorted(over - self.needed(over, session))
            among = {"$in": found}
            for collection, field in (
                (self._jobs, "_id"),
                (self._events, "job"),
                (self._results, "job"),
                (self._placements, "_id"),
                (self._keys, "job"),
                (self._links, "before"),
                (self._links, "after"),
            ):
                collection.delete_many({field: among}, session=session)
            return found

        return self._transact(work)

    def needed(self, jobs: Collection[str], session: ClientSession | None = None) -> set[str]:
        """Those that a job which has not ended waits for, or looks back on."""
        links = list(self._links.find({"before": {"$in": list(jobs)}}, session=session))
        after = {"$in": [link["after"] for link in links]}
        alive = {"_id": after, "state": {"$nin": list(FINAL)}}
        waiting = {one["_id"] for one in self._jobs.find(alive, {"_id": 1}, session=session)}
        return {link["before"] for link in links if link["after"] in waiting}

    def job(self, job: str) -> Job | None:
        """See Store."""
        with self._told():
            found = self._jobs.find_one({"_id": job})
            return None if found is None else as_job(found)

    def result(self, job: str) -> str | None:
        """See Store."""
        with self._told():
            parts = [one["body"] for one in self._results.find({"job": job}).sort("part")]
            return "".join(parts) if parts else None

    def jobs(
        self,
        states: Collection[State] = (),
        uri: str = "",
        before: str = "",
        limit: int = 100,
        tag: str = "",
    ) -> list[Job]:
        """See Store."""
        wanted = _with_uri(uri)
        if states:
            wanted["state"] = {"$in": list(states)}
        if tag:
            wanted["tag_list"] = tag
        if before:
            wanted["_id"] = {"$lt": before}
        with self._told():
            return [as_job(one) for one in self._jobs.find(wanted).sort(_NEWEST).limit(limit)]

    def due(self, now: float, limit: int) -> list[Job]:
        """See Store."""
        wanted = {"state": {"$in": list(_WAITING)}, "due": {"$lte": now}}
        with self._told():
            return [as_job(one) for one in self._jobs.find(wanted).sort("due").limit(limit)]

    def next_due(self) -> float | None:
        """See Store."""
        with self._told():
            first = (
                self._jobs.find_one({"state": state}, {"due": 1}, sort=[("due", 1)])
                for state in _WAITING
            )
            return min((one["due"] for one in first if one is not None), default=None)

    def events(self, job: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """See Store."""
        with self._told():
            found = self._events.find({"job": job, "seq": {"$gt": after}}).sort("seq").limit(limit)
            return [_event(one) for one in found]

    def journal(self, after: int, limit: int) -> list[Entry]:
        """See Store."""
        with self._told():
            found = self._events.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
            return [Entry(one["_id"], _event(one)) for one in found]

    def position(self) -> int:
        """See Store."""
        with self._told():
            found = self._meta.find_one({"_id": "journal"})
            return 0 if found is None else int(found["position"])

    def counts(self, states: Collection[State] = (), uri: str = "") -> Mapping[State, int]:
        """See Store."""
        among = _with_uri(uri)
        with self._told():
            found = {
                state: self._jobs.count_documents({"state": state, **among})
                for state in states or State
            }
            return {state: count for state, count in found.items() if count}


def _with_uri(uri: str) -> Document:
    if uri.endswith(".*"):
        # '/' sorts right after '.': every URI below the namespace.
        return {"uri": {"$gt": uri[:-1], "$lt": uri[:-2] + "/"}}
    return {"uri": uri} if uri else {}


def _is_queued(job: Job) -> bool:
    return job.state is State.QUEUED


def _attempt(job: Job) -> Document:
    """While it is the job's."""
    return {"_id": job.id, "attempt": job.attempt, "state": State.RUNNING}


def _document(job: Job) -> Document:
    fields = job._asdict()
    tags = {} if job.tags == "[]" else {"tag_list": load(job.tags)}
    return {"_id": fields.pop("id"), **fields, **tags}


def as_job(found: Document) -> Job:
    """A document of the jobs as what it is."""
    values = [found[name] for name in Job._fields[3:]]
    return Job(found["_id"], found["uri"], State(found["state"]), *values)


def _taken_by_the_queue(placements: Sequence[Placement]) -> list[DeleteOne]:
    return [DeleteOne({"_id": one.job, "seq": {"$lte": one.seq}}) for one in placements]


def _place_id(place: Place) -> str:
    return f"{place.nth} {place.lane}"


def _event(found: Document) -> Event:
    return Event(*[found[name] for name in Event._fields])


def _parts(job: str, body: str) -> list[Document]:
    """A document has a limited size. ``size`` is that of the whole."""
    return [
        {"job": job, "part": part, "body": body[begin : begin + PART], "size": len(body)}
        for part, begin in enumerate(range(0, len(body) or 1, PART))
    ]
