"""Autobahn as the bus needs it: every call is answered, errors have the bus' URIs."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError, ProtocolError
from autobahn.wamp.message import Error, Event, Interrupt, Invocation, Result, Unregistered, Yield
from autobahn.wamp.request import Registration
from autobahn.wamp.types import RegisterOptions
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    inlineCallbacks,
    maybeDeferred,
)
from twisted.python.failure import Failure

from taskbus.model.errors import TaskbusError, Unsendable, shown
from taskbus.model.json import load
from taskbus.model.portable import RESERVED_IN_ERRORS, RESERVED_KEYWORDS
from taskbus.model.trace import trace_of_call

log = logging.getLogger(__name__)

REALM = "realm1"
_TAKEN = {Result: RESERVED_KEYWORDS, Error: RESERVED_IN_ERRORS}
_WHO = ("caller", "caller_authid", "caller_authrole", "procedure")


class Call(NamedTuple):
    """A call that has come.

    ``procedure``: the called URI, below the one that is registered where that is a prefix.
    ``caller``: a session, ``caller_authid`` and ``caller_authrole`` whose it is; None where it is
    not disclosed. ``transaction_hash``: see ``taskbus.model.trace``. ``progress`` sends a value on
    the way to the answer; None where the caller does not want to hear.
    """

    args: Sequence[Any]
    kwargs: dict[str, Any]
    procedure: str
    caller: int | None
    caller_authid: str | None
    caller_authrole: str | None
    transaction_hash: str | None
    progress: Callable[[Any], None] | None


class Heard(NamedTuple):
    """An event that has come. ``publication``: its id. ``topic``: the one that it was published on,
    below the one that is subscribed to where that is a prefix.
    """

    args: Sequence[Any]
    kwargs: dict[str, Any]
    topic: str
    publication: int
    transaction_hash: str | None


class Answer(NamedTuple):
    """What a call is answered with, where that is not one value."""

    args: Sequence[Any]
    kwargs: dict[str, Any]


# An answer, or a Deferred of one. Any exception is told to the caller, see ``application_error``.
Endpoint = Callable[[Call], Any]


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


def caller(call: Call) -> dict[str, Any]:
    """Who calls, as tasks and jobs know it, and the trace that the call belongs to."""
    who = {name: value for name in _WHO if (value := getattr(call, name)) is not None}
    return _traced(who, call.transaction_hash)


def caller_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """The same for details as the router has sent them."""
    who = {name: details[name] for name in _WHO if details.get(name) is not None}
    return _traced(who, details.get("transaction_hash"))


def _traced(who: dict[str, Any], transaction_hash: str | None) -> dict[str, Any]:
    trace = trace_of_call(transaction_hash)
    return who if trace is None else {**who, "trace": trace.told}


def answer(body: str) -> Answer:
    """A result's JSON as the answer of a call."""
    result = load(body)
    return Answer(result["args"], result["kwargs"])


def refusal(body: str) -> ApplicationError:
    """A failure's JSON (``taskbus.handler.perform.failure``) as the error of a call."""
    told = load(body)
    return _error(told["error"], told["message"], told["about"])


def application_error(error: BaseException | None) -> ApplicationError:
    """Any exception as the error of a call."""
    if isinstance(error, ApplicationError):
        return error
    if isinstance(error, TaskbusError):
        return _error(error.uri, error.message, error.about)
    if isinstance(error, CancelledError):
        return ApplicationError(ApplicationError.CANCELED, "the caller has gone, or canceled it")
    log.error("unexpected error in a call", exc_info=error)
    return ApplicationError(TaskbusError.uri, f"{type(error).__name__}: {error}")


def _error(uri: str, message: str, about: Mapping[str, Any]) -> ApplicationError:
    error = ApplicationError(uri, message)
    error.kwargs = dict(about)
    return error


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
