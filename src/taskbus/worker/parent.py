"""The worker: reserve, claim, run in a fresh child, settle, delete.

Single-threaded and synchronous: one loop over a few slots. What ended and what was delivered since
the last turn is settled and claimed in one commit. Signals only set flags and wake the loop: TERM
and INT let the jobs in hand finish, HUP loads the task code anew.
"""

import gc
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from taskbus.core.admission import Admission, touched
from taskbus.core.chores import place
from taskbus.core.follow import FollowUps, has_ended
from taskbus.core.lease import Busy, Nothing, claim, lease_seconds
from taskbus.core.retention import STANDARD_RETENTION, Retention
from taskbus.core.settle import settle
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import QueueUnavailable, StoreUnavailable, TaskbusError
from taskbus.model.job import Change, Job, State, note
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.limits import Limits
from taskbus.port.liveness import Liveness
from taskbus.port.queue import Delivery, Queue
from taskbus.port.store import Store
from taskbus.worker.attempt import Attempt
from taskbus.worker.channel import wait_readable
from taskbus.worker.spares import ForkerGone, Spares

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# How often the store is asked whether somebody wants a running job to end.
_LOOK_SECONDS = 0.5


class _Slot:
    """A place for one job, with a queue connection of its own: reservations belong to it."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.asked = False
        self.delivery: Delivery | None = None
        self.job: Job | None = None
        # How the jobs before it have ended, where there are any.
        self.before: list[dict[str, Any]] | None = None
        self.attempt: Attempt | None = None
        self.outcome: Outcome | None = None
        # The job after a step of which the store did not say that it was taken.
        self.doubt: Job | None = None
        self.rest_until = 0.0
        self.pause = _FIRST_PAUSE

    @property
    def idle(self) -> bool:
        return self.delivery is None

    @property
    def waiting(self) -> Job | None:
        """The claimed job, while no child has it."""
        return self.job if self.attempt is None and self.outcome is None else None

    def clear(self) -> None:
        """Ready for the next job."""
        if self.attempt is not None:
            self.attempt.child.close()
        self.delivery = self.job = self.before = None
        self.attempt = self.outcome = self.doubt = None


class Worker:
    """A few slots, one forker."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        queues: Sequence[Queue],
        liveness: Liveness,
        bell: Bell,
        clock: Clock,
        follow_ups: FollowUps,
        load_map: Callable[[], ApiMap],
        task_path: Sequence[str],
        ttr: float,
        on_ready: Callable[[], None],
        retention: Retention = STANDARD_RETENTION,
    ) -> None:
        """``queues``: a connection for each job that may run at a time; ``load_map`` reads the API
        map anew; ``ttr``: seconds a claim lasts without a sign of life; ``on_ready`` is called
        whenever the worker has asked for a job.
        """
        self._store = store
        self._slots = [_Slot(queue) for queue in queues]
        self._liveness = liveness
        self._bell = bell
        self._clock = clock
        self._follow_ups = follow_ups
        self._load_map = load_map
        self._task_path = task_path
        self._ttr = ttr
        self._on_ready = on_ready
        self._retention = retention
        self._stopping = False
        self._stale = False
        self._is_cold = False
        self._reload_at = 0.0
        self._left: int | None = None
        self._look_at = 0.0
        self._store_rest_until = 0.0
        self._store_pause = _FIRST_PAUSE
        self._listen()
        self._api, self._spares = self._warm()
        self._admission = Admission(store, limits, clock, lambda: self._api, liveness.identity())
        self._old: list[Spares] = []
        # What is loaded now stays for good: no collection need look at it again.
        gc.collect()
        gc.freeze()

    def serve(self, most: int | None = None) -> None:
        """Work until told to stop, or until ``most`` jobs are done."""
        self._left = most
        while not (self._is_over() and all(slot.idle for slot in self._slots)):
            if self._stale and self._clock() >= self._reload_at:
                self._reload()
            self._ask()
            self._turn(self._wait())
            self._retire()
        for slot in self._slots:
            slot.queue.close()
        self._spares.close()

    def _is_over(self) -> bool:
        return self._stopping or self._left == 0

    def _ask(self) -> None:
        """Idle slots ask the queue for a job, or stop asking."""
        now = self._clock()
        asking = sum(not slot.idle or slot.asked for slot in self._slots)
        for slot in self._slots:
            if not slot.idle:
                continue
            if self._is_over() or self._is_cold:
                # Closing the connection gives back what may just have been reserved.
                slot.queue.close()
                slot.asked = False
            elif not slot.asked and now >= slot.rest_until:
                if self._left is not None and asking >= self._left:
                    return
                with _Resting(slot, now):
                    slot.queue.request()
                    slot.asked = True
                    asking += 1
        if any(slot.asked for slot in self._slots):
            self._on_ready()

    def _wait(self) -> float:
        """Until something is to be read or done; reads it; returns the time."""
        now = self._clock()
        readers: dict[int, Callable[[], Any]] = {self._woken.fileno(): self._forget_wakeups}
        # A dead forker's descriptor stays readable: it has nothing more to say.
        for spares in (*(() if self._is_cold else (self._spares,)), *self._old):
            readers[spares.fileno()] = partial(self._hear, spares)
        wake = min(now + self._ttr, self._reload_at) if self._stale else now + self._ttr
        for slot in self._slots:
            if slot.asked:
                readers[slot.queue.fileno()] = partial(self._take, slot)
            elif slot.idle:
                wake = min(wake, slot.rest_until)
            elif slot.attempt is not None and slot.attempt.outcome is None:
                wake = min(wake, slot.attempt.wake, max(now, self._look_at))
                for fd in slot.attempt.open:
                    readers[fd] = partial(slot.attempt.read, fd, now)
            elif slot.waiting is not None:
                # For a spare child, which the forker announces.
                wake = min(wake, max(self._renew_at(slot.waiting), self._store_rest_until))
            else:
                wake = min(wake, max(now, self._store_rest_until))
        for fd in wait_readable(readers, max(0.0, wake - now)):
            readers[fd]()
        return self._clock()

    def _turn(self, now: float) -> None:
        """Everything that follows from what was read."""
        asked = self._asked_to_end(now)
        for slot in self._slots:
            if slot.attempt is not None and slot.attempt.outcome is None:
                self._tend(slot, slot.attempt, now, asked.get(slot.attempt.job.id))
        if now >= self._store_rest_until:
            try:
                self._commit(now)
                self._store_pause = _FIRST_PAUSE
            except StoreUnavailable as error:
                log.warning("%s; trying again in %.1f s", error, self._store_pause)
                self._store_rest_until = now + self._store_pause
                self._store_pause = min(_LONGEST_PAUSE, self._store_pause * 2)
        for slot in self._slots:
            if slot.waiting is not None:
                self._start(slot, slot.waiting, now)

    def _commit(self, now: float) -> None:
        """Settle what ended and claim what was delivered, in one commit."""
        steps = [(slot, step) for slot in self._slots if (step := self._step(slot, now))]
        if not steps:
            return
        changes = [change for _, step in steps for change in step]
        # A claim alone need not outlive a power failure: the job would be queued as before.
        lasts = any(step[-1].after.state is not State.RUNNING for _, step in steps)
        try:
            applied = self._store.advance(changes, durable=lasts)
        except StoreUnavailable:
            # They may have been taken all the same.
            for slot, step in steps:
                slot.doubt = step[-1].after
            raise
        self._bell.ring()
        oks = iter(applied)
        for slot, step in steps:
            # A list: all() alone would stop at the first refusal and leave the rest unread.
            done = all([next(oks) for _ in step])  # noqa: C419
            if done:
                self._committed(slot, step[-1].after)
            elif slot.job is not None:
                slot.doubt = step[-1].after
            # Else a claim: decided anew in the next turn, as the job has changed meanwhile, or its
            # place is taken.
        for lane in touched(changes, applied):
            # By a slot whose connection does not await a delivery just now.
            self._say(slot, partial(self._admission.look, lane, slot.queue))

    def _step(self, slot: _Slot, now: float) -> list[Change]:
        """What is to be stored of the slot's job now."""
        if slot.doubt is not None:
            self._resolve(slot, slot.doubt)
        if slot.delivery is None:
            return []
        if slot.job is None:
            return self._claim(slot, slot.delivery, now)
        if outcome := slot.outcome or (slot.attempt and slot.attempt.outcome):
            return self._settle(slot, slot.job, outcome, now)
        if slot.attempt is None and now >= self._renew_at(slot.job):
            self._renew(slot, slot.job, now)
        return []

    def _claim(self, slot: _Slot, delivery: Delivery, now: float) -> list[Change]:
        job = self._store.job(delivery.job)
        decision = claim(job, self._liveness, now, self._ttr, self._retention)
        if isinstance(decision, Busy):
            self._say(slot, lambda: slot.queue.release(delivery, decision.delay))
        elif isinstance(decision, Nothing):
            self._say(slot, lambda: slot.queue.delete(delivery))
        else:
            slot.before = self._follow_ups.before(decision[-1].after)
            return self._admission.admit(decision, now)
        slot.clear()
        return []

    def _settle(self, slot: _Slot, job: Job, outcome: Outcome, now: float) -> list[Change]:
        notes = slot.attempt.notes(final=True) if slot.attempt else []
        changes = [note(job, now, notes)] if notes else []
        last = changes[-1].after if changes else job
        return [*changes, settle(last, outcome, now, self._retention)]

    def _committed(self, slot: _Slot, job: Job) -> None:
        """The slot's part of the commit is in the store."""
        if job.state is State.RUNNING:
            slot.job = job
            if self._left is not None:
                self._left -= 1
            return
        if (delivery := slot.delivery) is not None:
            self._say(slot, lambda: slot.queue.delete(delivery))
        slot.clear()
        if has_ended(job):
            self._follow(slot, job)

    def _resolve(self, slot: _Slot, doubt: Job) -> None:
        """A step was refused, or the store did not say what became of it: look."""
        found = self._store.job(doubt.id)
        slot.doubt = None
        if slot.job is None:
            # Another slot may have been given the same job, and claimed it in the same commit.
            if _is_claim(found, doubt) and not any(
                other.job is not None and other.job.id == doubt.id for other in self._slots
            ):
                self._committed(slot, doubt)
        elif found is not None and _is_claim(found, slot.job):
            self._catch_up(slot, slot.job, found)
        elif slot.attempt is not None and slot.attempt.outcome is None:
            pass  # The claim is lost, as the next words or the next renewal will show.
        elif found is not None and (found.seq, found.state) == (doubt.seq, doubt.state):
            self._committed(slot, doubt)
        else:
            self._drop(slot, doubt)

    def _catch_up(self, slot: _Slot, job: Job, found: Job) -> None:
        """The claim is ours, but the store may be further than we knew: what the child said last
        is there already, or somebody wants the job to end.
        """
        slot.job = job._replace(seq=found.seq, cancel=found.cancel)
        if slot.attempt is not None:
            slot.attempt.job = slot.attempt.job._replace(seq=found.seq)
            if found.seq != job.seq:
                slot.attempt.saved()

    def _renew_at(self, job: Job) -> float:
        """When the lease of a job that has no child yet is to be renewed."""
        if job.lease is None:
            return 0.0
        return job.lease - lease_seconds(job, self._ttr) + self._keep_every(job)

    def _keep_every(self, job: Job) -> float:
        """How often reservation and lease are renewed."""
        return min(self._ttr, lease_seconds(job, self._ttr)) / 3

    def _renew(self, slot: _Slot, job: Job, now: float) -> None:
        if (delivery := slot.delivery) is not None:
            self._say(slot, lambda: slot.queue.touch(delivery))
        lease = now + lease_seconds(job, self._ttr)
        if self._store.renew(job, lease):
            slot.job = job._replace(lease=lease)
        else:
            self._drop(slot, job)

    def _drop(self, slot: _Slot, job: Job) -> None:
        """The entry in the queue is now another worker's hint: leave it alone."""
        log.warning("job %s: the claim was lost, this outcome is dropped", job.id)
        slot.clear()

    def _follow(self, slot: _Slot, job: Job) -> None:
        """Let those go on that waited for this end. What is not done here, a chore does."""
        try:
            freed = self._follow_ups.after([job])
            self._bell.ring()
            self._say(slot, lambda: place(self._store, slot.queue, freed))
        except StoreUnavailable as error:
            log.warning("job %s: those that wait for its end go on later: %s", job.id, error)

    def _start(self, slot: _Slot, job: Job, now: float) -> None:
        """Hand the job to a spare child, if one is ready."""
        if job.lease is not None and job.lease <= now:
            return  # It may be somebody else's by now: the store has to be asked first.
        try:
            pattern = self._api.entry(job.uri).pattern
        except TaskbusError as error:
            slot.outcome = Outcome(False, failure_text(error))
            return
        # The queue's own reservation lasts for the worker's time, and is kept together with it.
        keep_every = self._keep_every(job)
        try:
            while child := self._spares.take():
                try:
                    slot.attempt = Attempt(
                        job, pattern, child, self._spares, now, keep_every, slot.before
                    )
                    return
                except OSError:
                    # This spare had been killed: it ran nothing, so take the next one.
                    child.close()
        except ForkerGone as error:
            self._lose(self._spares, error)

    def _tend(self, slot: _Slot, attempt: Attempt, now: float, unwanted_by: str | None) -> None:
        """Keep the claim, enforce the time and the caller's wish, store what the child said."""
        try:
            attempt.enforce(now)
            if unwanted_by is not None:
                attempt.cancel(unwanted_by, now)
                slot.job = attempt.job
            if slot.doubt is not None:
                self._resolve(slot, slot.doubt)
            if now >= attempt.keep_at:
                self._keep(slot, attempt, now)
            elif notes := attempt.flush(now):
                self._note(slot, attempt, note(attempt.job, now, notes))
        except ForkerGone as error:
            self._lose(attempt.spares, error)
        except StoreUnavailable as error:
            log.warning("job %s: %s", attempt.job.id, error)
            attempt.rest(now)

    def _note(self, slot: _Slot, attempt: Attempt, change: Change) -> None:
        """Store what the child said."""
        try:
            done = all(self._store.advance([change], durable=False))
        except StoreUnavailable:
            slot.doubt = change.after
            raise
        if done:
            slot.job = attempt.job = change.after
            attempt.saved()
            self._bell.ring()
        else:
            attempt.kill()

    def _asked_to_end(self, now: float) -> Mapping[str, str]:
        """Which jobs in hand somebody wants to end, and who."""
        running = [slot.job.id for slot in self._slots if slot.job and slot.attempt]
        if now < self._look_at or not running:
            return {}
        self._look_at = now + _LOOK_SECONDS
        try:
            return self._store.asked_to_end(running)
        except StoreUnavailable as error:
            log.warning("cannot see who wants jobs to end: %s", error)
            return {}

    def _keep(self, slot: _Slot, attempt: Attempt, now: float) -> None:
        """Renew reservation and lease. Only the lease decides whether the job is still ours."""
        delivery = slot.delivery
        if delivery is not None:
            self._say(slot, lambda: slot.queue.touch(delivery))
        attempt.kept(now)
        if not self._store.renew(attempt.job, now + lease_seconds(attempt.job, self._ttr)):
            attempt.kill()

    def _take(self, slot: _Slot) -> None:
        slot.asked = False
        with _Resting(slot, self._clock()):
            slot.delivery = slot.queue.take()

    def _say(self, slot: _Slot, words: Callable[[], Any]) -> None:
        """Tell the queue; that it does not answer matters only for the next job."""
        with _Resting(slot, self._clock()):
            words()

    def _hear(self, spares: Spares) -> None:
        try:
            ended = dict(spares.hear())
        except ForkerGone as error:
            self._lose(spares, error)
            return
        for slot in self._slots:
            attempt = slot.attempt
            if attempt is not None and attempt.spares is spares and attempt.child.pid in ended:
                attempt.exited(ended[attempt.child.pid], self._clock())

    def _lose(self, spares: Spares, error: ForkerGone) -> None:
        """A forker died: its children are dead, and another one is needed."""
        log.error("%s", error)
        for slot in self._slots:
            if slot.attempt is not None and slot.attempt.spares is spares:
                slot.attempt.abandoned(self._clock())
        if spares is self._spares:
            self._stale = self._is_cold = True
        else:
            self._old.remove(spares)
            spares.close()

    def _warm(self) -> tuple[ApiMap, Spares]:
        api = self._load_map()
        handlers = {entry.pattern: entry.handler for entry in api.entries.values()}
        return api, Spares(handlers, self._task_path, len(self._slots))

    def _reload(self) -> None:
        """New task code and a new API map, for the jobs that start from now on."""
        self._stale = False
        try:
            fresh = self._warm()
        except TaskbusError as error:
            log.error("keeping the old task code: %s", error)
            # Without a forker there is nothing to keep: try again, but not at once.
            self._stale = self._is_cold
            self._reload_at = self._clock() + _LONGEST_PAUSE
            return
        if self._is_cold:
            self._spares.close()
        else:
            self._old.append(self._spares)
        self._is_cold = False
        self._api, self._spares = fresh
        log.info("task code loaded")

    def _retire(self) -> None:
        """Old forkers leave when their last child has."""
        for spares in tuple(self._old):
            if not any(slot.attempt and slot.attempt.spares is spares for slot in self._slots):
                self._old.remove(spares)
                spares.close()

    def _listen(self) -> None:
        self._woken, self._wakeup = socket.socketpair()
        for end in (self._woken, self._wakeup):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _on_reload(self, *_: object) -> None:
        self._stale = True

    def _forget_wakeups(self) -> None:
        self._woken.recv(4096)


def _is_claim(found: Job | None, job: Job) -> bool:
    """Whether the attempt that the store tells of is this one."""
    return (
        found is not None
        and found.state is State.RUNNING
        and (found.attempt, found.worker) == (job.attempt, job.worker)
    )


class _Resting:
    """Around words to the queue: when it does not answer, the slot rests, longer each time."""

    def __init__(self, slot: _Slot, now: float) -> None:
        self._slot = slot
        self._now = now

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: Any, _trace: Any) -> bool:
        slot = self._slot
        if isinstance(error, QueueUnavailable):
            log.warning("%s; trying again in %.1f s", error, slot.pause)
            slot.asked = False
            slot.rest_until = self._now + slot.pause
            slot.pause = min(_LONGEST_PAUSE, slot.pause * 2)
            return True
        if error is None:
            slot.pause = _FIRST_PAUSE
        return False
