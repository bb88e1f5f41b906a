"""The journal as webhooks need it: how deliveries went, and which jobs have ended.

It is followed from a position that is kept in a record, so that nothing is missed while nobody
follows it. After a crash some entries are looked at again, and make events of the same ids.
"""

import logging
from collections.abc import Callable, Sequence

from taskbus.core.webhook_book import HEALTH, Book
from taskbus.core.webhook_fan import Fan
from taskbus.core.webhook_health import Health, after_failure, why_disabled
from taskbus.model.errors import IdempotencyMismatch
from taskbus.model.job import FINAL, State
from taskbus.model.job import Event as Told
from taskbus.model.json import load
from taskbus.model.trace import trace_of_job
from taskbus.model.webhook import (
    DELIVER,
    DISABLED,
    JOB_TOPICS,
    Endpoint,
    Event,
    is_exposed,
)
from taskbus.port.clock import Clock
from taskbus.port.links import Links
from taskbus.port.records import Records
from taskbus.port.store import Entry, Store

log = logging.getLogger(__name__)

FEED, POSITION = "webhook-feed", "position"
_BITE = 1000
_NOTE_SECONDS = 5.0
_FINAL = frozenset(state.value for state in FINAL)
# Ends that are not the endpoint's doing.
_SAYS_NOTHING = frozenset({State.CANCELLED.value, State.DEAD.value})
_LOOKED_AT = _FINAL | {State.RETRYING.value}


class Feed:
    """Follows the journal, in one thread of one process."""

    def __init__(
        self,
        store: Store,
        links: Links,
        records: Records,
        book: Book,
        fan: Fan,
        clock: Clock,
        exposed: Sequence[str],
        patience: float,
        disable: Callable[[Endpoint, str], object],
    ) -> None:
        """``patience``: seconds for which an endpoint may fail; ``disable`` is called with the
        endpoint and the reason.
        """
        self._store = store
        self._links = links
        self._records = records
        self._book = book
        self._fan = fan
        self._clock = clock
        self._exposed = exposed
        self._patience = patience
        self._disable = disable
        self._position: int | None = None
        self._noted = -1
        self._note_at = 0.0

    def run(self) -> None:
        """Look at everything that is new."""
        if self._position is None:
            self._position = self._begin()
        if not self._book.endpoints():
            # Whoever registers later is told of nothing earlier.
            self._position = self._store.position()
            self._note()
            return
        while entries := self._store.journal(self._position, _BITE):
            is_news = self._look(entries)
            self._position = entries[-1].position
            self._note(is_news)

    def _begin(self) -> int:
        found = self._records.get(FEED, POSITION)
        if found is not None:
            self._noted = found.body["position"]
            return self._noted
        position = self._store.position()
        self._records.put(FEED, POSITION, {"position": position}, 0)
        return position

    def _note(self, now: bool = False) -> None:
        """Remember the position; seldom where nothing came of it."""
        time = self._clock()
        if self._position == self._noted or not (now or time >= self._note_at):
            return
        found = self._records.get(FEED, POSITION)
        body = {"position": self._position}
        self._records.put(FEED, POSITION, body, 0 if found is None else found.version)
        self._noted, self._note_at = self._position or 0, time + _NOTE_SECONDS

    def _look(self, entries: Sequence[Entry]) -> bool:
        """Whether anything came of these."""
        ends = [entry.event for entry in entries if entry.event.kind in _LOOKED_AT]
        if not ends:
            return False
        known = self._links.outcomes({event.job for event in ends}, 0)
        uris = {one.job: one.uri for one in known}
        called = {one.call for one in self._book.endpoints().values() if one.call is not None}
        is_news = False
        for event in ends:
            uri = uris.get(event.job, "")
            if uri == DELIVER:
                is_news |= self._judge(event)
            elif event.kind in _FINAL and uri:
                is_news |= self._tell(event, uri, uri in called)
        return is_news

    def _tell(self, ended: Told, uri: str, is_subscriber: bool) -> bool:
        """Send the end of a job to whom it concerns."""
        topic = f"{JOB_TOPICS}{ended.kind}.{uri}"
        if not is_exposed(topic, self._exposed):
            return False
        event = job_event(ended, uri, topic)
        endpoints = [
            one
            for one in self._fan.wanted_by(event)
            # Subscribers inside are no news for each other: that would go on for ever.
            if one.created <= ended.at and not (is_subscriber and one.call is not None)
        ]
        if endpoints:
            job = self._store.job(ended.job)
            trace = None if job is None else trace_of_job(job.details)
            try:
                self._fan.send(event, endpoints, is_named=True, trace=trace)
            except IdempotencyMismatch as error:
                log.warning("event %s: %s", event.id, error)
        return bool(endpoints)

    def _judge(self, ended: Told) -> bool:
        """How a delivery went says how its endpoint is."""
        job = self._store.job(ended.job)
        data = load(ended.data)
        if job is None or data.get("error") == DISABLED or ended.kind in _SAYS_NOTHING:
            return False
        name = load(job.kwargs)["endpoint"]
        endpoint = self._book.endpoints().get(name)
        if endpoint is None or ended.at < endpoint.updated:
            return False
        before = self._book.healths().get(name)
        if ended.kind == State.SUCCEEDED:
            if before is None or ended.at < before.since:
                return False
            self._records.remove(HEALTH, name)
            self._book.drop()
            return True
        about = load(job.error)["about"] if job.error is not None else {}
        error = data.get("error", "")
        health = after_failure(before, ended.at, error, about.get("retry_after"))
        self._put(name, health)
        why = why_disabled(health, ended.at, error, self._patience)
        if why and endpoint.disabled is None:
            self._disable(endpoint, why)
        return True

    def _put(self, name: str, health: Health) -> None:
        found = self._records.get(HEALTH, name)
        seen = 0 if found is None else found.version
        self._records.put(HEALTH, name, health._asdict(), seen)
        self._book.drop()


def job_event(ended: Told, uri: str, topic: str) -> Event:
    """The event of a job's end; of the same end always the same."""
    told = load(ended.data)
    data = {"job": ended.job, "uri": uri, "state": ended.kind, "attempt": told.get("attempt")}
    if "error" in told:
        data["error"] = {"error": told["error"], "message": told["message"]}
    return Event(
        id=f"job_{ended.job}_{ended.seq}",
        topic=topic,
        type=f"{JOB_TOPICS}{ended.kind}",
        timestamp=ended.at,
        data=data,
    )
