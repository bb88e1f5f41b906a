"""Promotion: a foreground call that takes long goes on as a job, in the backend that runs it.

::

    call --promote--> running: attempt 1, by this backend --settle--> as any other job
                         |
                         | the backend died, or lost its claim
                         +--> taken over by a worker (``taskbus.core.lease``)
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from taskbus.core.lease import lease_seconds
from taskbus.core.retention import STANDARD_RETENTION, Retention
from taskbus.core.settle import conclude
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.errors import TaskCancelled
from taskbus.model.job import Event, Job, Note, State, Submission, note
from taskbus.model.json import dump
from taskbus.model.task import MOST_WARNINGS
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.liveness import Liveness
from taskbus.port.store import Store

log = logging.getLogger(__name__)

_TURN_SECONDS = 0.25
_LOOK_SECONDS = 0.5
_GRACE = 5.0

# Ends what a job runs; True: at once, False: it may clean up. False where nothing can.
Abort = Callable[[bool], bool]


class _Kept:
    """One job in the backend's hands."""

    def __init__(
        self, job: Job, abort: Abort, forgotten: Callable[[], None], is_sure: bool
    ) -> None:
        self.job = job
        self.abort = abort
        self.forgotten = forgotten
        self.is_sure = is_sure
        # The job after a step of which the store did not say that it was taken.
        self.doubt = None if is_sure else job
        self.keep_at = 0.0
        self.kill_at: float | None = None
        self.outcome: Outcome | None = None
        self.progress: dict[str, Any] | None = None
        self.notes: list[Note] = []
        self.telling: list[Note] = []
        self.warnings = 0


