"""``taskbus.php.*``: what the backends of PHP ask of the bus."""

from collections.abc import Callable
from typing import Any

from taskbus.bus.message import caller_of
from taskbus.edge.enqueue import Enqueue
from taskbus.edge.request import named
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument
from taskbus.model.php import KIND


class Php:
    """For ``taskbus.edge.control``. The router lets nobody else call this."""

    def __init__(self, api: ApiMap, enqueue: Enqueue) -> None:
        self._api = api
        self._enqueue = enqueue

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {"taskbus.php.enqueue": self.enqueue}

    def enqueue(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``enqueue(uri, details, call)`` -> the id of the job that a call of a php entry becomes.

        ``details``: of the call, as the router has sent them to the backend. ``call``: a list of
        its arguments, and of its keyword arguments; either may be missing.
        """
        asked = named(("uri", "details", "call"), args, kwargs)
        uri, details, call = asked.get("uri"), asked.get("details"), asked.get("call")
        entry = self._api.entry(str(uri))
        if entry.kind != KIND:
            raise InvalidArgument("uri", uri, f"is {entry.kind}", "send what a php entry covers")
        if not isinstance(details, dict):
            raise InvalidArgument("details", details, "no object", "send those of the call")
        if not isinstance(call, (list, tuple)) or len(call) > 2:
            raise InvalidArgument("call", call, "no call", "send [[arguments], {keywords}]")
        args = call[0] if call else ()
        kwargs = call[1] if len(call) > 1 else {}
        return self._enqueue.accept(str(uri), args, kwargs, caller_of(details))
