"""A queue of one job: a worker that takes from it runs this one, and no other."""

import os
from collections.abc import Callable, Sequence

from taskbus.model.errors import NotRunnable
from taskbus.model.job import Placement
from taskbus.port.queue import Delivery, Queue, QueueStats


class ChosenJob:
    """A Queue; what is put there goes to the real one. See ``taskbus.port.queue``."""

    def __init__(self, job: str, prepare: Callable[[], None], queue: Queue) -> None:
        """``prepare`` is called right before the job is delivered, and may raise what keeps it
        from being run.
        """
        self._job = job
        self._prepare = prepare
        self._queue = queue
        self._bell = os.eventfd(1)
        self._is_given = False

    def put(self, placements: Sequence[Placement]) -> None:
        """See Queue."""
        self._queue.put(placements)

    def offer(self, placements: Sequence[Placement]) -> None:
        """See Queue."""
        self._queue.offer(placements)

    def taken(self) -> Sequence[Placement]:
        """See Queue."""
        return self._queue.taken()

    def request(self, done: Delivery | None = None) -> None:
        """See Queue. A worker that asks twice could not claim it."""
        del done
        if self._is_given:
            raise NotRunnable(
                self._job, "it ended, or reached a limit, at this moment", "see 'taskbus job'"
            )

    def fileno(self) -> int:
        """See Queue."""
        return self._bell

    def take(self) -> Delivery | None:
        """See Queue."""
        self._prepare()
        self._is_given = True
        return Delivery(0, self._job)

    def touch(self, delivery: Delivery) -> bool:
        """See Queue. An entry of the real queue, which others may find, is a hint as always."""
        return delivery.job == self._job

    def delete(self, delivery: Delivery) -> bool:
        """See Queue."""
        return delivery.job == self._job

    def release(self, delivery: Delivery, delay: float) -> bool:
        """See Queue. Only what another worker has is released."""
        remedy = f"see 'taskbus logs -f', or try again in {delay:g} seconds"
        raise NotRunnable(delivery.job, "another worker has it", remedy)

    def stats(self, *queues: str) -> QueueStats:
        """See Queue."""
        return self._queue.stats(*queues)

    def instance(self) -> str:
        """See Queue."""
        return self._queue.instance()

    def close(self) -> None:
        """See Queue."""
        self._queue.close()
