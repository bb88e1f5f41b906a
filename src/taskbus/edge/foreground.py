"""Foreground calls: each runs in a thread of its backend, and what takes long may become a job."""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from taskbus.bus.calls import Calls
from taskbus.bus.message import Answer, Call, answer, caller, refusal
from taskbus.core.intake import prepare
from taskbus.core.promote import Keeper
from taskbus.core.tally import Tally
from taskbus.core.untraced import NO_SPANS
from taskbus.edge.batch import Batch
from taskbus.edge.turns import Turns
from taskbus.handler import Handler, build
from taskbus.handler.perform import Outcome, failure_text, perform
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import StoreUnavailable, TargetBusy, TaskFailure, TaskTimeout
from taskbus.model.http_target import HttpTarget
from taskbus.model.job import Job
from taskbus.model.json import check_field, load
from taskbus.model.leash import Leash
from taskbus.model.task import TaskInput
from taskbus.model.trace import trace_in, with_trace
from taskbus.port.clock import Clock
from taskbus.port.spans import CALL, Span, Spans

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


class Foreground:
    """The threads of one backend."""

    def __init__(
        self,
        reactor: Any,
        api: ApiMap,
        entries: list[Entry],
        batch: Batch,
        keeper: Keeper,
        calls: Calls,
        clock: Clock,
        threads: int,
        spans: Spans = NO_SPANS,
        tally: Tally | None = None,
    ) -> None:
        """``threads``: how many calls run at once, the next ones wait."""
        self._reactor = reactor
        self._api = api
        self._batch = batch
        self._keeper = keeper
        self._calls = calls
        self._clock = clock
        self._spans = spans
        self._tally = tally or Tally(clock)
        # What runs in this process: background entries run in workers only.
        self._handlers: dict[str, Handler] = {
            one.pattern: build(one.handler, one.timeout)
            for one in entries
            if one.mode == "foreground"
        }
        self._turns = {one.pattern: _turns(one) for one in entries}
        self._pool = ThreadPool(0, threads, "foreground")
        reactor.callWhenRunning(self._pool.start)
        if any(one.promote_after is not None for one in entries):
            keeping = threading.Thread(target=self._keep, name="promoted", daemon=True)
            reactor.callWhenRunning(keeping.start)

    def close(self) -> bool:
        """False where a thread is left: Python code cannot be stopped."""
        self._tally.save()
        if self._pool.working:
            return False
        self._pool.stop()
        # With them go the connections that they keep.
        self._handlers.clear()
        return True

    @inlineCallbacks
    def run(self, entry: Entry, call: Call) -> Any:
        """The task's result or its error; the id of the job that it has become."""
        uri, args, kwargs = call.procedure, call.args, call.kwargs
        check_field("args", args)
        check_field("kwargs", kwargs)
        voice = _Voice(self._reactor, uri, call.progress)
        who = caller(call)
        span = self._spans.begin(CALL, uri, trace_in(who))
        who = with_trace(who, span.trace)
        task = TaskInput(uri, args, kwargs, who, voice.progress, voice.warn, voice.leash)
        began = self._clock()
        ended = self._in_time(entry, task)
        ended.addBoth(self._seen, span, entry.pattern, began)
        try:
            if entry.promote_after is not None:
                yield _either(self._reactor, ended, entry.promote_after)
                request = {"uri": uri, "args": args, "kwargs": kwargs}
                job = yield self._promote(request, who, began, voice, ended)
                if job is not None:
                    return Answer([job], {"promoted": True})
            outcome = yield ended
        finally:
            voice.leave()
        if outcome.ok:
            return answer(outcome.body)
        log.warning("%s failed: %s", uri, _why(entry, outcome.body))
        raise refusal(outcome.body)

    def _in_time(self, entry: Entry, task: TaskInput) -> "Deferred[Outcome]":
        """The outcome, or a timeout's: a Python thread cannot be stopped, its result is dropped."""
        handler, turns = self._handlers[entry.pattern], self._turns[entry.pattern]
        turn = turns.take()
        if turn is None:
            return succeed(Outcome(False, failure_text(_no_room(entry))))

        def end() -> None:
            turn.cancel()
            # Also of what had to wait until it could begin, and would go on for as long again.
            if task.leash:
                task.leash.pull(True)

        def cancel(_: Any) -> None:
            timer.cancel()
            end()

        # Cancelled, when its caller has gone, it ends its program or its connection.
        done: Deferred[Outcome] = Deferred(cancel)
        late = TaskTimeout(f"{task.uri} did not end within {entry.timeout:g} seconds")

        def begin(_: None) -> None:
            outcome = deferToThreadPool(self._reactor, self._pool, perform, handler, task)
            outcome.addBoth(finish)

        def finish(outcome: Any) -> None:
            turns.give()
            if not done.called:
                timer.cancel()
                done.callback(outcome)

        def give_up() -> None:
            done.callback(Outcome(False, failure_text(late)))
            end()

        # exec and http handlers keep the time themselves and clean up; theirs comes first.
        timer = self._reactor.callLater(entry.timeout + 0.2, give_up)
        turn.addCallbacks(begin, lambda _: None)
        return done

    def _seen(
        self, result: Outcome | Failure, span: Span, pattern: str, began: float
    ) -> Outcome | Failure:
        """The call has ended; its caller may have gone before."""
        if isinstance(result, Failure):
            gone = result.value or TaskFailure("the call was given up")
            failure: str | None = failure_text(gone)
        else:
            failure = None if result.ok else result.body
        span.end(failure)
        is_first = self._tally.wake == math.inf
        self._tally.call(pattern, "failed" if failure else "succeeded", self._clock() - began)
        if is_first and self._tally.wake < math.inf:
            self._reactor.callLater(self._tally.wake - self._clock(), self._tally.save)
        return result

    def _promote(
        self,
        request: Mapping[str, Any],
        who: Mapping[str, Any],
        began: float,
        voice: "_Voice",
        ended: "Deferred[Outcome]",
    ) -> "Deferred[str | None]":
        """The id of the job that the call is now; None where its caller has to wait on."""
        if ended.called:
            return succeed(None)
        asked = prepare(self._api, self._clock, request, who)
        submission = self._keeper.promoted(asked, began)
        job = submission.job
        answered: Deferred[str | None] = Deferred()

        def stored(ids: list[str]) -> None:
            # Of a unique job another one may be there already.
            is_ours = ids == [job.id]
            if is_ours:
                self._hand_over(job, voice, ended)
                self._calls.hold(voice.recorded)
                voice.become(job.id, self._keeper)
            _fire(answered, job.id if is_ours else None)

        def failed(failure: Failure) -> None:
            log.warning("%s goes on as a call: %s", job.uri, failure.value)
            # Stored it may be nevertheless, and would run a second time.
            self._hand_over(job, voice, ended, is_sure=False)
            _fire(answered, None)

        self._batch.accept([submission]).addCallbacks(stored, failed)
        return answered

    def _hand_over(
        self, job: Job, voice: "_Voice", ended: "Deferred[Outcome]", is_sure: bool = True
    ) -> None:
        """The keeper has the job, and is told how it ends."""

        def forgotten() -> None:
            self._reactor.callFromThread(_fire, voice.recorded, None)

        def end(result: Any) -> Any:
            gone = Outcome(False, failure_text(TaskFailure("the call was given up")))
            self._keeper.end(job.id, result if isinstance(result, Outcome) else gone)
            return result

        self._keeper.keep(job, voice.leash.pull, forgotten, is_sure)
        ended.addBoth(end)

    def _keep(self) -> None:
        """The thread that writes what promoted jobs say."""
        pause = threading.Event()
        while True:
            self._keeper.wait()
            try:
                self._keeper.run()
            except StoreUnavailable as error:
                log.warning("promoted jobs: %s", error)
                pause.wait(_AGAIN_SECONDS)
            except Exception:
                log.exception("promoted jobs: unexpected error, going on")
                pause.wait(_AGAIN_SECONDS)


