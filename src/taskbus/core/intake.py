"""Intake: calls become jobs, stored in one commit and put in the queue."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from taskbus.core.keys import Call, idempotency_key, sift, unique_key
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import (
    IdempotencyMismatch,
    InvalidArgument,
    KeyTaken,
    QueueUnavailable,
)
from taskbus.model.identity import new_job_id
from taskbus.model.job import Job, Key, Placement, State, Submission, born
from taskbus.model.json import dump
from taskbus.model.options import (
    FOLLOW_UPS,
    LONGEST_DELAY,
    PER_CALL,
    SHARED,
    STANDARD_WINDOW,
    check_args,
    check_kwargs,
)
from taskbus.model.policy import Policy
from taskbus.model.uri import check_uri
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.keys import Keys
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
# A delay is the policy of jobs that follow others alone.
_POLICY = frozenset(Policy._fields) - {"delay"}
_SPECIAL = _POLICY | {"idempotency_key"}
# What the task finds in its details.
_TOLD = ("context", "idempotency_key")
# So many others in a row were faster with the same key.
_MOST_RACES = 100


def prepare(
    api: ApiMap,
    clock: Clock,
    request: Mapping[str, Any],
    details: Mapping[str, Any],
    is_own: bool = False,
) -> Submission:
    """Check one request to run a URI later; the bus' own may name a task that is built in.

    ``request``: ``uri``, and where wanted ``args`` (list), ``kwargs`` (object) and the options of
    ``taskbus.model.options``; what is missing or None comes from the API map. Raises
    InvalidArgument or UnknownUri.
    """
    said = _checked(request)
    if "uri" not in said:
        check_uri(None)
    uri: str = said["uri"]
    entry = api.of_job(uri) if is_own else api.to_queue(uri)
    if "queue" in said:
        api.check_queue(said["queue"])
    now = clock()
    due = _due(said, request, now)
    policy = entry.policy if _SPECIAL.isdisjoint(said) else _policy(entry.policy, said)
    told = {name: said[name] for name in _TOLD if name in said}
    if "trace" in said:
        told["trace"] = said["trace"].told
    if told:
        details = {**details, **told}
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
        tied=1 if policy.unique else 0,
        seq=1,
    )
    event = born(job, "submitted", actor(details))
    keys = _keys(job, policy, said, details) if policy.unique or "idempotency_key" in said else ()
    return Submission(job, event, keys)


def actor(details: Mapping[str, Any]) -> str:
    """Who submits, as the journal names them."""
    return str(details.get("caller_authid") or "unknown")


def _checked(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says, each value as its check returns it."""
    said = {}
    for field, value in request.items():
        check = _CHECKS.get(field)
        if check is None:
            known = ", ".join(sorted({*_CHECKS, *FOLLOW_UPS}))
            raise InvalidArgument(field, value, "unknown option", f"known: {known}")
        if value is not None:
            said[field] = check(value)
    return said


def _policy(policy: Policy, said: Mapping[str, Any]) -> Policy:
    policy = policy._replace(**{name: said[name] for name in _POLICY & said.keys()})
    if "idempotency_key" in said:
        return policy._replace(idempotency_window=policy.idempotency_window or STANDARD_WINDOW)
    if policy.idempotency_window is not None:
        raise InvalidArgument(
            "idempotency_window",
            policy.idempotency_window,
            "without a key",
            "send an idempotency_key, too",
        )
    return policy


def _keys(
    job: Job, policy: Policy, said: Mapping[str, Any], details: Mapping[str, Any]
) -> tuple[Key, ...]:
    keys = []
    if "idempotency_key" in said and policy.idempotency_window is not None:
        # Over the HTTP bridge nobody has an authid.
        scope = str(details.get("caller_authid") or details.get("caller_authrole") or "")
        text = said["idempotency_key"]
        keys.append(idempotency_key(job, scope, text, policy.idempotency_window))
    if policy.unique:
        keys.append(unique_key(job, policy.unique))
    return tuple(keys)


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

    def __init__(self, store: Store, keys: Keys, queue: Queue, bell: Bell) -> None:
        self._store = store
        self._keys = keys
        self._queue = queue
        self._bell = bell
        self._placed: list[Placement] = []

    def accept(self, calls: Sequence[Call]) -> list[list[str] | IdempotencyMismatch]:
        """Store their jobs in one commit, then queue them. They are accepted once this returns.

        For each call the ids of its jobs, in order: of new ones, and of those that are there
        already under the same key; or the error that refuses this whole call, and no other one.
        Raises StoreUnavailable, and then nothing was accepted. A queue that is down delays the
        jobs and loses nothing: a chore puts them there later, as what it never said it has.
        """
        fresh, answers = self._add(calls)
        self._placed = []
        self._bell.ring()
        placements = [one.job.placement for one in fresh if one.job.state is State.QUEUED]
        # The queue has answered the last offer by now; for the answer to this one nobody waits.
        self._hear()
        try:
            self._queue.offer(placements)
        except QueueUnavailable as error:
            log.warning("queue is down, %d jobs wait in the store: %s", len(placements), error)
        return answers

    def _hear(self) -> None:
        try:
            self._placed += self._queue.taken()
        except QueueUnavailable as error:
            log.warning("the last jobs that the queue was given are put there again: %s", error)

    def _add(
        self, calls: Sequence[Call]
    ) -> tuple[Sequence[Submission], list[list[str] | IdempotencyMismatch]]:
        """Store what is new; says what that was, and each call's answer."""
        submissions = [one for call in calls for one in call]
        keys = [key for one in submissions if one.keys for key in one.keys]
        if not keys:
            self._store.add(submissions, self._placed)
            return submissions, [[one.job.id for one in call] for call in calls]
        names = {key.name for key in keys}
        # As the store does: whoever reads the clock at another moment would see other keys.
        now = min(one.job.created for one in submissions if one.keys)
        races = 0
        while True:
            sifted = sift(calls, self._keys.holders(names, now))
            try:
                if sifted.further:
                    self._keys.hold(sifted.further, now)
                # Where nothing is new, too: what others have just stored is durable then.
                self._store.add(sifted.fresh, self._placed)
            except KeyTaken:
                # Somebody else took it after we had looked.
                races += 1
                if races > _MOST_RACES:
                    raise
            else:
                return sifted.fresh, sifted.answers

    def flush(self) -> None:
        """Tell the store what the queue has taken and no commit has told it yet."""
        self._hear()
        if self._placed:
            self._store.placed(self._placed)
            self._placed = []
