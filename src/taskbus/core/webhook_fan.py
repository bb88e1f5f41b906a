"""One event becomes one job for each endpoint that wants it, all stored in one commit."""

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskbus.core.chores import place
from taskbus.core.follow import FollowUps
from taskbus.core.intake import prepare
from taskbus.core.webhook_book import Book
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import TaskbusError
from taskbus.model.job import FINAL, Link, State, Submission, born
from taskbus.model.json import dump, load
from taskbus.model.options import END
from taskbus.model.trace import Trace
from taskbus.model.webhook import DELIVER, TAG, Endpoint, Event
from taskbus.port.clock import Clock
from taskbus.port.queue import Queue
from taskbus.port.store import Store

log = logging.getLogger(__name__)

# Who submits, as the jobs tell it.
CALLER = {"caller_authid": "webhooks", "caller_authrole": "bus"}
_MOST_AT_ONCE = 1000

Accept = Callable[[Sequence[Submission]], Sequence[str]]


class Fan:
    """Several threads may use it."""

    def __init__(
        self,
        api: ApiMap,
        book: Book,
        store: Store,
        queue: Queue,
        follow_ups: FollowUps,
        clock: Clock,
        accept: Accept,
    ) -> None:
        """``accept``: stores jobs and queues them; returns their ids, or raises."""
        self._api = api
        self._book = book
        self._store = store
        self._queue = queue
        self._follow_ups = follow_ups
        self._clock = clock
        self._accept = accept
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}

    def wanted_by(self, event: Event) -> list[Endpoint]:
        """The endpoints that the event is for."""
        return [one for one in self._book.endpoints().values() if one.wants(event)]

    def send(
        self,
        event: Event,
        endpoints: Sequence[Endpoint],
        is_named: bool = False,
        trace: Trace | None = None,
        is_ping: bool = False,
    ) -> list[str]:
        """The ids of the jobs, all stored. ``is_named``: an event of this id that was sent before
        is not sent twice. ``trace``: what the event belongs to. ``is_ping``: tried once, and at
        once, whatever else waits. Raises StoreUnavailable, or IdempotencyMismatch where another
        event has had this id.
        """
        options: dict[str, Any] = {"trace": None if trace is None else trace.told}
        if is_ping:
            options |= {"retries": 0, "concurrency_key": f"ping {endpoints[0].name}"}
        free = [one for one in endpoints if not one.ordered]
        ids = self._stored([self._job(event, one, is_named, options) for one in free])
        for one in endpoints:
            if one.ordered:
                ids += self._send_in_order(event, one, is_named, options)
        return ids

    def _stored(self, jobs: Sequence[Submission | None]) -> list[str]:
        found = [one for one in jobs if one is not None]
        ids: list[str] = []
        for begin in range(0, len(found), _MOST_AT_ONCE):
            ids += self._accept(found[begin : begin + _MOST_AT_ONCE])
        return ids

    def _job(
        self, event: Event, endpoint: Endpoint, is_named: bool, options: Mapping[str, Any]
    ) -> Submission | None:
        told = {"id": event.id, "type": event.type, "data": event.data}
        request: dict[str, Any] = {
            "tags": [TAG + endpoint.name],
            # Not among the arguments, by which an event that is sent again is known.
            "context": {"timestamp": event.timestamp},
        }
        if endpoint.call is not None:
            request |= {"uri": endpoint.call, "args": [told]}
        else:
            request |= {
                "uri": DELIVER,
                "kwargs": {"endpoint": endpoint.name, "event": told},
                "concurrency_key": endpoint.name,
            }
        if is_named:
            request["idempotency_key"] = _key(event, endpoint)
        is_own = endpoint.call is None
        try:
            return prepare(self._api, self._clock, {**request, **options}, CALLER, is_own)
        except TaskbusError as error:
            # As where the API map has the URI no more: the other endpoints are to hear of it.
            log.warning("event %s: not for endpoint %s: %s", event.id, endpoint.name, error)
            return None

    def _send_in_order(
        self, event: Event, endpoint: Endpoint, is_named: bool, options: Mapping[str, Any]
    ) -> list[str]:
        """After the endpoint's last one has ended, however it did."""
        with self._lock:
            job = self._job(event, endpoint, is_named, options)
            if job is None:
                return []
            last = self._unended(endpoint.name)
            ids = list(self._accept([_after(last, job)]))
            if ids == [job.job.id]:
                self._last[endpoint.name] = job.job.id
        if last is not None:
            self.follow(last)
        return ids

    def _unended(self, endpoint: str) -> str | None:
        """The endpoint's last delivery, where it has not ended yet."""
        known = self._last.get(endpoint)
        if known is None:
            newest = self._store.jobs(tag=TAG + endpoint, limit=1)
        else:
            newest = [job for job in [self._store.job(known)] if job is not None]
        return next((job.id for job in newest if job.state not in FINAL), None)

    def follow(self, last: str) -> None:
        """Let those go on that wait for this job, where it had ended before they were stored."""
        ended = self._store.job(last)
        if ended is not None and ended.state in FINAL:
            place(self._store, self._queue, self._follow_ups.after([ended]))

    def resume(self) -> None:
        """Let those go on whose predecessor ended while nobody looked; for a start."""
        for endpoint in self._book.endpoints().values():
            if endpoint.ordered:
                for job in self._store.jobs([State.WAITING], tag=TAG + endpoint.name, limit=1000):
                    for before in load(job.details).get("after", ()):
                        self.follow(before)


def _after(last: str | None, one: Submission) -> Submission:
    """The job as one that others can wait for, and that waits for the last one itself."""
    job = one.job._replace(tied=1)
    if last is None:
        return one._replace(job=job)
    details = {**load(job.details), "after": [last]}
    job = job._replace(state=State.WAITING, details=dump(details))
    event = born(job, f"submitted, waits for job {last}", CALLER["caller_authid"])
    return one._replace(job=job, event=event, links=(Link(last, job.id, END),))


def _key(event: Event, endpoint: Endpoint) -> str:
    target = "call" if endpoint.call is not None else "url"
    names = "\n".join((event.topic, endpoint.name, target, endpoint.call or "", event.id))
    return hashlib.sha256(names.encode()).hexdigest()
