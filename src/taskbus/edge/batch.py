"""Group commit: submissions that arrive together share one commit of the store."""

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from taskbus.core.intake import Intake
from taskbus.model.errors import TaskbusError
from taskbus.model.job import Submission

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
# While a small commit's answers travel through the router, the next commit is under way; with all
# that waits in one, router, backend and store would stand idle in turn. Commits grow only where
# they take longer for each job than the router needs for a call, as on a slow disk.
_SMALLEST, _LARGEST = 16, 4096
_CALL_SECONDS = 0.0002

Waiting = tuple[Sequence[Submission], "Deferred[list[str]]"]


class Batch:
    """While one commit is under way, what arrives waits for the next one."""

    def __init__(self, reactor: Any, intake: Intake) -> None:
        self._reactor = reactor
        self._intake = intake
        self._waiting: list[Waiting] = []
        self._busy = False
        self._size = _SMALLEST
        # One thread: the intake is used by one thread at a time, in order.
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._do_work, name="intake", daemon=True)
        reactor.callWhenRunning(self._thread.start)
        reactor.addSystemEventTrigger("during", "shutdown", self._stop)
        flushes = LoopingCall(self._work.put, self._flush)
        flushes.clock = reactor
        flushes.start(_FLUSH_SECONDS, now=False)

    def accept(self, submissions: Sequence[Submission]) -> "Deferred[list[str]]":
        """Fires with the jobs' ids when they are stored, see Intake; fails with StoreUnavailable or
        IdempotencyMismatch when none of them is.
        """
        done: Deferred[list[str]] = Deferred()
        self._waiting.append((submissions, done))
        if not self._busy:
            self._busy = True
            # Not at once: what else has already arrived can still join.
            self._reactor.callLater(0, self._next)
        return done

    def _next(self) -> None:
        batch = self._waiting[: self._size]
        del self._waiting[: self._size]
        self._busy = bool(batch)
        if batch:
            self._work.put(lambda: self._commit(batch))

    def _commit(self, batch: list[Waiting]) -> None:
        began = self._reactor.seconds()
        answers: Sequence[list[str] | Exception]
        try:
            answers = self._intake.accept([submissions for submissions, _ in batch])
        except Exception as error:  # noqa: BLE001  # The callers hear of it.
            answers = [error] * len(batch)
        seconds = self._reactor.seconds() - began
        self._reactor.callFromThread(self._committed, batch, answers, seconds)

    def _committed(
        self, batch: list[Waiting], answers: Sequence[list[str] | Exception], seconds: float
    ) -> None:
        if seconds > self._size * _CALL_SECONDS:
            self._size = min(self._size * 2, _LARGEST)
        elif seconds < self._size * _CALL_SECONDS / 4:
            self._size = max(self._size // 2, _SMALLEST)
        self._next()
        for (_, done), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                done.errback(answer)
            else:
                done.callback(answer)

    def _flush(self) -> None:
        try:
            self._intake.flush()
        except TaskbusError:
            pass  # The store is down: the next flush or commit tells it.

    def _do_work(self) -> None:
        while work := self._work.get():
            try:
                work()
            except Exception:
                # Without this thread no later call would be answered.
                log.exception("unexpected error, going on")

    def _stop(self) -> None:
        self._work.put(self._flush)
        self._work.put(None)
        if self._thread.is_alive():
            self._thread.join()
