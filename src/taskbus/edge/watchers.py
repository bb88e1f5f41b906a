"""Who watches: callers that wait for a job, and topics that have a subscriber."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskbus.model.job import FINAL, JOB_TOPIC, Event
from taskbus.model.json import load
from taskbus.port.store import Entry

_FINAL = frozenset(state.value for state in FINAL)

Watcher = Callable[[Event], None]


class Watchers:
    """Callers' side: a function called with each event of one job."""

    def __init__(self) -> None:
        self._of: dict[str, list[Watcher]] = {}

    def add(self, job: str, watcher: Watcher) -> None:
        """Call ``watcher`` with every event of the job from now on."""
        self._of.setdefault(job, []).append(watcher)

    def remove(self, job: str, watcher: Watcher) -> None:
        """Not any more."""
        watchers = self._of.get(job, [])
        if watcher in watchers:
            watchers.remove(watcher)
        if not watchers:
            self._of.pop(job, None)

    def __bool__(self) -> bool:
        return bool(self._of)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Tell those whom it concerns."""
        for _, event in entries:
            for watcher in tuple(self._of.get(event.job, ())):
                watcher(event)


def is_last(event: Event) -> bool:
    """Whether the job has ended with this event."""
    return event.kind in _FINAL


def told(event: Event) -> dict[str, Any]:
    """An event as clients see it."""
    return {
        "job": event.job,
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "data": load(event.data),
    }


class Topics:
    """Subscribers' side: publishes an event only where the router has a subscriber for it.

    A subscription becomes known a moment after it was made; ``catch_up`` is then called with the
    job whose newest events may have been missed. Subscribers tell doubles by sequence number.
    """

    def __init__(self, notify_topic: str, catch_up: Callable[[str], None]) -> None:
        self._notify = notify_topic
        self._catch_up = catch_up
        self._publish: Callable[[str, Mapping[str, Any]], None] | None = None
        self._subscriptions: dict[int, tuple[str, str]] = {}
        self._exact: set[str] = set()
        self._everything = False

    def attach(self, publish: Callable[[str, Mapping[str, Any]], None] | None) -> None:
        """On a new session nothing is known of subscriptions; None when there is no session."""
        self._publish = publish
        self._subscriptions.clear()
        self._index()

    def created(self, subscription: int, uri: str, match: str) -> None:
        """A topic (or prefix, or wildcard) has its first subscriber."""
        if subscription in self._subscriptions:
            return
        self._subscriptions[subscription] = (uri, match)
        self._index()
        if match == "exact" and uri.startswith(JOB_TOPIC):
            self._catch_up(uri[len(JOB_TOPIC) :])

    def deleted(self, subscription: int) -> None:
        """The last subscriber has left."""
        if self._subscriptions.pop(subscription, None):
            self._index()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Publish what somebody watches."""
        for _, event in entries:
            if self._everything or JOB_TOPIC + event.job in self._exact:
                self.publish(event)
            if event.seq == 1 and (self._everything or self._notify in self._exact):
                self._send(self._notify, {"type": "add", "job": event.job})

    def publish(self, event: Event) -> None:
        """Publish one event of a job."""
        self._send(JOB_TOPIC + event.job, told(event))

    def _index(self) -> None:
        # The router knows many subscriptions that are none of ours.
        ours = [one for one in self._subscriptions.values() if self._may_concern(*one)]
        self._exact = {uri for uri, match in ours if match == "exact"}
        self._everything = any(match != "exact" for _, match in ours)

    def _may_concern(self, uri: str, match: str) -> bool:
        if match == "exact":
            return uri == self._notify or uri.startswith(JOB_TOPIC)
        if match == "prefix":
            return any(
                topic.startswith(uri) or uri.startswith(topic)
                for topic in (self._notify, JOB_TOPIC)
            )
        return True

    def __bool__(self) -> bool:
        return self._everything or bool(self._exact)

    def _send(self, topic: str, body: Mapping[str, Any]) -> None:
        if self._publish is not None:
            self._publish(topic, body)
