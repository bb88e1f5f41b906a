"""What comes over the bus and goes back: calls, events, answers and errors."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import CancelledError

from taskbus.model.errors import TaskbusError
from taskbus.model.json import load
from taskbus.model.trace import trace_of_call

log = logging.getLogger(__name__)

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
