"""One visit to the bus, as every command makes it."""

from collections.abc import Callable
from typing import Any

from taskbus.model.errors import TaskbusError
from taskbus.model.json import check_field
from taskbus.model.settings import Settings
from taskbus.wire import visit_bus

# How the router answers for a URI that no backend serves: in a namespace of the API map it is
# unknown, outside of them nobody may call it.
UNSERVED = ("wamp.error.no_such_procedure", "wamp.error.not_authorized")


class CallFailed(TaskbusError):
    """A call was answered with an error."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error.args[0]) if error.args else error.error)
        self.uri = error.error
        self.about = dict(error.kwargs or {})
        if self.uri in UNSERVED:
            self.about["remedy"] = (
                "check the spelling with 'taskbus check'; the bus serves URIs that are new in the "
                "API map after 'taskbus down' and 'taskbus up'"
            )


def visit(settings: Settings, work: Callable[[Any], Any]) -> Any:
    """Run the coroutine ``work(session)`` as the operator; raises CallFailed or Unreachable."""
    from autobahn.wamp.exception import ApplicationError

    try:
        return visit_bus(settings, work)
    except ApplicationError as error:
        raise CallFailed(error) from None


def calling(uri: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """What ``visit`` runs to make one call; raises InvalidArgument where it cannot be sent."""
    check_field("args", list(args))
    for name, value in kwargs.items():
        check_field(name, value)

    async def call(session: Any) -> Any:
        return await session.call(uri, *args, **kwargs)

    return call
