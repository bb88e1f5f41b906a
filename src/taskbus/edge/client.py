"""A short visit to the bus: join, do something, leave. For commands and scripts."""

from collections.abc import Callable
from typing import Any

from autobahn.twisted.component import Component
from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from taskbus.bus.session import AskingSession, transport
from taskbus.model.errors import TaskbusError


class Unreachable(TaskbusError):
    """No router answers, or it refuses the ticket."""

    uri = "taskbus.error.unreachable"


def visit(
    router_socket: str, authid: str, ticket: str, work: Callable[[Session], Any], realm: str
) -> Any:
    """Run the coroutine ``work(session)`` and return its result. Starts and ends the reactor, so a
    process can do it once. Raises Unreachable, or what the coroutine raises.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed

    component = Component(
        transports=[{**transport(router_socket), "max_retries": 0}],
        realm=realm,
        session_factory=AskingSession,
        authentication={"ticket": {"authid": authid, "ticket": ticket}},
    )
    outcome: list[Any] = []

    def end(result: Any) -> None:
        if not outcome:
            outcome.append(result)
            reactor.callLater(0, reactor.stop)

    @component.on_join  # type: ignore[untyped-decorator]
    def _(session: Session, _details: Any) -> "Deferred[Any]":
        return ensureDeferred(work(session)).addBoth(end)

    @component.on_disconnect  # type: ignore[untyped-decorator]
    def _(*_args: Any, **_kwargs: Any) -> None:
        end(Failure(Unreachable("the router closed the connection")))

    component.start(reactor).addErrback(
        lambda failure: end(Failure(Unreachable(_why(failure), remedy="see 'taskbus status'")))
    )
    reactor.run()
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def _why(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, ApplicationError):
        return f"the router refuses: {error.error_message()}"
    return "the bus cannot be reached: no router answers"
