"""Autobahn as the bus needs it: every call is answered, and every answer heard."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError, ProtocolError
from autobahn.wamp.message import Error, Event, Interrupt, Invocation, Result, Unregistered, Yield
from autobahn.wamp.request import Registration
from autobahn.wamp.types import RegisterOptions
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from taskbus.bus.message import Answer, Call, Endpoint, Heard, application_error
from taskbus.model.errors import Unsendable, shown
from taskbus.model.portable import RESERVED_IN_ERRORS, RESERVED_KEYWORDS

log = logging.getLogger(__name__)

REALM = "realm1"
_TAKEN = {Result: RESERVED_KEYWORDS, Error: RESERVED_IN_ERRORS}


def transport(router_socket: str) -> dict[str, Any]:
    """Autobahn's description of the way to the router; it tries for ever, and soon."""
    return {
        "type": "rawsocket",
        "url": "rs://localhost",
        "endpoint": {"type": "unix", "path": router_socket},
        "serializer": "msgpack",
        "max_retries": -1,
        "initial_retry_delay": 0.1,
        "retry_delay_growth": 1.5,
        "max_retry_delay": 2.0,
    }


@inlineCallbacks
def register_all(session: Session, endpoints: Mapping[str, Endpoint]) -> Any:
    """Register every URI, ``x.*`` as a prefix; the registrations. Fails when one of them fails.

    An older session of ours that the router still believes alive loses its registrations.
    """
    waiting: list[Deferred[Registration]] = []
    for uri, endpoint in endpoints.items():
        prefix = uri.endswith(".*")
        options = RegisterOptions(match="prefix" if prefix else "exact", force_reregister=True)
        waiting.append(session.register(endpoint, uri[:-1] if prefix else uri, options=options))
    results = yield DeferredList(waiting, consumeErrors=True)
    for ok, result in results:
        if not ok:
            result.raiseException()
    return [registration for _, registration in results]


def spared(msg: Any) -> Any:
    """A message to a caller: keywords that Autobahn would take for its own get an underscore, as in
    the bus' errors. They come from components of others; the bus' own send none.
    """
    taken = _TAKEN.get(type(msg))
    if taken and msg.kwargs and not taken.isdisjoint(msg.kwargs):
        msg.kwargs = {
            f"{name}_" if name in taken else name: value for name, value in msg.kwargs.items()
        }
    return msg


class AskingSession(Session):
    """A session that hears the answer of every call."""

    def onMessage(self, msg: Any) -> None:
        super().onMessage(spared(msg))


class AnsweringSession(AskingSession):
    """A session that answers every call, and says when another one has taken its URIs over.

    It takes calls and events itself: Autobahn takes keywords of theirs for its own, and ends the
    session over it; it loses answers that it cannot send, and its way to an endpoint is a good part
    of what it costs to queue a job.
    """

    on_displaced: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open: dict[int, Deferred[Any]] = {}

    def onMessage(self, msg: Any) -> None:
        # What is encrypted it refuses by itself.
        if isinstance(msg, Invocation) and msg.enc_algo is None:
            self._take(msg)
        elif isinstance(msg, Event) and msg.enc_algo is None:
            self._hear(msg)
        elif isinstance(msg, Interrupt):
            if msg.request in self._open:
                self._open[msg.request].cancel()
        else:
            super().onMessage(msg)
            # Nobody asked for it here: somebody else has registered the same.
            if isinstance(msg, Unregistered) and msg.request == 0:
                self.on_displaced()

    def _hear(self, msg: Event) -> None:
        # There may be none any more: the router was not told yet.
        for subscription in self._subscriptions.get(msg.subscription, ()):
            event = Heard(
                args=msg.args or [],
                kwargs=msg.kwargs or {},
                topic=msg.topic or subscription.topic,
                publication=msg.publication,
                transaction_hash=msg.transaction_hash,
            )
            try:
                subscription.handler.fn(event)
            except Exception:
                log.exception("unexpected error over an event of %s, going on", event.topic)

    def _take(self, msg: Invocation) -> None:
        request, registration = msg.request, self._registrations.get(msg.registration)
        if registration is None or request in self._open:
            raise ProtocolError(f"a call, {request}, of what is not registered, or sent twice")
        call = Call(
            args=msg.args or [],
            kwargs=msg.kwargs or {},
            procedure=msg.procedure or registration.procedure,
            caller=msg.caller,
            caller_authid=msg.caller_authid,
            caller_authrole=msg.caller_authrole,
            transaction_hash=msg.transaction_hash,
            progress=partial(self._tell, request) if msg.receive_progress else None,
        )
        answer = self._open[request] = maybeDeferred(registration.endpoint.fn, call)
        answer.addCallbacks(
            self._answer, self._refuse, callbackArgs=(request,), errbackArgs=(request,)
        )

    def _tell(self, request: int, progress: Any) -> None:
        if request in self._open:
            self._send(Yield(request, args=[progress], progress=True))

    def _answer(self, answer: Any, request: int) -> None:
        del self._open[request]
        if isinstance(answer, Answer):
            self._send(Yield(request, args=answer.args, kwargs=answer.kwargs))
        else:
            self._send(Yield(request, args=[answer]))

    def _refuse(self, failure: Failure, request: int) -> None:
        del self._open[request]
        self._send(_error_message(request, application_error(failure.value)))

    def _send(self, reply: Yield | Error) -> None:
        """What is too large, or not to be serialized, would leave its caller waiting for ever: an
        error goes in its place.
        """
        transport = self._transport
        if transport is None or not transport.isOpen():
            log.info("the router was lost before a call was answered")
            return
        try:
            transport.send(reply)
        except Exception as error:  # noqa: BLE001 - the caller hears of it
            log.warning("an answer cannot be sent: %s", error)
            if isinstance(reply, Yield) and reply.progress:
                return
            told = Unsendable(
                f"the answer cannot be sent: {shown(str(error))}",
                remedy="ask for less at once, or let the task return less",
            )
            transport.send(_error_message(reply.request, application_error(told)))


def _error_message(request: int, error: ApplicationError) -> Error:
    return Error(Invocation.MESSAGE_TYPE, request, error.error, list(error.args), error.kwargs)
