"""The endpoints as they are registered, and as they do: for those who deliver to them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taskbus.core.cached import Cached
from taskbus.core.limit import Lane
from taskbus.core.webhook_health import Health
from taskbus.model.errors import TaskFailure
from taskbus.model.job import Job
from taskbus.model.json import load
from taskbus.model.webhook import DELIVER, DISABLED, Endpoint
from taskbus.port.clock import Clock
from taskbus.port.records import Records

ENDPOINT, HEALTH = "webhook", "webhook-health"

_LANE = f"{DELIVER}#"


class Book:
    """In memory; a change is known within a second, and at once where ``drop`` tells of it."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._clock = clock
        self._endpoints = Cached(records, ENDPOINT, clock, Endpoint.of)
        self._healths = Cached(records, HEALTH, clock, Health.of)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """By name."""
        return self._endpoints.all()

    def healths(self) -> Mapping[str, Health]:
        """Of those whose last delivery failed."""
        return self._healths.all()

    def drop(self) -> None:
        """Something has changed."""
        self._endpoints.drop()
        self._healths.drop()

    def enclose(self, job: Job) -> dict[str, Any] | None:
        """What a delivery needs that is not stored with its job; None for other jobs. Raises
        TaskFailure where there is nobody to deliver to.
        """
        if job.uri != DELIVER:
            return None
        name = load(job.kwargs)["endpoint"]
        # As it is now: who has just changed it expects that of the next event.
        self._endpoints.drop()
        endpoint = self.endpoints().get(name)
        if endpoint is None or endpoint.url is None:
            raise TaskFailure(f"there is no endpoint {name} any more", error_uri=DISABLED)
        if endpoint.disabled is not None:
            why = endpoint.disabled["reason"]
            raise TaskFailure(f"the endpoint {name} is disabled: {why}", error_uri=DISABLED)
        return {"url": endpoint.url, "secrets": endpoint.keys(self._clock())}

    def valve(self, lane: Lane) -> Lane:
        """The lane of an endpoint: closed while it is left alone, then one delivery at a time until
        one succeeds; of other lanes, as it is.
        """
        if not lane.name.startswith(_LANE):
            return lane
        name = lane.name[len(_LANE) :]
        endpoint, health = self.endpoints().get(name), self.healths().get(name)
        if endpoint is None or endpoint.disabled is not None:
            return lane  # Those that wait end at once.
        if health is not None and health.pauses:
            if self._clock() < health.closed_until:
                until = datetime.fromtimestamp(health.closed_until, UTC).strftime("%H:%M:%S UTC")
                rule = f"its endpoint fails, looked at again at {until}"
                return lane._replace(places=0, rule=rule)
            return lane._replace(places=1, rule="its endpoint has failed, 1 at a time")
        return lane._replace(places=1, rule="in order") if endpoint.ordered else lane
