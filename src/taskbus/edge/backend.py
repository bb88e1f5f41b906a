"""A backend: registers every URI of one namespace, and runs or queues each call."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from autobahn.twisted.wamp import Session
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from taskbus.core.intake import prepare
from taskbus.edge.batch import Batch
from taskbus.edge.calls import Calls
from taskbus.edge.session import (
    DETAILS,
    answer,
    application_error,
    caller,
    refusal,
    refused,
    register_all,
)
from taskbus.handler import Handler, build
from taskbus.handler.perform import Outcome, failure_text, perform
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import InvalidArgument, TaskTimeout
from taskbus.model.json import check_field
from taskbus.model.task import TaskInput
from taskbus.port.clock import Clock

log = logging.getLogger(__name__)


class Backend:
    """One namespace of the API map on the bus."""

    def __init__(
        self,
        reactor: Any,
        api: ApiMap,
        namespace: str,
        batch: Batch,
        clock: Clock,
        threads: int,
        on_serving: Callable[[int], None],
    ) -> None:
        """``threads``: how many foreground calls run at once, the next ones wait; ``on_serving``
        is called with the number of URIs each time they are all registered.
        """
        self._reactor = reactor
        self._api = api
        self._batch = batch
        self._clock = clock
        self._on_serving = on_serving
        self._entries = api.below(namespace)
        self._handlers = _handlers(self._entries)
        self.calls = Calls(reactor)
        self._pool = ThreadPool(0, threads, "foreground")
        reactor.callWhenRunning(self._pool.start)

    @inlineCallbacks
    def join(self, session: Session) -> Any:
        """Register everything on a new session."""
        endpoints = {one.pattern: self.calls.watch(self._endpoint(one)) for one in self._entries}
        registrations = yield register_all(session, endpoints)
        self._on_serving(len(self._entries))
        log.info("serving %d URIs", len(self._entries))
        return registrations

    def leave(self) -> None:
        """See Service."""

    def retire(self) -> None:
        """See Service. Every call here has a timeout of its own."""

    def close(self) -> bool:
        """See Service. A Python thread cannot be stopped."""
        if self._pool.working:
            return False
        self._pool.stop()
        return True

    def _endpoint(self, entry: Entry) -> Callable[..., Any]:
        call = self._queue if entry.mode == "background" else self._run

        def endpoint(*args: Any, **kwargs: Any) -> Any:
            details = kwargs.pop(DETAILS)
            # A prefix registration learns the called URI from the details alone.
            uri = details.procedure or entry.pattern
            return call(entry, uri, args, kwargs, details)

        return endpoint

    def _queue(
        self,
        _entry: Entry,
        uri: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        details: Any,
    ) -> "Deferred[str]":
        """Background: the job's id, once it is accepted; a unique job's that is there already."""
        request = {"uri": uri, "args": args, "kwargs": kwargs}
        try:
            submission = prepare(self._api, self._clock, request, caller(details))
        except Exception as error:
            raise application_error(error) from error
        accepted = self._batch.accept([submission])
        return accepted.addCallbacks(lambda ids: ids[0], refused)

    @inlineCallbacks
    def _run(
        self, entry: Entry, uri: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], details: Any
    ) -> Any:
        """Foreground: the task's result or its error."""
        try:
            check_field("args", args)
            check_field("kwargs", kwargs)
        except InvalidArgument as wrong:
            raise application_error(wrong) from wrong
        task = TaskInput(uri, args, kwargs, caller(details), self._progress(details), _warn(uri))
        handler = self._handlers[entry.pattern]
        outcome = yield self._in_time(entry.timeout, handler, task)
        if outcome.ok:
            return answer(outcome.body)
        error = refusal(outcome.body)
        log.warning("%s failed: %s", uri, error)
        raise error

    def _progress(self, details: Any) -> Callable[[float, str], None]:
        def tell(fraction: float, message: str) -> None:
            if details.progress is not None:
                self._reactor.callFromThread(
                    details.progress, {"fraction": fraction, "message": message}
                )

        return tell

    def _in_time(self, timeout: float, handler: Handler, task: TaskInput) -> "Deferred[Outcome]":
        """The outcome, or a timeout's: a Python thread cannot be stopped, its result is dropped."""
        done: Deferred[Outcome] = Deferred()
        late = TaskTimeout(f"{task.uri} did not end within {timeout:g} seconds")

        def finish(outcome: Any) -> None:
            if not done.called:
                timer.cancel()
                done.callback(outcome)

        def give_up() -> None:
            done.callback(Outcome(False, failure_text(late)))

        # exec and http handlers keep the time themselves and clean up; theirs comes first.
        timer = self._reactor.callLater(timeout + 0.2, give_up)
        deferToThreadPool(self._reactor, self._pool, perform, handler, task).addBoth(finish)
        return done


def _warn(uri: str) -> Callable[[str], None]:
    return lambda message: log.warning("%s: %s", uri, message)


def _handlers(entries: list[Entry]) -> dict[str, Handler]:
    """What runs in this process: background entries run in workers only."""
    handlers = {}
    for entry in entries:
        if entry.mode == "foreground":
            handlers[entry.pattern] = build(entry.handler, entry.timeout)
    return handlers
