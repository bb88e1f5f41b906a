"""Submits to taskbus as an operator, with Autobahn over the router's Unix socket.

    python -m bench.taskbus_client COUNT TASK [ARG...]

queues COUNT jobs, in batches; bench.producer uses the rest.
"""

import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from autobahn.twisted.component import Component
from autobahn.twisted.wamp import Session
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.threads import blockingCallFromThread

from bench.contestant import ENQUEUE
from bench.report import BATCH, BRIDGE, BRIDGE_NOOP, WAMP, WAMP_NOOP
from bench.taskbus_bridge import post_calls
from bench.taskbus_site import NAMESPACE, Site
from taskbus.bus.session import REALM, transport

reactor: Any = installed

BATCH_SIZE = 1000
OUTSTANDING = 64
NOOP = f"{NAMESPACE}.noop"
NOTHING = f"{NAMESPACE}.nothing"  # bench.taskbus_noop


class TaskbusClient:
    """One session, in a thread's reactor; the rates and times are taken within it."""

    def __init__(self, site: Site, session: Session) -> None:
        self._site = site
        self._session = session

    def submit(self, task: str, args: tuple[str, ...]) -> float:
        """The call's Deferred fires as soon as the id has arrived."""

        async def acknowledged() -> float:
            await self._session.call("taskbus.job.submit", f"{NAMESPACE}.{task}", args)
            return time.time()

        return float(_in_reactor(lambda: ensureDeferred(acknowledged())))

    def submit_many(self, task: str, args: tuple[str, ...], count: int) -> None:
        """Queue the same job `count` times."""
        self._wait(lambda: self._batches(task, args, count))

    def ways(self) -> Mapping[str, Callable[[int], object]]:
        """By way of taskbus.job.submit, of a background URI and of the bridge."""
        return {
            ENQUEUE: lambda count: self._wait(lambda: self._one_at_a_time(count)),
            BATCH: lambda count: self.submit_many("noop", (), count),
            WAMP_NOOP: lambda count: self._wait(lambda: self._outstanding(NOTHING, count)),
            WAMP: lambda count: self._wait(lambda: self._outstanding(NOOP, count)),
            BRIDGE_NOOP: lambda count: post_calls(self._site, NOTHING, count),
            BRIDGE: lambda count: post_calls(self._site, NOOP, count),
        }

    async def _one_at_a_time(self, count: int) -> None:
        for _ in range(count):
            await self._session.call("taskbus.job.submit", NOOP)

    async def _batches(self, task: str, args: tuple[str, ...], count: int) -> None:
        job = {"uri": f"{NAMESPACE}.{task}", "args": args}
        for begin in range(0, count, BATCH_SIZE):
            jobs = [job] * min(BATCH_SIZE, count - begin)
            await self._session.call("taskbus.job.submit_many", jobs)

    async def _outstanding(self, uri: str, count: int) -> None:
        left = iter(range(count))

        async def caller() -> None:
            for _ in left:
                await self._session.call(uri)

        await _all([caller() for _ in range(OUTSTANDING)])

    def _wait(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _in_reactor(lambda: ensureDeferred(work()))


def _in_reactor(call: Callable[[], Any]) -> Any:
    return blockingCallFromThread(reactor, call)


def _all(coroutines: list[Coroutine[Any, Any, None]]) -> Awaitable[Any]:
    return gatherResults([ensureDeferred(each) for each in coroutines], consumeErrors=True)


def connect() -> TaskbusClient:
    """Start the reactor's thread and join; see bench.producer."""
    site = Site(Path(os.environ["BENCH_TASKBUS"]))
    component = Component(
        transports=[transport(site.socket())],
        realm=REALM,
        authentication={"ticket": {"authid": "operator", "ticket": site.ticket("operator")}},
    )
    joined: Deferred[Session] = Deferred()

    @component.on_join  # type: ignore[untyped-decorator, unused-ignore]
    def _(session: Session, _details: Any) -> None:
        if not joined.called:
            joined.callback(session)

    def start() -> "Deferred[Session]":
        component.start(reactor).addErrback(joined.errback)
        return joined

    run = {"installSignalHandlers": False}
    threading.Thread(target=reactor.run, kwargs=run, daemon=True).start()
    return TaskbusClient(site, _in_reactor(start))


if __name__ == "__main__":
    connect().submit_many(sys.argv[2], tuple(sys.argv[3:]), int(sys.argv[1]))
    print("null")
