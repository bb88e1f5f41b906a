"""Group commit: submissions that arrive together share one commit of the store."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from taskbus.core.intake import Intake, Submission

_FLUSH_SECONDS = 1.0


class Batch:
    """While one commit is under way, what arrives waits for the next one."""

    def __init__(self, reactor: Any, intake: Intake) -> None:
        self._reactor: IReactorThreads = reactor
        self._intake = intake
        # One thread: the intake is used by one thread at a time, in order.
        self._pool = ThreadPool(1, 1, "intake")
        self._waiting: list[tuple[Sequence[Submission], Deferred[None]]] = []
        self._busy = False
        reactor.callWhenRunning(self._pool.start)
        reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
        LoopingCall(self._flush).start(_FLUSH_SECONDS, now=False)

    def accept(self, submissions: Sequence[Submission]) -> "Deferred[None]":
        """Fires when the jobs are stored; fails with StoreUnavailable when none of them is."""
        done: Deferred[None] = Deferred()
        self._waiting.append((submissions, done))
        if not self._busy:
            self._busy = True
            # Not at once: what else has already arrived can still join.
            self._reactor.callLater(0, self._commit)
        return done

    def _commit(self) -> None:
        batch, self._waiting = self._waiting, []
        together = [one for submissions, _ in batch for one in submissions]
        work = deferToThreadPool(self._reactor, self._pool, self._intake.accept, together)
        work.addBoth(self._committed, batch)

    def _committed(
        self, result: Any, batch: list[tuple[Sequence[Submission], "Deferred[None]"]]
    ) -> None:
        if self._waiting:
            self._commit()
        else:
            self._busy = False
        for _, done in batch:
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(None)

    def _flush(self) -> Any:
        return deferToThreadPool(self._reactor, self._pool, self._intake.flush).addErrback(
            lambda _: None  # The store is down: the next flush or commit tells it.
        )
