"""A slot: a place for one job in a worker, and its own connection to the queue."""

import logging
from collections.abc import Callable
from typing import Any

from taskbus.handler.perform import Outcome
from taskbus.model.errors import QueueUnavailable
from taskbus.model.job import Job
from taskbus.port.queue import Delivery, Queue
from taskbus.worker.attempt import Attempt

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Slot:
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
        # The delivery before, which is deleted with the request for the next one.
        self.done: Delivery | None = None
        # The job after a step of which the store did not say that it was taken.
        self.doubt: Job | None = None
        self.rest_until = 0.0
        self.pause = FIRST_PAUSE

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
            outcome = self.attempt.outcome
            self.attempt.span.end(outcome.body if outcome and not outcome.ok else None)
        self.delivery = self.job = self.before = None
        self.attempt = self.outcome = self.doubt = None

    def say(self, words: Callable[[], Any], now: float) -> None:
        """Tell the queue; that it does not answer matters only for the next job."""
        with Resting(self, now):
            words()


class Resting:
    """Around words to the queue: when it does not answer, the slot rests, longer each time."""

    def __init__(self, slot: Slot, now: float) -> None:
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
            slot.pause = min(LONGEST_PAUSE, slot.pause * 2)
            return True
        if error is None:
            slot.pause = FIRST_PAUSE
        return False
