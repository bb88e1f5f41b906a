"""Autobahn as the bus needs it: every call is answered, errors have the bus' URIs."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.message import Error, Invocation, Unregistered, Yield
from autobahn.wamp.request import Registration
from autobahn.wamp.types import CallResult, RegisterOptions
from twisted.internet.defer import CancelledError, Deferred, DeferredList, inlineCallbacks
from twisted.python.failure import Failure

from taskbus.model.errors import TaskbusError, Unsendable, shown
from taskbus.model.json import load
from taskbus.model.trace import trace_of_call

log = logging.getLogger(__name__)

REALM = "realm1"
# Where Autobahn puts the call's details: no caller's keyword can have this name by accident.
DETAILS = "taskbus_call_details"

_WHO = ("caller", "caller_authid", "caller_authrole", "procedure")
_TRACE = "transaction_hash"

Endpoint = Callable[..., Any]


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
        options = RegisterOptions(
            match="prefix" if prefix else "exact", details_arg=DETAILS, force_reregister=True
        )
        waiting.append(session.register(endpoint, uri[:-1] if prefix else uri, options=options))
    results = yield DeferredList(waiting, consumeErrors=True)
    for ok, result in results:
        if not ok:
            result.raiseException()
    return [registration for _, registration in results]


def caller(details: Any) -> dict[str, Any]:
    """Who calls, as tasks and jobs know it, and the trace that the call belongs to."""
    return caller_of({name: getattr(details, name) for name in (*_WHO, _TRACE)})


def caller_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """The same for details as the router has sent them."""
    told: dict[str, Any] = {name: details[name] for name in _WHO if details.get(name) is not None}
    if trace := trace_of_call(details.get(_TRACE)):
        told["trace"] = trace.told
    return told


def answer(body: str) -> CallResult:
    """A result's JSON as the answer of a call."""
    result = load(body)
    told = CallResult(*result["args"])
    # Not as keywords: it would take some of them for its own.
    told.kwresults = result["kwargs"]
    return told


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


def refused(failure: Failure) -> NoReturn:
    """The same for a Deferred's errback."""
    raise application_error(failure.value) from failure.value


def _error(uri: str, message: str, about: Mapping[str, Any]) -> ApplicationError:
    error = ApplicationError(uri, message)
    error.kwargs = dict(about)
    return error


class AnsweringSession(Session):
    """A session that answers every call, and says when another one has taken its URIs over."""

    on_displaced: Callable[[], None] = staticmethod(lambda: None)

    def onMessage(self, msg: Any) -> None:
        super().onMessage(msg)
        # Nobody asked for it here: somebody else has registered the same.
        if isinstance(msg, Unregistered) and msg.request == 0:
            self.on_displaced()

    def onOpen(self, transport: Any) -> None:
        super().onOpen(_Answering(transport))

    def onClose(self, wasClean: bool) -> None:
        super().onClose(wasClean)
        self._transport: Any = _Lost()


class _Lost:
    """In the place of a transport that is gone: an answer that comes too late goes nowhere."""

    def __bool__(self) -> bool:
        return False

    def send(self, _message: Any) -> None:
        log.info("the router was lost before a call was answered")


class _Answering:
    """A transport that sends an error in the place of an answer that it cannot send.

    What is too large, or not to be serialized, would otherwise leave its caller waiting for ever.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, message: Any) -> None:
        try:
            self._transport.send(message)
        except TransportLost:
            raise
        except Exception as error:
            if not isinstance(message, (Yield, Error)):
                raise
            log.warning("an answer cannot be sent: %s", error)
            if isinstance(message, Yield) and message.progress:
                return
            told = Unsendable(
                f"the answer cannot be sent: {shown(str(error))}",
                remedy="ask for less at once, or let the task return less",
            )
            reply = (Invocation.MESSAGE_TYPE, message.request, told.uri, [told.message], told.about)
            self._transport.send(Error(*reply))
