"""Webhooks: the procedures ``taskbus.hook.*``, the WAMP topics that endpoints listen to, and the
journal's news for them; for ``taskbus.edge.control``.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from autobahn.twisted.wamp import Session
from autobahn.wamp.types import PublishOptions, SubscribeOptions
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread

from taskbus.bus.message import Heard
from taskbus.core.permit import Permit
from taskbus.core.webhook_book import Book
from taskbus.core.webhook_desk import OPTIONS, Desk
from taskbus.core.webhook_fan import Fan
from taskbus.core.webhook_feed import Feed
from taskbus.edge.forever import for_ever
from taskbus.edge.request import chosen_job, chosen_states, named, whole
from taskbus.model.access import HOOKS, PUBLISH, SUBMIT
from taskbus.model.errors import InvalidArgument, TaskbusError
from taskbus.model.identity import is_job_id, new_job_id
from taskbus.model.json import check_field
from taskbus.model.options import check_run_at
from taskbus.model.trace import Trace, trace_of_call
from taskbus.model.uri import covers, is_pattern
from taskbus.model.webhook import (
    DISABLED_TOPIC,
    JOB_TOPICS,
    PING,
    Endpoint,
    Event,
    check_client,
    check_data,
    check_event_id,
    check_given_secret,
    check_secrets_overlap,
    check_topic,
    is_exposed,
)
from taskbus.port.clock import Clock

log = logging.getLogger(__name__)

_FEED_SECONDS = 0.5
_LOOK_SECONDS = 1.0
_MOST_LISTED = 1000
# Events of WAMP topics that wait for the store; more of them are dropped, and that is told.
_MOST_UNDER_WAY = 1000


class Parts(NamedTuple):
    """What does the work, each used from threads."""

    book: Book
    desk: Desk
    fan: Fan


class Hooks:
    """The service."""

    def __init__(
        self,
        reactor: Any,
        parts: Parts,
        clock: Clock,
        exposed: Sequence[str],
        notify_topic: str,
        permit: Callable[[Any], Permit],
    ) -> None:
        self._reactor = reactor
        self._book, self._desk, self._fan = parts
        self._clock = clock
        self._exposed = exposed
        self._notify = notify_topic
        self._permit = permit
        self._session: Session | None = None
        self._subscribed: dict[str, Any] = {}
        self._under_way = 0
        self._untold: list[dict[str, Any]] = []
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {
            "taskbus.hook.put": self.put,
            "taskbus.hook.get": self.get,
            "taskbus.hook.list": self.list,
            "taskbus.hook.delete": self.delete,
            "taskbus.hook.rotate": self.rotate,
            "taskbus.hook.publish": self.publish,
            "taskbus.hook.ping": self.ping,
            "taskbus.hook.deliveries": self.deliveries,
            "taskbus.hook.delivery": self.delivery,
            "taskbus.hook.replay": self.replay,
        }

    def join(self, session: Session) -> "Deferred[None]":
        """On a new session."""
        self._session = session
        self._subscribed = {}
        untold, self._untold = self._untold, []
        for told in untold:
            self._publish_disabled(told)
        if self._exposed and not self._looks.running:
            self._looks.start(_LOOK_SECONDS, now=False)
        return succeed(None)

    def leave(self) -> None:
        """The session is gone."""
        self._session = None
        self._subscribed = {}

    def put(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``put(client, url= or call=, topics=, filter={}, ordered=False, description=, secret=)``
        -> the endpoint, with ``new``, and with its ``secret`` where that was made just now.
        """
        request = named(("client", *OPTIONS), args, kwargs)
        client = check_client(request.pop("client", None))
        permit = self._permit(details)

        def require(endpoint: Endpoint) -> None:
            for nth, topic in enumerate(endpoint.topics):
                permit.require(HOOKS, topic, f"topics[{nth}]")
            if endpoint.call is not None:
                permit.require(SUBMIT, endpoint.call, "call")

        return deferToThread(self._desk.put, client, request, _may(permit), require)

    def get(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``get(client)`` -> the endpoint, without its secrets."""
        client, may = self._chosen(details, named(("client",), args, kwargs))
        return deferToThread(lambda: self._desk.told(self._desk.get(client, may)))

    def list(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``list()`` -> the endpoints that the caller may manage."""
        named((), args, kwargs)
        return deferToThread(self._desk.listed, _may(self._permit(details)))

    def delete(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``delete(client)``."""
        client, may = self._chosen(details, named(("client",), args, kwargs))
        return deferToThread(self._desk.delete, client, may)

    def rotate(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``rotate(client, secret=, overlap=86400)`` -> ``{"secret": the new one, ...}``."""
        request = named(("client", "secret", "overlap"), args, kwargs)
        client, may = self._chosen(details, request)
        given = check_given_secret(request.get("secret"))
        overlap = check_secrets_overlap(request.get("overlap"))

        def work() -> dict[str, Any]:
            secret, endpoint = self._desk.rotate(client, given, overlap, may)
            return {**endpoint.told(), "secret": secret}

        return deferToThread(work)

    def publish(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``publish(topic, data={}, id=)`` -> ``{"id": ..., "deliveries": [job ids]}``, stored.

        An event with an id of its own that is sent again is not delivered again.
        """
        request = named(("topic", "data", "id"), args, kwargs)
        self._permit(details).require(PUBLISH, request.get("topic"), "topic")
        topic = check_topic(request.get("topic"), self._exposed)
        data = check_data({} if request.get("data") is None else request["data"])
        is_named = request.get("id") is not None
        id_ = check_event_id(request["id"]) if is_named else f"evt_{new_job_id()}"
        event = Event(id_, topic, topic, self._clock(), data)
        return deferToThread(self._send, event, is_named, trace_of_call(details.transaction_hash))

    def ping(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``ping(client)`` -> ``{"id": ..., "deliveries": [job id]}``: an event for this endpoint
        alone, which is tried once, and at once. Where that succeeds, what has waited goes on.
        """
        client, may = self._chosen(details, named(("client",), args, kwargs))
        event = Event(f"ping_{new_job_id()}", PING, PING, self._clock(), {"client": client})

        def work() -> dict[str, Any]:
            endpoint = self._desk.get(client, may)._replace(ordered=False)
            ids = self._fan.send(event, [endpoint], is_ping=True)
            return {"id": event.id, "deliveries": ids}

        return deferToThread(work)

    def deliveries(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``deliveries(client, state=, before=, limit=100)`` -> what was sent, the newest first."""
        request = named(("client", "state", "before", "limit"), args, kwargs)
        client, may = self._chosen(details, request)
        states, before = chosen_states(request.get("state")), request.get("before")
        if before is not None and not is_job_id(before):
            raise InvalidArgument("before", before, "not a delivery", "send the last id you have")
        limit = whole(request, "limit", 1, _MOST_LISTED, 100)
        return deferToThread(self._desk.deliveries, client, states, before or "", limit, may)

    def delivery(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``delivery(client, job)`` -> one of them, with its ``attempts``."""
        request = named(("client", "job"), args, kwargs)
        client, may = self._chosen(details, request)
        return deferToThread(self._desk.delivery, client, chosen_job(request), may)

    def replay(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``replay(client, job=)`` or ``replay(client, since=)`` -> the ids of those that are sent
        again, having failed: one, or all since a time.
        """
        request = named(("client", "job", "since"), args, kwargs)
        client, may = self._chosen(details, request)
        who = str(details.caller_authid or "unknown")
        since = request.get("since")
        if since is None:
            return deferToThread(self._desk.replay, client, chosen_job(request), who, may)
        if request.get("job") is not None:
            raise InvalidArgument("since", since, "beside a job", "send one of the two")
        try:
            earliest = check_run_at(since)
        except InvalidArgument as error:
            raise InvalidArgument("since", since, "not a time", error.about["remedy"]) from None
        return deferToThread(self._desk.replay_since, client, earliest, who, may)

    def disable(self, endpoint: Endpoint, why: str) -> None:
        """For the feed's thread: this one is sent nothing more."""
        disabled = self._desk.disable(endpoint.name, why)
        if disabled is None or disabled.disabled is None:
            return
        log.warning("endpoint %s is disabled: %s", endpoint.name, why)
        told = {"client": endpoint.name, **disabled.disabled}
        self._reactor.callFromThread(self._publish_disabled, told)
        if is_exposed(DISABLED_TOPIC, self._exposed):
            at = disabled.disabled["at"]
            event = Event(f"evt_{new_job_id()}", DISABLED_TOPIC, DISABLED_TOPIC, at, told)
            self._fan.send(event, self._fan.wanted_by(event))

    def _send(self, event: Event, is_named: bool, trace: Trace | None) -> dict[str, Any]:
        ids = self._fan.send(event, self._fan.wanted_by(event), is_named, trace)
        return {"id": event.id, "deliveries": ids}

    def _chosen(
        self, details: Any, request: Mapping[str, Any]
    ) -> tuple[str, Callable[[Endpoint], bool]]:
        return check_client(request.get("client")), _may(self._permit(details))

    def _publish_disabled(self, told: dict[str, Any]) -> None:
        if self._session is None or not self._session.is_attached():
            self._untold.append(told)
            return
        self._session.publish(DISABLED_TOPIC, told, options=PublishOptions(acknowledge=False))

    @inlineCallbacks
    def _look(self) -> Any:
        """Listen to the exposed WAMP topics that some endpoint wants, and to no others."""
        session = self._session
        if session is None or not session.is_attached():
            return
        try:
            endpoints = yield deferToThread(self._book.endpoints)
        except TaskbusError as error:
            log.warning("the endpoints cannot be looked at: %s", error)
            return
        topics = {topic for one in endpoints.values() for topic in one.topics}
        wanted = {
            pattern
            for pattern in self._exposed
            if not pattern.startswith(JOB_TOPICS)
            and pattern != DISABLED_TOPIC
            and any(covers(pattern, topic) or pattern == topic for topic in topics)
        }
        for pattern in wanted - self._subscribed.keys():
            yield self._listen(session, pattern)
        for pattern in self._subscribed.keys() - wanted:
            subscription = self._subscribed.pop(pattern)
            if subscription is not None and session.is_attached():
                yield maybeDeferred(subscription.unsubscribe).addErrback(lambda _: None)

    @inlineCallbacks
    def _listen(self, session: Session, pattern: str) -> Any:
        prefix = is_pattern(pattern)
        options = SubscribeOptions(match="prefix" if prefix else "exact")
        topic = pattern[:-1] if prefix else pattern
        # Remembered where it is refused, too: once is enough to be told of that.
        self._subscribed[pattern] = None
        try:
            subscription = yield session.subscribe(self._heard, topic, options=options)
        except Exception as error:  # noqa: BLE001 - the other topics are wanted all the same
            log.warning(
                "webhooks do not hear what is published on %s: %s; send such events to "
                "taskbus.hook.publish", pattern, error,
            )  # fmt: skip
        else:
            if self._session is session:
                self._subscribed[pattern] = subscription

    def _heard(self, it: Heard) -> None:
        """An event of a WAMP topic."""
        # Each delivery is a job, of which the topic of new jobs tells in turn.
        if it.topic == self._notify:
            return
        data = {"args": it.args, "kwargs": it.kwargs}
        event = Event(f"pub_{it.publication}", it.topic, it.topic, self._clock(), data)
        if self._under_way >= _MOST_UNDER_WAY:
            log.warning("event %s of %s is dropped: too many at once", event.id, event.topic)
            return
        self._under_way += 1
        trace = trace_of_call(it.transaction_hash)
        deferToThread(self._pass_on, event, trace).addErrback(self._missed, event).addBoth(
            self._passed
        )

    def _pass_on(self, event: Event, trace: Trace | None) -> None:
        check_field("data", event.data)
        endpoints = self._fan.wanted_by(event)
        if endpoints:
            self._fan.send(event, endpoints, trace=trace)

    def _missed(self, failure: Any, event: Event) -> None:
        log.warning("event %s of %s is lost: %s", event.id, event.topic, failure.value)

    def _passed(self, _result: Any) -> None:
        self._under_way -= 1


def run_feed(feed: Feed, fan: Fan) -> None:
    """The feed's thread."""
    pause = threading.Event()
    is_new = True

    def step() -> None:
        nonlocal is_new
        if is_new:
            fan.resume()
            is_new = False
        feed.run()
        pause.wait(_FEED_SECONDS)

    for_ever("webhooks", step)


def _may(permit: Permit) -> Callable[[Endpoint], bool]:
    """Whose endpoints: of all topics of which the caller may use."""
    return lambda endpoint: all(permit.allows(HOOKS, topic) for topic in endpoint.topics)
