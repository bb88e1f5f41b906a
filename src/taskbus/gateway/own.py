"""The gateway's own session: for what nobody has to prove who he is for."""

from typing import Any

from autobahn.twisted.wamp import Session
from autobahn.wamp.types import CallOptions, PublishOptions
from twisted.internet.defer import Deferred, fail

from taskbus.gateway.identity import Unreachable
from taskbus.model.trace import Trace


class Own:
    """It comes and goes with the router. The role ``gateway`` says what it may do."""

    def __init__(self) -> None:
        self.session: Session | None = None

    def call(
        self, uri: str, /, *args: Any, trace: Trace | None = None, **kwargs: Any
    ) -> "Deferred[Any]":
        """As ``Session.call``, of this trace; fails with Unreachable where there is no session."""
        if self.session is None or not self.session.is_attached():
            return _unreachable()
        options = CallOptions(transaction_hash=trace and trace.text)
        called: Deferred[Any] = self.session.call(uri, *args, options=options, **kwargs)
        return called

    def publish(
        self, topic: str, /, *args: Any, trace: Trace | None = None, **kwargs: Any
    ) -> "Deferred[Any]":
        """Fires when the router has it. ``trace``: what the event belongs to."""
        if self.session is None or not self.session.is_attached():
            return _unreachable()
        options = PublishOptions(acknowledge=True, transaction_hash=trace and trace.text)
        published: Deferred[Any] = self.session.publish(topic, *args, options=options, **kwargs)
        return published


def _unreachable() -> "Deferred[Any]":
    return fail(Unreachable("the gateway has no connection to the router", remedy="ask again"))
