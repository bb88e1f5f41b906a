"""Intake: calls become jobs, stored in one commit and put in the queue."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument, QueueUnavailable
from taskbus.model.identity import new_job_id
from taskbus.model.job import Job, State, Submission, born
from taskbus.model.json import dump
from taskbus.model.options import LONGEST_DELAY, PER_CALL, SHARED, check_args, check_kwargs
from taskbus.model.policy import Policy
from taskbus.model.uri import check_uri
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.queue import Queue
from taskbus.port.store import Store

log = logging.getLogger(__name__)

_CHECKS: dict[str, Any] = {
    "uri": check_uri,
    "args": check_args,
    "kwargs": check_kwargs,
    **SHARED,
    **PER_CALL,
}
_POLICY = frozenset(Policy._fields)


def prepare(
    api: ApiMap, clock: Clock, request: Mapping[str, Any], details: Mapping[str, Any]
) -> Submission:
    """Check one request to run a URI later.

    ``request``: ``uri``, and where wanted ``args`` (list), ``kwargs`` (object) and the options of
    ``taskbus.model.options``; what is missing or None comes from the API map. Raises
    InvalidArgument or UnknownUri.
    """
    said = _checked(request)
    if "uri" not in said:
        check_uri(None)
    uri: str = said["uri"]
    entry = api.entry(uri)
    now = clock()
    due = _due(said, request, now)
    policy = entry.policy
    if not _POLICY.isdisjoint(said):
        policy = policy._replace(**{name: said[name] for name in _POLICY & said.keys()})
    if "context" in said:
        details = {**details, "context": said["context"]}
    job = Job(
        id=new_job_id(),
        uri=uri,
        state=State.SCHEDULED if due > now else State.QUEUED,
        priority=said.get("priority", entry.priority),
        timeout=said.get("timeout", entry.timeout),
        retries=said.get("retries", entry.retries),
        args=said.get("args", "[]"),
        kwargs=said.get("kwargs", "{}"),
        details=dump(details),
        created=now,
        due=due,
        queue=said.get("queue", entry.queue),
        policy=policy.text,
        tags=dump(said["tags"]) if said.get("tags") else "[]",
        seq=1,
    )
    return Submission(job, born(job, "submitted", str(details.get("caller_authid") or "unknown")))


def _checked(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says, each value as its check returns it."""
    said = {}
    for field, value in request.items():
        check = _CHECKS.get(field)
        if check is None:
            known = ", ".join(sorted(_CHECKS))
            raise InvalidArgument(field, value, "unknown option", f"known: {known}")
        if value is not None:
            said[field] = check(value)
    return said


def _due(said: Mapping[str, Any], request: Mapping[str, Any], now: float) -> float:
    if "run_at" not in said:
        return float(now + said.get("delay", 0.0))
    if "delay" in said:
        raise InvalidArgument("run_at", request["run_at"], "beside a delay", "send one of the two")
    if said["run_at"] > now + LONGEST_DELAY:
        days = f"{LONGEST_DELAY / 86400:.0f}"
        raise InvalidArgument(
            "run_at", request["run_at"], "too far away", f"use up to {days} days from now"
        )
    due: float = max(now, said["run_at"])
    return due


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
        self._store.add(submissions, self._placed)
        self._placed = []
        self._bell.ring()
        placements = [one.job.placement for one in submissions if one.job.state is State.QUEUED]
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
