"""Autobahn as the bus needs it: components that always come back, errors with the bus' URIs."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from autobahn.twisted.component import Component
from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult, RegisterOptions, SessionDetails
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from taskbus.model.errors import TaskbusError
from taskbus.model.json import load

log = logging.getLogger(__name__)

REALM = "realm1"
# Where Autobahn puts the call's details: no caller's keyword can have this name by accident.
DETAILS = "taskbus_call_details"

Endpoint = Callable[..., Any]


def connect(
    router_socket: Path,
    authid: str,
    ticket: str,
    on_join: Callable[[Session], Any],
    on_leave: Callable[[], None],
) -> Component:
    """A component that stays: it joins again after every loss, for ever.

    ``on_join`` makes the session useful and returns a Deferred; when that fails the session is
    closed and made anew, since a backend with half its URIs is worse than none.
    """
    component = Component(
        transports=[transport(str(router_socket))],
        realm=REALM,
        authentication={"ticket": {"authid": authid, "ticket": ticket}},
    )

    @component.on_join  # type: ignore[untyped-decorator]
    def _(session: Session, _details: SessionDetails) -> Any:
        def failed(failure: Failure) -> None:
            log.error("joined, but cannot serve: %s", failure.getErrorMessage())
            if session.is_attached():
                session.leave()

        return maybeDeferred(on_join, session).addErrback(failed)

    @component.on_leave  # type: ignore[untyped-decorator]
    @component.on_disconnect  # type: ignore[untyped-decorator]
    def _(*_args: Any, **_kwargs: Any) -> None:
        on_leave()

    return component


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
    """Register every URI, ``x.*`` as a prefix; fails when one of them fails.

    An older session of ours that the router still believes alive loses its registrations.
    """
    waiting: list[Deferred[Any]] = []
    for uri, endpoint in endpoints.items():
        prefix = uri.endswith(".*")
        options = RegisterOptions(
            match="prefix" if prefix else "exact", details_arg=DETAILS, force_reregister=True
        )
        waiting.append(session.register(endpoint, uri[:-1] if prefix else uri, options=options))
    for ok, result in (yield DeferredList(waiting, consumeErrors=True)):
        if not ok:
            result.raiseException()


def caller(details: Any) -> dict[str, Any]:
    """Who calls, as tasks and jobs know it."""
    told = {
        "caller": details.caller,
        "caller_authid": details.caller_authid,
        "caller_authrole": details.caller_authrole,
        "procedure": details.procedure,
    }
    return {key: value for key, value in told.items() if value is not None}


def answer(body: str) -> CallResult:
    """A result's JSON as the answer of a call."""
    result = load(body)
    return CallResult(*result["args"], **result["kwargs"])


def refusal(body: str) -> ApplicationError:
    """A failure's JSON (``taskbus.handler.perform.failure``) as the error of a call."""
    told = load(body)
    return ApplicationError(told["error"], told["message"], **told["about"])


def application_error(error: BaseException | None) -> ApplicationError:
    """Any exception as the error of a call."""
    if isinstance(error, ApplicationError):
        return error
    if isinstance(error, TaskbusError):
        return ApplicationError(error.uri, error.message, **error.about)
    log.error("unexpected error in a call", exc_info=error)
    return ApplicationError(TaskbusError.uri, f"{type(error).__name__}: {error}")


def refused(failure: Failure) -> NoReturn:
    """The same for a Deferred's errback."""
    raise application_error(failure.value) from failure.value
