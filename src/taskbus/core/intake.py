"""Intake: calls become jobs, stored in one commit and put in the queue."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument, QueueUnavailable
from taskbus.model.identity import new_job_id
from taskbus.model.job import Event, Job, State, born
from taskbus.model.json import dump
from taskbus.model.options import (
    check_args,
    check_delay,
    check_kwargs,
    check_priority,
    check_retries,
    check_timeout,
)
from taskbus.model.uri import check_uri
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.queue import Queue
from taskbus.port.store import Store

log = logging.getLogger(__name__)

_FIELDS = frozenset({"uri", "args", "kwargs", "priority", "delay", "timeout", "retries"})


class Submission(NamedTuple):
    """A job that is valid but not accepted yet."""

    job: Job
    event: Event


def prepare(
    api: ApiMap, clock: Clock, request: Mapping[str, Any], details: Mapping[str, Any]
) -> Submission:
    """Check one request to run a URI later.

    ``request``: ``uri``, and where wanted ``args`` (list), ``kwargs`` (object), ``priority``,
    ``delay`` (seconds), ``timeout`` (seconds), ``retries``; what is missing comes from the API map.
    Raises InvalidArgument or UnknownUri.
    """
    for field in request:
        if field not in _FIELDS:
            raise InvalidArgument(
                field, request[field], "unknown option", f"known: {', '.join(sorted(_FIELDS))}"
            )
    uri = check_uri(request.get("uri"))
    entry = api.entry(uri)
    now = clock()
    delay = check_delay(request["delay"]) if request.get("delay") is not None else 0.0
    job = Job(
        id=new_job_id(),
        uri=uri,
        state=State.SCHEDULED if delay else State.QUEUED,
        priority=_chosen(request, "priority", check_priority, entry.priority),
        timeout=_chosen(request, "timeout", check_timeout, entry.timeout),
        retries=_chosen(request, "retries", check_retries, entry.retries),
        args=check_args(request.get("args")) or "[]",
        kwargs=check_kwargs(request.get("kwargs")) or "{}",
        details=dump(details),
        created=now,
        due=now + delay,
        seq=1,
    )
    return Submission(job, born(job, "submitted", str(details.get("caller_authid") or "unknown")))


def _chosen(request: Mapping[str, Any], field: str, check: Any, default: Any) -> Any:
    value = request.get(field)
    return default if value is None else check(value)


class Intake:
    """Accepts submissions. One thread at a time may use it."""

    def __init__(self, store: Store, queue: Queue, bell: Bell) -> None:
        self._store = store
        self._queue = queue
        self._bell = bell
        self._placed: list[str] = []

    def accept(self, submissions: Sequence[Submission]) -> None:
        """Store them in one commit, then queue them. They are accepted once this returns.

        Raises StoreUnavailable, and then nothing was accepted. A queue that is down delays the
        jobs and loses nothing: a chore puts them there later.
        """
        jobs = [submission.job for submission in submissions]
        self._store.add(jobs, [submission.event for submission in submissions], self._placed)
        self._placed = []
        self._bell.ring()
        placements = [job.placement for job in jobs if job.state is State.QUEUED]
        try:
            self._queue.put(placements)
        except QueueUnavailable as error:
            log.warning("queue is down, %d jobs wait in the store: %s", len(placements), error)
        else:
            self._placed += [placement.job for placement in placements]

    def flush(self) -> None:
        """Tell the store what the queue has taken since the last commit."""
        if self._placed:
            self._store.placed(self._placed)
            self._placed = []
