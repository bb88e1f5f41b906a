"""Submits to RQ. Runs in the peers' environment."""

import os
import time
from collections.abc import Callable, Mapping

from redis import Redis  # type: ignore[import-not-found, unused-ignore]
from rq import Queue  # type: ignore[import-not-found, unused-ignore]

from bench import tasks
from bench.contestant import ENQUEUE
from bench.rq_peer import QUEUE

BATCH = 1000


class RqClient:
    """One RQ queue over one Redis connection."""

    def __init__(self) -> None:
        self._queue = Queue(QUEUE, connection=Redis(unix_socket_path=os.environ["BENCH_REDIS"]))

    def submit(self, task: str, args: tuple[str, ...]) -> float:
        """`enqueue` returns when Redis has the job."""
        self._queue.enqueue(getattr(tasks, task), *args)
        return time.time()

    def ways(self) -> Mapping[str, Callable[[int], None]]:
        """One at a time, and RQ's own batch."""
        return {ENQUEUE: self._one_at_a_time, f"enqueue_many, {BATCH} a batch": self._batches}

    def _one_at_a_time(self, count: int) -> None:
        for _ in range(count):
            self._queue.enqueue(tasks.noop)

    def _batches(self, count: int) -> None:
        for begin in range(0, count, BATCH):
            size = min(BATCH, count - begin)
            self._queue.enqueue_many([Queue.prepare_data(tasks.noop) for _ in range(size)])


def connect() -> RqClient:
    """See bench.producer."""
    return RqClient()
