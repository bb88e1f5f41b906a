"""What the store learns of a worker's jobs: claims, words, renewals, ends.

A commit of which the store did not say what became of it leaves its slots in doubt, until the store
has been asked.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from taskbus.core.admission import Admission, touched
from taskbus.core.chores import place
from taskbus.core.follow import FollowUps, has_ended
from taskbus.core.lease import Busy, Nothing, claim, lease_seconds
from taskbus.core.retention import Retention
from taskbus.core.settle import conclude
from taskbus.core.tally import Tally
from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import Change, Job, Note, State, note
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.liveness import Liveness
from taskbus.port.queue import Delivery
from taskbus.port.store import Store
from taskbus.worker.attempt import Attempt
from taskbus.worker.slot import Slot

log = logging.getLogger(__name__)

# How often the store is asked whether somebody wants a running job to end.
_LOOK_SECONDS = 0.5
# How long an outcome waits for others, so that the disk takes them together.
_SYNC_SECONDS = 0.01


class Ledger:
    """Of all slots together: what they have to tell is one commit."""

    def __init__(
        self,
        slots: Sequence[Slot],
        store: Store,
        admission: Admission,
        follow_ups: FollowUps,
        liveness: Liveness,
        bell: Bell,
        clock: Clock,
        timer: Clock,
        ttr: float,
        retention: Retention,
        tally: Tally,
    ) -> None:
        """``clock`` and ``timer``: the worker's; every ``now`` here is the timer's. ``ttr``:
        seconds that a claim lasts where its job does not say otherwise.
        """
        self._slots = slots
        self._store = store
        self._admission = admission
        self._follow_ups = follow_ups
        self._liveness = liveness
        self._bell = bell
        self._clock = clock
        self._timer = timer
        self._ttr = ttr
        self._retention = retention
        self._tally = tally
        self.claimed = 0
        self.look_at = 0.0
        # When the outcomes that a power failure may undo are to last.
        self.sync_at = math.inf

    def commit(self, now: float) -> None:
        """Settle what ended and claim what was delivered, in one commit, which ``sync`` makes last.

        The next jobs need not wait for that: should a power failure come first, these run again.
        """
        steps = [(slot, step) for slot in self._slots if (step := self._step(slot))]
        if not steps:
            return
        changes = [change for _, step in steps for change in step]
        # A claim alone need not outlive a power failure: the job would be queued as before.
        if any(step[-1].after.state is not State.RUNNING for _, step in steps):
            self.sync_at = min(self.sync_at, now + _SYNC_SECONDS)
        try:
            applied = self._store.advance(changes, durable=False)
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

    def sync(self) -> None:
        """What was settled outlives a power failure from now on."""
        self._store.sync()
        self.sync_at = math.inf

    def _step(self, slot: Slot) -> list[Change]:
        """What is to be stored of the slot's job now."""
        if slot.doubt is not None:
            self.resolve(slot, slot.doubt)
        if slot.delivery is None:
            return []
        if slot.job is None:
            return self._claim(slot, slot.delivery)
        if outcome := slot.outcome or (slot.attempt and slot.attempt.outcome):
            words = slot.attempt.notes(final=True) if slot.attempt else []
            return conclude(slot.job, words, outcome, self._clock(), self._retention)
        if slot.attempt is None and self.renew_in(slot.job) <= 0:
            self._renew(slot, slot.job)
        return []

    def _claim(self, slot: Slot, delivery: Delivery) -> list[Change]:
        job, now = self._store.job(delivery.job), self._clock()
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

    def _committed(self, slot: Slot, job: Job) -> None:
        """The slot's part of the commit is in the store."""
        if job.state is State.RUNNING:
            slot.job = job
            self.claimed += 1
            return
        if slot.attempt is not None and slot.job is not None:
            self._count(slot.job, slot.attempt.pattern, job.state)
        slot.done = slot.delivery
        slot.clear()
        if has_ended(job):
            self._follow(slot, job)

    def _count(self, job: Job, pattern: str, outcome: str) -> None:
        """The job as it was while it ran."""
        began = job.started or job.due
        self._tally.attempt(pattern, outcome, began - job.due, self._clock() - began)

    def resolve(self, slot: Slot, doubt: Job) -> None:
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

    def _catch_up(self, slot: Slot, job: Job, found: Job) -> None:
        """The claim is ours, but the store may be further than we knew: what the child said last
        is there already, or somebody wants the job to end.
        """
        slot.job = job._replace(seq=found.seq, cancel=found.cancel)
        if slot.attempt is not None:
            slot.attempt.job = slot.attempt.job._replace(seq=found.seq)
            if found.seq != job.seq:
                slot.attempt.saved()

    def renew_in(self, job: Job) -> float:
        """Seconds until the lease of a job that has no child yet is to be renewed."""
        if job.lease is None:
            return 0.0
        left = job.lease - self._clock()
        return left - lease_seconds(job, self._ttr) + self.keep_every(job)

    def keep_every(self, job: Job) -> float:
        """How often reservation and lease are renewed."""
        return min(self._ttr, lease_seconds(job, self._ttr)) / 3

    def _renew(self, slot: Slot, job: Job) -> None:
        if (lease := self._extended(slot, job)) is not None:
            slot.job = job._replace(lease=lease)
        else:
            self._drop(slot, job)

    def _extended(self, slot: Slot, job: Job) -> float | None:
        """Until when reservation and lease last now; None where the job is not ours any more, as
        the lease alone decides.
        """
        lease = self._clock() + lease_seconds(job, self._ttr)
        if not self._store.renew(job, lease):
            return None
        # After that: a queue that hangs keeps us waiting here.
        if (delivery := slot.delivery) is not None:
            self._say(slot, lambda: slot.queue.touch(delivery))
        return lease

    def _drop(self, slot: Slot, job: Job) -> None:
        """The entry in the queue is now another worker's hint: leave it alone."""
        log.warning("job %s: the claim was lost, this outcome is dropped", job.id)
        slot.clear()

    def _follow(self, slot: Slot, job: Job) -> None:
        """Let those go on that waited for this end. What is not done here, a chore does."""
        try:
            freed = self._follow_ups.after([job])
            self._bell.ring()
            self._say(slot, lambda: place(self._store, slot.queue, freed))
        except StoreUnavailable as error:
            log.warning("job %s: those that wait for its end go on later: %s", job.id, error)

    def note(self, slot: Slot, attempt: Attempt, words: list[Note]) -> None:
        """Store what the child said."""
        change = note(attempt.job, self._clock(), words)
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

    def asked_to_end(self, now: float) -> Mapping[str, str]:
        """Which jobs in hand somebody wants to end, and who."""
        running = [slot.job.id for slot in self._slots if slot.job and slot.attempt]
        if now < self.look_at or not running:
            return {}
        self.look_at = now + _LOOK_SECONDS
        try:
            return self._store.asked_to_end(running)
        except StoreUnavailable as error:
            log.warning("cannot see who wants jobs to end: %s", error)
            return {}

    def keep(self, slot: Slot, attempt: Attempt, now: float) -> None:
        """Keep the claim of a job that a child has."""
        attempt.kept(now)
        if self._extended(slot, attempt.job) is None:
            attempt.kill()

    def _say(self, slot: Slot, words: Callable[[], Any]) -> None:
        slot.say(words, self._timer())


def _is_claim(found: Job | None, job: Job) -> bool:
    """Whether the attempt that the store tells of is this one."""
    return (
        found is not None
        and found.state is State.RUNNING
        and (found.attempt, found.worker) == (job.attempt, job.worker)
    )
