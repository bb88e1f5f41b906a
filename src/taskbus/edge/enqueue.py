"""Background calls: each becomes a job."""

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taskbus.core.intake import prepare
from taskbus.core.untraced import NO_SPAN, NO_SPANS
from taskbus.edge.batch import Batch
from taskbus.handler.perform import failure_text
from taskbus.model.apimap import ApiMap
from taskbus.model.trace import trace_in, with_trace
from taskbus.port.clock import Clock
from taskbus.port.spans import ENQUEUE, Span, Spans


class Enqueue:
    """For whoever takes the calls of the API map."""

    def __init__(self, api: ApiMap, clock: Clock, batch: Batch, spans: Spans = NO_SPANS) -> None:
        self._api = api
        self._clock = clock
        self._batch = batch
        self._spans = spans

    def accept(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any], who: dict[str, Any]
    ) -> "Deferred[str]":
        """The job's id, once it is accepted; a unique job's that is there already. ``who``: see
        ``taskbus.bus.message.caller``. Raises TaskbusError, or fails with one.
        """
        request = {"uri": uri, "args": args, "kwargs": kwargs}
        span = self._spans.begin(ENQUEUE, uri, trace_in(who))
        try:
            submission = prepare(self._api, self._clock, request, with_trace(who, span.trace))
        except Exception as error:
            span.end(failure_text(error))
            raise
        accepted = self._batch.accept([submission])
        if span is not NO_SPAN:
            accepted.addBoth(_ended, span)
        return accepted.addCallback(_first)


def _first(ids: Sequence[str]) -> str:
    return ids[0]


def _ended(result: Any, span: Span) -> Any:
    failure = isinstance(result, Failure) and result.value
    span.end(failure_text(failure) if failure else None)
    return result