class _Voice:
    """What a call says, on its way from its thread to its caller, or to the job it has become."""

    def __init__(self, reactor: Any, uri: str, tell: Callable[..., None] | None) -> None:
        self.leash = Leash()
        # Fires when the end of the job that it has become is in the store.
        self.recorded: Deferred[None] = Deferred()
        self._reactor = reactor
        self._uri = uri
        self._tell = tell
        self._job: tuple[str, Keeper] | None = None
        self._newest: tuple[float, str] | None = None
        self._is_due = False

    def progress(self, fraction: float, message: str) -> None:
        """In the call's thread. A reactor that does not keep up passes on the newest alone."""
        self._newest = fraction, message
        if not self._is_due:
            self._is_due = True
            self._reactor.callFromThread(self._pass_on)

    def warn(self, message: str) -> None:
        """In the call's thread."""
        log.warning("%s: %s", self._uri, message)
        if self._job is not None:
            job, keeper = self._job
            keeper.warn(job, message)

    def become(self, job: str, keeper: Keeper) -> None:
        """The caller has its answer; now this job's watchers hear."""
        self._tell, self._job = None, (job, keeper)

    def leave(self) -> None:
        """Nobody hears any more."""
        self._tell = None

    def _pass_on(self) -> None:
        self._is_due = False
        newest, self._newest = self._newest, None
        if newest is None:
            return
        if self._job is not None:
            job, keeper = self._job
            keeper.progress(job, *newest)
        elif self._tell is not None:
            self._tell({"fraction": newest[0], "message": newest[1]})


def _why(entry: Entry, failed: str) -> str:
    """What to tell the log of a failure's JSON. No caller hears where Python code has failed, so
    nobody would; but a TaskFailure is meant, and of other targets the traceback shows our own code.
    """
    told = load(failed)
    why = f"{told['error']}: {told['message']}"
    is_shown = entry.kind == "python" and "type" in told["about"]
    return f"{why}\n{told['traceback'].rstrip()}" if is_shown else why


def _turns(entry: Entry) -> Turns:
    target = entry.target
    if isinstance(target, HttpTarget) and target.connections:
        return Turns(target.connections, target.waiting)
    return Turns(math.inf, 0)


def _no_room(entry: Entry) -> TargetBusy:
    waiting = entry.target.waiting if isinstance(entry.target, HttpTarget) else 0
    return TargetBusy(
        f"{entry.pattern} has no connection free, and {waiting} calls wait for one already",
        field="http.waiting",
        value=waiting,
        remedy="call again later, or let the API map say more connections or more waiting",
    )


def _either(reactor: Any, ended: "Deferred[Any]", seconds: float) -> "Deferred[None]":
    """Fires when the other one has fired, or the time is over; to cancel it cancels the other."""
    over: Deferred[None] = Deferred(lambda _: ended.cancel())

    def fire(result: Any) -> Any:
        if timer.active():
            timer.cancel()
        _fire(over, None)
        return result

    timer = reactor.callLater(seconds, fire, None)
    ended.addBoth(fire)
    return over


def _fire(deferred: "Deferred[Any]", result: Any) -> None:
    """Unless it was cancelled."""
    if not deferred.called:
        deferred.callback(result)
