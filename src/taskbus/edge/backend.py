"""A backend: registers every URI of one namespace, and runs or queues each call."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from autobahn.twisted.wamp import Session
from twisted.internet.defer import Deferred, inlineCallbacks

from taskbus.bus.calls import Calls
from taskbus.bus.message import Call, Endpoint, caller
from taskbus.bus.session import register_all
from taskbus.core.untraced import NO_SPANS
from taskbus.edge.batch import Batch
from taskbus.edge.enqueue import Enqueue
from taskbus.edge.foreground import Foreground
from taskbus.model.apimap import SERVED, ApiMap, Entry
from taskbus.port.clock import Clock
from taskbus.port.spans import Spans

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
        self._enqueue = Enqueue(api, clock, batch, spans)
        self._on_serving = on_serving
        self._entries = api.below(namespace, SERVED)
        self._foreground = foreground
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
        self.calls.forsake()

    def retire(self) -> None:
        """See Service. Every call here has a timeout of its own."""

    def close(self) -> bool:
        """See Service."""
        return self._foreground.close()

    def _endpoint(self, entry: Entry) -> Endpoint:
        return self._queue if entry.mode == "background" else partial(self._foreground.run, entry)

    def _queue(self, call: Call) -> "Deferred[str]":
        """Background: the job's id, once it is accepted; a unique job's that is there already."""
        return self._enqueue.accept(call.procedure, call.args, call.kwargs, caller(call))
