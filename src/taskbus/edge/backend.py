"""A backend: registers every URI of one namespace, and runs or queues each call."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autobahn.twisted.wamp import Session
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from taskbus.bus.calls import Calls
from taskbus.bus.session import (
    DETAILS,
    application_error,
    caller,
    refused,
    register_all,
)
from taskbus.core.intake import prepare
from taskbus.core.untraced import NO_SPAN, NO_SPANS
from taskbus.edge.batch import Batch
from taskbus.edge.foreground import Foreground
from taskbus.handler.perform import failure_text
from taskbus.model.apimap import SERVED, ApiMap, Entry
from taskbus.model.trace import trace_in, with_trace
from taskbus.port.clock import Clock
from taskbus.port.spans import ENQUEUE, Span, Spans

log = logging.getLogger(__name__)


class Backend:
    """One namespace of the API map on the bus."""

    def __init__(
        self,
        api: ApiMap,
        namespace: str,
        batch: Batch,
        foreground: Foreground,
        calls: Calls,
        clock: Clock,
        on_serving: Callable[[int], None],
        spans: Spans = NO_SPANS,
    ) -> None:
        """``on_serving`` is called with the number of URIs each time they are all registered."""
        self._api = api
        self._batch = batch
        self._clock = clock
        self._on_serving = on_serving
        self._entries = api.below(namespace, SERVED)
        self._foreground = foreground
        self._spans = spans
        self.calls = calls

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
        """See Service."""
        return self._foreground.close()

    def _endpoint(self, entry: Entry) -> Callable[..., Any]:
        call = self._queue if entry.mode == "background" else self._foreground.run

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
        who = caller(details)
        span = self._spans.begin(ENQUEUE, uri, trace_in(who))
        try:
            submission = prepare(self._api, self._clock, request, with_trace(who, span.trace))
        except Exception as error:
            span.end(failure_text(error))
            raise application_error(error) from error
        accepted = self._batch.accept([submission])
        if span is not NO_SPAN:
            accepted.addBoth(_ended, span)
        return accepted.addCallbacks(_first, refused)


def _first(ids: Sequence[str]) -> str:
    return ids[0]


def _ended(result: Any, span: Span) -> Any:
    failure = isinstance(result, Failure) and result.value
    span.end(failure_text(failure) if failure else None)
    return result
