"""The worker: reserve, claim, run in a fresh child, settle, delete.

Single-threaded and synchronous: one loop over a few slots. What ended and what was delivered since
the last turn is settled and claimed in one commit. Signals only set flags and wake the loop: TERM
and INT let the jobs in hand finish, HUP loads the task code anew.
"""

import gc
import logging
import math
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from taskbus.core.admission import Admission
from taskbus.core.follow import FollowUps
from taskbus.core.limit import Valve, as_it_is
from taskbus.core.retention import STANDARD_RETENTION, Retention
from taskbus.core.tally import Tally
from taskbus.core.untraced import NO_SPANS
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import StoreUnavailable, TaskbusError
from taskbus.model.job import Job
from taskbus.model.php import PhpSite
from taskbus.model.trace import trace_of_job
from taskbus.model.webhook import DELIVER
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.limits import Limits
from taskbus.port.liveness import Liveness
from taskbus.port.queue import Queue
from taskbus.port.spans import ATTEMPT, DELIVERY, Spans
from taskbus.port.store import Store
from taskbus.worker.attempt import Attempt
from taskbus.worker.channel import wait_readable
from taskbus.worker.forkers import Forkers
from taskbus.worker.ledger import Ledger
from taskbus.worker.slot import FIRST_PAUSE, LONGEST_PAUSE, Resting, Slot
from taskbus.worker.spares import ForkerGone, Spares

log = logging.getLogger(__name__)


def _nothing(_job: Job) -> None:
    return None


