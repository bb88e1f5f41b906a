"""The Celery application: the worker's tasks and the producer's client, as Celery has it.
Runs in the peers' environment."""

import os
import time
from collections.abc import Callable, Mapping

from celery import Celery  # type: ignore[import-not-found, unused-ignore]

from bench import tasks
from bench.contestant import ENQUEUE

_url = f"redis+socket://{os.environ['BENCH_REDIS']}?virtual_host="
app = Celery("bench", broker=f"{_url}0", backend=f"{_url}1")
TASKS = {
    name: app.task(name=f"bench.{name}")(getattr(tasks, name)) for name in ("noop", "stamp", "gate")
}


class CeleryClient:
    """The application's own connection pool."""

    def submit(self, task: str, args: tuple[str, ...]) -> float:
        """`delay` returns when Redis has the message."""
        TASKS[task].delay(*args)
        return time.time()

    def ways(self) -> Mapping[str, Callable[[int], None]]:
        """One at a time; Celery subscribes to each result unless it is to be ignored."""
        return {ENQUEUE: self._with_result, "enqueue, ignore_result": self._without_result}

    def _with_result(self, count: int) -> None:
        for _ in range(count):
            TASKS["noop"].delay()

    def _without_result(self, count: int) -> None:
        for _ in range(count):
            TASKS["noop"].apply_async(ignore_result=True)


def connect() -> CeleryClient:
    """See bench.producer."""
    return CeleryClient()
