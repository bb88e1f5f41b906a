"""``/healthz``: the gateway lives. ``/readyz``: the bus can take work and do it, part by part."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from taskbus.gateway.describe import an_object, answer, operation
from taskbus.gateway.own import Own
from taskbus.gateway.route import Answer, Bus, Request, Route

log = logging.getLogger(__name__)

_PATIENCE = 3.0
_FRESH_SECONDS = 1.0
_PLAIN = {"Cache-Control": "no-store"}

Parts = Mapping[str, bool]


class Readiness:
    """Looks at most once a second, however many ask: they need not prove who they are."""

    def __init__(self, reactor: Any, own: Own, has_workers: Callable[[], bool]) -> None:
        """``has_workers``: whether each pool has one that takes jobs."""
        self._reactor = reactor
        self._own = own
        self._has_workers = has_workers
        self._parts: Parts = {}
        self._until = 0.0
        self._waiting: list[Deferred[Parts]] = []

    def look(self) -> "Deferred[Parts]":
        """Which parts do their work."""
        waiting: Deferred[Parts] = Deferred()
        self._waiting.append(waiting)
        if self._reactor.seconds() < self._until:
            self._tell()
        elif len(self._waiting) == 1:
            Deferred.fromCoroutine(self._ask()).addBoth(lambda _: self._tell())
        return waiting

    async def _ask(self) -> None:
        parts = dict.fromkeys(("router", "control", "store", "queue"), False)
        parts["router"] = self._own.session is not None
        parts["workers"] = self._has_workers()
        self._parts = parts
        try:
            asked = self._own.call("taskbus.bus.ready").addTimeout(_PATIENCE, self._reactor)
            parts |= {"control": True, **await asked}
        except Exception as error:  # noqa: BLE001 - whatever it is, control does not answer
            log.info("control does not answer: %s", error)
        self._until = self._reactor.seconds() + _FRESH_SECONDS

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(self._parts)


def routes(readiness: Readiness) -> list[Route]:
    """For whoever watches from outside, as load balancers do."""

    async def alive(_request: Request, _bus: Bus) -> Answer:
        return Answer(200, {"status": "ok"}, _PLAIN)

    async def ready(_request: Request, _bus: Bus) -> Answer:
        parts = await readiness.look()
        is_ready = all(parts.values())
        told = {name: "ok" if parts[name] else "down" for name in parts}
        return Answer(200 if is_ready else 503, {"ready": is_ready, "parts": told}, _PLAIN)

    return [
        Route("GET", "/healthz", alive, _HEALTHZ, public=True),
        Route("GET", "/readyz", ready, _READYZ, public=True),
    ]


_HEALTHZ = operation(
    "whether the gateway lives",
    answers={200: answer("it does", an_object("status", status={"const": "ok"}))},
)
_PARTS = {"type": "object", "additionalProperties": {"enum": ["ok", "down"]}}
_STATE = an_object("ready parts", ready={"type": "boolean"}, parts=_PARTS)
_READYZ = operation(
    "which parts of the bus do their work",
    answers={200: answer("all of them", _STATE), 503: answer("one is missing", _STATE)},
)