class Worker:
    """A few slots, and the forkers that keep children for them."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        queues: Sequence[Queue],
        liveness: Liveness,
        bell: Bell,
        clock: Clock,
        timer: Clock,
        follow_ups: FollowUps,
        load_map: Callable[[], ApiMap],
        task_path: Sequence[str],
        ttr: float,
        on_ready: Callable[[], object],
        retention: Retention = STANDARD_RETENTION,
        spans: Spans = NO_SPANS,
        tally: Tally | None = None,
        enclose: Callable[[Job], Any] = _nothing,
        valve: Valve = as_it_is,
        php: PhpSite | None = None,
    ) -> None:
        """``queues``: a connection for each job that may run at a time; ``clock``: for what is
        stored; ``timer``: for all else, seconds that pass whatever the clock is set to.
        ``load_map`` reads the API map anew; ``ttr``: seconds a claim lasts without a sign of life;
        ``on_ready`` is called whenever the worker has asked for a job. ``enclose``: what an attempt
        is given that is not stored with its job; where it raises a TaskbusError, the attempt has
        failed by that. ``php``: where PHP is, if its jobs are to start warm.
        """
        self._slots = [Slot(queue) for queue in queues]
        self._clock = clock
        self._timer = timer
        self._load_map = load_map
        self._task_path = task_path
        self._ttr = ttr
        self._on_ready = on_ready
        self._spans = spans
        self._tally = tally or Tally(timer)
        self._stopping = False
        self._stale = False
        self._reload_at = 0.0
        self._most: int | None = None
        self._store_rest_until = 0.0
        self._store_pause = FIRST_PAUSE
        self._php = php
        self._listen()
        # None while there are none, as one has died.
        self._forkers: Forkers | None = None
        self._old: list[Spares] = []
        self._api, self._forkers = self._warm()
        self._enclose = enclose
        admission = Admission(store, limits, clock, lambda: self._api, liveness.identity(), valve)
        self._ledger = Ledger(
            self._slots,
            store,
            admission,
            follow_ups,
            liveness,
            bell,
            clock,
            timer,
            ttr,
            retention,
            self._tally,
        )
        # What is loaded now stays for good: no collection need look at it again.
        gc.collect()
        gc.freeze()

    def serve(self, most: int | None = None) -> None:
        """Work until told to stop, or until ``most`` jobs are done."""
        self._most = most
        while not (self._is_over() and all(slot.idle for slot in self._slots)):
            self.step()
        self._store_rest_until = 0.0
        self._sync(math.inf)
        for slot in self._slots:
            self._leave(slot, self._timer())
        for spares in self._forkers or ():
            spares.close()
        self._tally.save()

    def step(self) -> None:
        """Once round the loop."""
        if self._stale and self._timer() >= self._reload_at:
            self._reload()
        self._ask()
        # By now the queue looks for the next jobs, and children run.
        self._sync(self._timer())
        self._turn(self._wait())
        self._retire()
        self._tally.tend()

    def _is_over(self) -> bool:
        return self._stopping or self._ledger.claimed == self._most

    def _ask(self) -> None:
        """Idle slots ask the queue for a job, or stop asking."""
        now = self._timer()
        asking = sum(not slot.idle or slot.asked for slot in self._slots)
        for slot in self._slots:
            if not slot.idle:
                continue
            if self._is_over() or self._forkers is None:
                self._leave(slot, now)
            elif not slot.asked and now >= slot.rest_until:
                if self._most is not None and self._ledger.claimed + asking >= self._most:
                    return
                done, slot.done = slot.done, None
                with Resting(slot, now):
                    slot.queue.request(done)
                    slot.asked = True
                    asking += 1
        if any(slot.asked for slot in self._slots):
            self._on_ready()

    def _leave(self, slot: Slot, now: float) -> None:
        """Take no more jobs from the queue."""
        done, slot.done = slot.done, None
        if done is not None:
            slot.say(lambda: slot.queue.delete(done), now)
        # Gives back what may just have been reserved.
        slot.queue.close()
        slot.asked = False

    def _wait(self) -> float:
        """Until something is to be read or done; reads it; returns the time."""
        now = self._timer()
        readers: dict[int, Callable[[], Any]] = {self._woken.fileno(): self._forget_wakeups}
        for spares in (*(self._forkers or ()), *self._old):
            readers[spares.fileno()] = partial(self._hear, spares)
        wake = min(now + self._ttr, self._reload_at) if self._stale else now + self._ttr
        wake = min(wake, self._tally.wake)
        wake = min(wake, max(self._ledger.sync_at, self._store_rest_until))
        for slot in self._slots:
            if slot.asked:
                readers[slot.queue.fileno()] = partial(self._take, slot)
            elif slot.idle:
                wake = min(wake, slot.rest_until)
            elif slot.attempt is not None and slot.attempt.outcome is None:
                wake = min(wake, slot.attempt.wake, max(now, self._ledger.look_at))
                for fd in slot.attempt.open:
                    readers[fd] = partial(slot.attempt.read, fd, now)
            elif slot.waiting is not None:
                # For a spare child, which the forker announces.
                renew_at = now + self._ledger.renew_in(slot.waiting)
                wake = min(wake, max(renew_at, self._store_rest_until))
            else:
                wake = min(wake, max(now, self._store_rest_until))
        for fd in wait_readable(readers, max(0.0, wake - now)):
            readers[fd]()
        return self._timer()

    def _turn(self, now: float) -> None:
        """Everything that follows from what was read."""
        asked = self._ledger.asked_to_end(now)
        for slot in self._slots:
            if slot.attempt is not None and slot.attempt.outcome is None:
                self._tend(slot, slot.attempt, now, asked.get(slot.attempt.job.id))
        if self._tell(partial(self._ledger.commit, now)):
            # Not by a sync: some stores have nothing to do there, and take it while they are away.
            self._store_pause = FIRST_PAUSE
        for slot in self._slots:
            if slot.waiting is not None:
                self._start(slot, slot.waiting, now)

    def _sync(self, now: float) -> None:
        """Bring to the disk what is due by then."""
        if self._ledger.sync_at < now:
            self._tell(self._ledger.sync)

    def _tell(self, words: Callable[[], None]) -> bool:
        """Tell the store, and whether it has taken it; where it does not answer it is left alone,
        longer each time.
        """
        now = self._timer()
        if now < self._store_rest_until:
            return False
        try:
            words()
            return True
        except StoreUnavailable as error:
            log.warning("%s; trying again in %.1f s", error, self._store_pause)
            self._store_rest_until = now + self._store_pause
            self._store_pause = min(LONGEST_PAUSE, self._store_pause * 2)
            return False

    def _start(self, slot: Slot, job: Job, now: float) -> None:
        """Hand the job to a spare child, if one is ready."""
        if job.lease is not None and job.lease <= self._clock():
            return  # It may be somebody else's by now: the store has to be asked first.
        if self._forkers is None:
            return
        try:
            entry = self._api.of_job(job.uri)
            enclosed = self._enclose(job)
        except StoreUnavailable as error:
            log.warning("job %s: %s", job.id, error)
            return
        except TaskbusError as error:
            slot.outcome = Outcome(False, failure_text(error))
            return
        # The queue's own reservation lasts for the worker's time, and is kept together with it.
        keep_every = self._ledger.keep_every(job)
        spares = self._forkers.of(entry)
        try:
            while child := spares.take():
                trace = trace_of_job(job.details)
                kind = DELIVERY if job.uri == DELIVER else ATTEMPT
                span = self._spans.begin(kind, job.uri, trace, job=job.id, attempt=job.attempt)
                try:
                    slot.attempt = Attempt(
                        job,
                        entry.pattern,
                        child,
                        spares,
                        now,
                        keep_every,
                        slot.before,
                        span,
                        enclosed,
                    )
                    return
                except OSError:
                    # This spare had been killed: it ran nothing, so take the next one.
                    child.close()
        except ForkerGone as error:
            self._lose(spares, error)

    def _tend(self, slot: Slot, attempt: Attempt, now: float, unwanted_by: str | None) -> None:
        """Keep the claim, enforce the time and the caller's wish, store what the child said."""
        try:
            attempt.enforce(now)
            if unwanted_by is not None:
                attempt.cancel(unwanted_by, now)
                slot.job = attempt.job
            if slot.doubt is not None:
                self._ledger.resolve(slot, slot.doubt)
            if now >= attempt.keep_at:
                self._ledger.keep(slot, attempt, now)
            elif notes := attempt.flush(now):
                self._ledger.note(slot, attempt, notes)
        except ForkerGone as error:
            self._lose(attempt.spares, error)
        except StoreUnavailable as error:
            log.warning("job %s: %s", attempt.job.id, error)
            attempt.rest(now)

    def _take(self, slot: Slot) -> None:
        slot.asked = False
        with Resting(slot, self._timer()):
            slot.delivery = slot.queue.take()

    def _hear(self, spares: Spares) -> None:
        try:
            ended = dict(spares.hear())
        except ForkerGone as error:
            self._lose(spares, error)
            return
        for slot in self._slots:
            attempt = slot.attempt
            if attempt is not None and attempt.spares is spares and attempt.child.pid in ended:
                attempt.exited(ended[attempt.child.pid], self._timer())

    def _lose(self, lost: Spares, error: ForkerGone) -> None:
        """A forker died: its children are dead, and others are needed. One of the same map that
        lives sees to its last children.
        """
        log.error("%s", error)
        for slot in self._slots:
            if slot.attempt is not None and slot.attempt.spares is lost:
                slot.attempt.abandoned(self._timer())
        if self._forkers is not None and lost in self._forkers:
            self._old += self._forkers
            self._forkers = None
            self._stale = True
        if lost in self._old:
            self._old.remove(lost)
            lost.close()

    def _warm(self) -> tuple[ApiMap, Forkers]:
        api = self._load_map()
        return api, Forkers(api, self._task_path, len(self._slots), self._php)

    def _reload(self) -> None:
        """New task code and a new API map, for the jobs that start from now on."""
        self._stale = False
        self._reload_at = self._timer() + LONGEST_PAUSE
        try:
            fresh = self._warm()
        except TaskbusError as error:
            log.error("keeping the old task code: %s", error)
            # Without a forker there is nothing to keep: try again, but not at once. And where a HUP
            # came meanwhile, it is about what has been mended since.
            self._stale = self._stale or self._forkers is None
            return
        self._reload_at = 0.0
        self._old += self._forkers or ()
        self._api, self._forkers = fresh
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
        self._reload_at = 0.0

    def _forget_wakeups(self) -> None:
        self._woken.recv(4096)
