"""``/metrics``: what the bus has to do and what it has done, for Prometheus."""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from autobahn.wamp.exception import ApplicationError

from taskbus.core.tally import ATTEMPT, CALL, Counts, Tallied
from taskbus.gateway.describe import operation
from taskbus.gateway.health import Parts
from taskbus.gateway.local import is_program_here
from taskbus.gateway.own import Own
from taskbus.gateway.prometheus import (
    CONTENT_TYPE,
    COUNTER,
    GAUGE,
    HISTOGRAM,
    Family,
    Sample,
    exposition,
    histogram,
)
from taskbus.gateway.route import Answer, Bus, Request, Route

log = logging.getLogger(__name__)

_AWAY = "taskbus.error.store_unavailable"

# Further families, as of a feature that counts for itself.
Source = Callable[[], Awaitable[Sequence[Family]]]


class Host(NamedTuple):
    """What this machine tells: of each pool how many workers there are to be and how many take
    jobs; resident bytes by program; what the programs have counted.
    """

    workers: Mapping[str, tuple[int, int]]
    memory: Mapping[str, int]
    tallied: Tallied


def routes(
    own: Own,
    look: Callable[[], Host],
    ready: Callable[[], Awaitable[Parts]],
    is_open: bool,
    sources: Sequence[Source] = (),
) -> list[Route]:
    """``is_open``: whoever is on this machine need not show a key."""

    async def metrics(request: Request, bus: Bus) -> Answer:
        asks: Any = own if is_open and is_program_here(request) else bus
        status = await _status(asks)
        parts = await ready()
        families = [*_of_bus(status), *_of_parts(parts), *_of_host(look())]
        families.append(await _sessions(own))
        for source in sources:
            families += await source()
        return Answer(200, exposition(families), {"Content-Type": CONTENT_TYPE})

    return [Route("GET", "/metrics", metrics, _METRICS, public=is_open)]


_METRICS = operation(
    "everything that is counted, in Prometheus' text format",
    answers={
        200: {"description": "the counts", "content": {"text/plain": {}}},
        403: "a key without the scope metrics",
    },
)


async def webhooks(own: Own) -> list[Family]:
    """A Source: how many endpoints of webhooks there are, by how their deliveries go."""
    counts = dict.fromkeys(("ok", "failing", "disabled"), 0)
    try:
        for one in await own.call("taskbus.hook.list"):
            counts["disabled" if one["disabled"] else "failing" if one["failing"] else "ok"] += 1
    except Exception as error:  # noqa: BLE001 - the other metrics are not to wait for it
        log.info("the endpoints are not told: %s", error)
        counts = {}
    samples = [Sample({"state": state}, count) for state, count in counts.items()]
    return [Family("taskbus_webhook_endpoints", GAUGE, "Endpoints of webhooks", samples)]


async def _status(bus: Any) -> Mapping[str, Any]:
    """Counts of jobs and queues: the router and control decide whether this caller may know them.

    While the store is away there are none.
    """
    try:
        told: Mapping[str, Any] = await bus.call("taskbus.bus.status")
    except ApplicationError as error:
        if error.error != _AWAY:
            raise
        return {"jobs": {}, "queues": None}
    return told


def _of_bus(status: Mapping[str, Any]) -> Iterator[Family]:
    entries = [
        Sample({"queue": queue, "state": state}, count)
        for queue, counts in (status["queues"] or {}).items()
        for state, count in counts.items()
    ]
    yield Family("taskbus_queue_entries", GAUGE, "Entries of each queue in beanstalkd", entries)
    jobs = [Sample({"state": state}, count) for state, count in status["jobs"].items()]
    yield Family("taskbus_jobs", GAUGE, "Jobs in the store, by state", jobs)
    following = [Sample({}, status["followers"])] if "followers" in status else []
    yield Family("taskbus_followers", GAUGE, "Callers that follow jobs or the journal", following)


def _of_parts(parts: Parts) -> Iterator[Family]:
    lines = [Sample({"part": part}, int(is_up)) for part, is_up in parts.items()]
    yield Family("taskbus_up", GAUGE, "Whether each part does its work", lines)


def _of_host(host: Host) -> Iterator[Family]:
    wanted = [Sample({"pool": pool}, count) for pool, (count, _) in host.workers.items()]
    yield Family("taskbus_workers", GAUGE, "Worker processes of each pool", wanted)
    ready = [Sample({"pool": pool}, count) for pool, (_, count) in host.workers.items()]
    yield Family("taskbus_workers_ready", GAUGE, "Those that take jobs", ready)
    memory = [Sample({"program": program}, size) for program, size in host.memory.items()]
    yield Family("taskbus_process_resident_memory_bytes", GAUGE, "Memory of each program", memory)
    of: dict[str, dict[str, Counts]] = {ATTEMPT: {}, CALL: {}}
    for (kind, task), counts in sorted(host.tallied.items()):
        of[kind][task] = counts
    attempts, calls = of[ATTEMPT], of[CALL]
    yield Family(
        "taskbus_attempts_total", COUNTER, "Attempts of jobs that have ended", _outcomes(attempts)
    )
    yield Family(
        "taskbus_attempt_wait_seconds",
        HISTOGRAM,
        "From when a job was due until an attempt began",
        [line for task in attempts for line in histogram({"task": task}, attempts[task].waited)],
    )
    yield Family(
        "taskbus_attempt_seconds", HISTOGRAM, "How long attempts took", _durations(attempts)
    )
    yield Family("taskbus_calls_total", COUNTER, "Foreground calls that ended", _outcomes(calls))
    yield Family("taskbus_call_seconds", HISTOGRAM, "How long they took", _durations(calls))


def _outcomes(tasks: Mapping[str, Counts]) -> list[Sample]:
    return [
        Sample({"task": task, "outcome": outcome}, count)
        for task, counts in tasks.items()
        for outcome, count in counts.outcomes.items()
    ]


def _durations(tasks: Mapping[str, Counts]) -> list[Sample]:
    return [line for task in tasks for line in histogram({"task": task}, tasks[task].took)]


async def _sessions(own: Own) -> Family:
    try:
        lines = [Sample({}, await own.call("wamp.session.count"))]
    except Exception:  # noqa: BLE001 - taskbus_up tells that the router is away
        lines = []
    return Family("taskbus_router_sessions", GAUGE, "Sessions on the router", lines)
