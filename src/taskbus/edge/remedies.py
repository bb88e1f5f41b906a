"""Remedies: what somebody does about a job: cancel it, replay it, forget it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet.threads import deferToThread

from taskbus.core.cancel import cancel
from taskbus.core.chores import place
from taskbus.core.follow import FollowUps, has_ended
from taskbus.core.permit import Permit, jobs_within
from taskbus.core.replay import replay, retry
from taskbus.core.retention import Retention
from taskbus.edge.request import (
    chosen_job,
    chosen_states,
    chosen_tag,
    chosen_uris,
    named,
    whole,
    yes_or_no,
)
from taskbus.model.access import MANAGE, SUBMIT
from taskbus.model.errors import (
    InvalidArgument,
    JobChanged,
    NotReplayable,
    NotUnique,
    QueueUnavailable,
)
from taskbus.model.job import REPLAYABLE, Change, Job, Placement, State
from taskbus.model.options import check_args, check_kwargs
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.keys import Keys
from taskbus.port.queue import Queue
from taskbus.port.store import Store, existing

log = logging.getLogger(__name__)

_MOST = 1000


class _Chosen(NamedTuple):
    """Which dead letters somebody means."""

    read: Callable[[], Sequence[Job]]
    dry_run: bool


class Remedies:
    """The procedures, for ``taskbus.edge.control``."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        queue: Queue,
        bell: Bell,
        clock: Clock,
        retention: Retention,
        follow_ups: FollowUps,
        permit: Callable[[Any], Permit],
    ) -> None:
        """``permit``: what a call's details say that its caller may do."""
        self._permit = permit
        self._store = store
        self._keys = keys
        self._queue = queue
        self._bell = bell
        self._clock = clock
        self._retention = retention
        self._follow_ups = follow_ups

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {
            "taskbus.job.cancel": self.cancel,
            "taskbus.job.retry": self.retry,
            "taskbus.job.replay": self.replay,
            "taskbus.job.replay_many": self.replay_many,
            "taskbus.job.discard_many": self.discard_many,
        }

    def cancel(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``cancel(job, seq=)`` -> ``"cancelled"``, or ``"running"`` until its worker has ended it.

        ``seq``: the number of the job's last event that the caller knows; refused once there are
        more.
        """
        request = named(("job", "seq"), args, kwargs)
        job, seq = chosen_job(request), _chosen_seq(request)
        who, permit = _actor(details), self._permit(details)

        def end() -> str:
            found = existing(self._store, job)
            permit.require_job(MANAGE, found)
            _check_seq(found, seq)
            state = cancel(self._store, self._clock, found, who, self._retention)
            self._bell.ring()
            if found.tied and state is State.CANCELLED:
                self._follow(job)
            return state.value

        return deferToThread(end)

    def retry(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``retry(job, seq=)`` -> the job's id: what waits for its time is queued now, what has
        ended without success once more.
        """
        request = named(("job", "seq"), args, kwargs)
        job, seq = chosen_job(request), _chosen_seq(request)
        who, permit = _actor(details), self._permit(details)

        def again() -> str:
            now, found = self._clock(), existing(self._store, job)
            permit.require_job(MANAGE, found)
            _check_seq(found, seq)
            return self._again(retry(found, who, now), now)

        return deferToThread(again)

    def replay(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``replay(job, args=, kwargs=, seq=)`` -> the job's id; it is queued once more."""
        request = named(("job", "args", "kwargs", "seq"), args, kwargs)
        job, seq = chosen_job(request), _chosen_seq(request)
        new_args, new_kwargs = check_args(request.get("args")), check_kwargs(request.get("kwargs"))
        who, permit = _actor(details), self._permit(details)

        def again() -> str:
            now, found = self._clock(), existing(self._store, job)
            permit.require_job(MANAGE, found)
            if new_args is not None or new_kwargs is not None:
                permit.require(SUBMIT, found.uri, "job")
            _check_seq(found, seq)
            return self._again(replay(found, who, now, new_args, new_kwargs), now)

        return deferToThread(again)

    def replay_many(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``replay_many(state=, uri=, limit=1000, dry_run=False, tag=)`` -> ids of those queued.

        Dead letters, failed and dead jobs, where no state is named; without unique ones in whose
        place another job waits or runs.
        """
        found = self._chosen(details, args, kwargs)
        who = _actor(details)

        def again() -> list[str]:
            jobs = found.read()
            if found.dry_run:
                return [job.id for job in jobs]
            now = self._clock()
            return self._queue_again([replay(job, who, now) for job in jobs])

        return deferToThread(again)

    def discard_many(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``discard_many(state=, uri=, limit=1000, dry_run=False, tag=)`` -> ids of those gone,
        with their journals and results; those that ``replay_many`` would queue again.
        """
        found = self._chosen(details, args, kwargs)

        def forget() -> list[str]:
            ids = [job.id for job in found.read()]
            return ids if found.dry_run else self._store.remove(ids)

        return deferToThread(forget)

    def _follow(self, job: str) -> None:
        """Let those go on that waited for this end."""
        ended = self._store.job(job)
        if ended is not None and has_ended(ended):
            self._place(self._follow_ups.after([ended]))
            self._bell.ring()

    def _again(self, change: Change, now: float) -> str:
        """Queue one job; its id."""
        job = change.after.id
        if not self._queue_again([change]):
            for held in self._keys.holders([key.name for key in change.keys], now).values():
                raise NotUnique(job, held.job)
            raise NotReplayable(job, "changed by somebody else at this moment")
        return job

    def _queue_again(self, changes: Sequence[Change]) -> list[str]:
        """Store and queue what is replayed; the ids of those that nobody else has changed."""
        done = self._store.advance(changes)
        self._bell.ring()
        again = [change.after for change, ok in zip(changes, done, strict=True) if ok]
        self._place([job.placement for job in again])
        return [job.id for job in again]

    def _place(self, placements: Sequence[Placement]) -> None:
        try:
            place(self._store, self._queue, placements)
        except QueueUnavailable as error:
            log.warning("queue is down, %d jobs wait in the store: %s", len(placements), error)

    def _chosen(self, details: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Chosen:
        request = named(("state", "uri", "limit", "dry_run", "tag"), args, kwargs)
        wanted = chosen_states(request.get("state")) or [State.FAILED, State.DEAD]
        if wrong := [state for state in wanted if state not in REPLAYABLE]:
            raise InvalidArgument(
                "state", wrong[0].value, "is no dead letter", f"use {', '.join(sorted(REPLAYABLE))}"
            )
        uri, tag = chosen_uris(request.get("uri")), chosen_tag(request.get("tag"))
        limit = whole(request, "limit", 1, _MOST, _MOST)
        dry_run = yes_or_no(request, "dry_run")
        patterns = self._permit(details).within(MANAGE, uri)
        return _Chosen(lambda: jobs_within(self._store, patterns, wanted, "", limit, tag), dry_run)


def _chosen_seq(request: Mapping[str, Any]) -> int | None:
    """The journal's number at which the caller knows the job; None where it does not say."""
    return None if request.get("seq") is None else whole(request, "seq", 1, 2**31, 1)


def _check_seq(job: Job, seq: int | None) -> None:
    if seq not in (None, job.seq):
        raise JobChanged(job.id, job.seq)


def _actor(details: Any) -> str:
    return str(details.caller_authid or "unknown")