class Keeper:
    """Makes jobs of a backend's calls, keeps its claims on them, and records what they say and how
    they end, once.

    ``run`` is for one thread, which may wait for the store; the rest is for any, and does not.
    """

    def __init__(
        self,
        store: Store,
        liveness: Liveness,
        bell: Bell,
        clock: Clock,
        timer: Clock,
        ttr: float,
        retention: Retention = STANDARD_RETENTION,
    ) -> None:
        """``clock``: for what is stored; ``timer``: for all else, seconds that pass whatever the
        clock is set to. ``ttr``: seconds that a claim lasts where the job does not say so itself.
        """
        self._store = store
        self._worker = liveness.identity()
        self._bell = bell
        self._clock = clock
        self._timer = timer
        self._ttr = ttr
        self._retention = retention
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._news = threading.Event()
        self._look_at = 0.0

    def promoted(self, call: Submission, began: float) -> Submission:
        """The call, as if it had been submitted for later, as a job that this process has in hand
        since ``began``.
        """
        now = self._clock()
        job = call.job._replace(
            state=State.RUNNING,
            created=began,
            due=began,
            started=began,
            attempt=1,
            worker=self._worker,
            lease=now + lease_seconds(call.job, self._ttr),
        )
        told = {"reason": "promoted", "actor": self._worker, "attempt": job.attempt}
        return call._replace(job=job, event=Event(job.id, job.seq, now, job.state, dump(told)))

    def keep(
        self, job: Job, abort: Abort, forgotten: Callable[[], None], is_sure: bool = True
    ) -> None:
        """From now on, until its outcome is recorded, or another one has it; then ``forgotten`` is
        called.

        Not ``is_sure``: the store has not said whether it has the job.
        """
        one = _Kept(job, abort, forgotten, is_sure)
        with self._lock:
            self._kept[job.id] = one
        self._news.set()

    def progress(self, job: str, fraction: float, message: str) -> None:
        """What it told last."""
        with self._lock:
            if one := self._kept.get(job):
                one.progress = {"fraction": fraction, "message": message}

    def warn(self, job: str, message: str) -> None:
        """Something odd that is no failure."""
        with self._lock:
            one = self._kept.get(job)
            if one and one.warnings < MOST_WARNINGS:
                one.warnings += 1
                one.notes.append(("warning", {"reason": message}))

    def end(self, job: str, outcome: Outcome) -> None:
        """How it ended; what is not kept any more has ended otherwise."""
        with self._lock:
            if one := self._kept.get(job):
                one.outcome = outcome
        self._news.set()

    def wait(self) -> None:
        """Until there may be something to do."""
        self._news.wait(_TURN_SECONDS if self._kept else None)
        self._news.clear()

    def run(self) -> None:
        """Do all that is to be done now; raises StoreUnavailable, and is to be called again."""
        now = self._timer()
        with self._lock:
            kept = list(self._kept.values())
        if kept and now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            asked = self._store.asked_to_end([one.job.id for one in kept])
            for one in kept:
                if one.job.id in asked:
                    self._cancel(one, asked[one.job.id], now)
        for one in kept:
            self._tend(one, now)

    def _cancel(self, one: _Kept, actor: str, now: float) -> None:
        if one.job.cancel is not None:
            if one.kill_at is not None and now >= one.kill_at:
                one.kill_at = None
                one.abort(True)
            return
        one.job = one.job._replace(cancel=actor)
        reason = "asked to end"
        if one.abort(False):
            one.kill_at = now + _GRACE
        else:
            reason = "Python code in a backend runs on to its end; its result will be dropped"
            failure = failure_text(TaskCancelled(f"cancelled by {actor}", actor=actor))
            with self._lock:
                one.outcome = one.outcome or Outcome(False, failure)
        with self._lock:
            one.notes.append(("cancelling", {"actor": actor, "reason": reason}))

    def _tend(self, one: _Kept, now: float) -> None:
        if one.doubt is not None:
            self._resolve(one, one.doubt)
        if one.job.id in self._kept:
            self._record(one, self._clock())
        if one.job.id in self._kept and now >= one.keep_at:
            self._renew(one, now)

    def _record(self, one: _Kept, now: float) -> None:
        """Store what it said, and its end."""
        with self._lock:
            outcome = one.outcome
            one.telling = list(one.notes)
            if one.progress is not None:
                one.telling.append(("progress", one.progress))
        if outcome is not None:
            changes = conclude(one.job, one.telling, outcome, now, self._retention)
        elif one.telling:
            changes = [note(one.job, now, one.telling)]
        else:
            return
        # Until the store has said otherwise.
        one.doubt = changes[-1].after
        if all(self._store.advance(changes, durable=outcome is not None)):
            self._recorded(one, one.doubt)

    def _recorded(self, one: _Kept, job: Job) -> None:
        """The store has what was told."""
        self._bell.ring()
        one.job, one.doubt = job, None
        with self._lock:
            for kind, data in one.telling:
                if kind != "progress":
                    one.notes.pop(0)
                elif one.progress is data:
                    one.progress = None
        if job.state is not State.RUNNING:
            self._forget(one)

    def _resolve(self, one: _Kept, doubt: Job) -> None:
        """A step was refused, or the store did not say what became of it: look."""
        found = self._store.job(doubt.id)
        if found is not None and (found.seq, found.state) == (doubt.seq, doubt.state):
            one.is_sure = True
            self._recorded(one, doubt)
        elif found is not None and found.worker == self._worker and found.attempt == doubt.attempt:
            one.job, one.doubt = one.job._replace(seq=found.seq), None
        else:
            self._lose(one)

    def _renew(self, one: _Kept, now: float) -> None:
        seconds = lease_seconds(one.job, self._ttr)
        if self._store.renew(one.job, self._clock() + seconds):
            one.keep_at = now + seconds / 3
        else:
            self._lose(one)

    def _lose(self, one: _Kept) -> None:
        """The job is another's now, or was never stored."""
        if one.is_sure:
            log.warning("job %s: the claim was lost, this outcome is dropped", one.job.id)
            one.abort(True)
        self._forget(one)

    def _forget(self, one: _Kept) -> None:
        with self._lock:
            self._kept.pop(one.job.id, None)
        one.forgotten()
