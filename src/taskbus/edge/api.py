"""``taskbus.api.list``: what the API map has for a caller."""

from collections.abc import Callable
from typing import Any

from taskbus.core.permit import Permit
from taskbus.edge.request import named
from taskbus.model.access import CALL, SUBMIT
from taskbus.model.apimap import WAMP, ApiMap, Entry
from taskbus.model.errors import InvalidArgument
from taskbus.model.php import ROLE, PhpTarget
from taskbus.model.uri import is_loose_uri


class Api:
    """For ``taskbus.edge.control``."""

    def __init__(self, api: ApiMap, permit: Callable[[Any], Permit]) -> None:
        """``permit``: what a call's details say that its caller may do."""
        self._api = api
        self._permit = permit

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {"taskbus.api.list": self.list}

    def list(self, details: Any, /, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """``list(namespace=)`` -> the entries below it, or all, of which the caller may call or
        queue anything, each ``{"uri", "kind", "mode", "timeout", "queue", "may"}``,
        and for a backend of PHP also ``"class"``.

        ``uri``: the entry's, or where the caller may less, what it may; ``x.*`` is every URI below
        ``x``. ``may`` has ``"call"`` where it may be called, ``"submit"`` where it may be queued.
        """
        namespace = named(("namespace",), args, kwargs).get("namespace")
        if namespace is not None and not (isinstance(namespace, str) and is_loose_uri(namespace)):
            raise InvalidArgument(
                "namespace", namespace, "not a namespace", "send one as com.example.shop, or none"
            )
        permit = self._permit(details)
        entries = self._api.below(namespace) if namespace else self._api.entries.values()
        to_backend = details.caller_authrole == ROLE
        return [shown for entry in entries for shown in _shown(entry, permit, to_backend)]


def _shown(entry: Entry, permit: Permit, to_backend: bool) -> list[dict[str, Any]]:
    to_call = SUBMIT if entry.mode == "background" else CALL
    callable_, queueable = (permit.within(one, entry.pattern) for one in (to_call, SUBMIT))
    if entry.kind == WAMP:
        queueable = []
    return [
        {
            "uri": uri,
            "kind": entry.kind,
            "mode": entry.mode,
            "timeout": None if entry.kind == WAMP else entry.timeout,
            "queue": entry.queue,
            "may": [
                *(["call"] if uri in callable_ else []),
                *(["submit"] if uri in queueable else []),
            ],
            **(
                {"class": entry.target.name}
                if to_backend and isinstance(entry.target, PhpTarget)
                else {}
            ),
        }
        for uri in dict.fromkeys([*callable_, *queueable])
    ]
