"""Control: the procedures ``taskbus.job.*`` and ``taskbus.bus.*``, the relay and the chores."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import blockingCallFromThread, deferToThread

from taskbus.bus.calls import Calls
from taskbus.bus.message import Endpoint, answer, refusal
from taskbus.bus.session import register_all
from taskbus.core.chores import Chores
from taskbus.core.follow import FollowUps
from taskbus.core.labels import Label
from taskbus.core.permit import Permit, jobs_within
from taskbus.core.relay import Relay
from taskbus.core.retention import Retention
from taskbus.core.untraced import NO_SPANS
from taskbus.edge.access import Access
from taskbus.edge.batch import Batch
from taskbus.edge.flows import Flows
from taskbus.edge.following import Following
from taskbus.edge.forever import for_ever
from taskbus.edge.hooks import Hooks
from taskbus.edge.outflow import Outflow
from taskbus.edge.remedies import Remedies
from taskbus.edge.request import (
    chosen_job,
    chosen_states,
    chosen_tag,
    chosen_uris,
    named,
    wait_seconds,
    whole,
)
from taskbus.edge.watchers import Topics, Watchers, is_last, told
from taskbus.model.access import READ
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import (
    InvalidArgument,
    Stopped,
    TaskbusError,
    WaitTimeout,
)
from taskbus.model.identity import is_job_id
from taskbus.model.job import FINAL, Event, Job, State
from taskbus.model.json import load
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.keys import Keys
from taskbus.port.links import Links
from taskbus.port.queue import Queue
from taskbus.port.spans import Spans
from taskbus.port.store import Entry, Store, existing

log = logging.getLogger(__name__)

_MOST_LISTED = 1000
# Characters of JSON. With what stands around them a thousand events fit into a browser's MiB.
_LARGEST_PAGE = 700_000
# Characters of an error's message that a list of jobs has, for the same reason.
_LISTED_MESSAGE = 200
_LAST_BYTE = 2**53
_LOOK_SECONDS = 1.0
_CATCH_UP_SECONDS = 5.0


class Control:
    """What every caller may ask about jobs, whatever namespace they belong to."""

    def __init__(
        self,
        reactor: Any,
        api: ApiMap,
        store: Store,
        keys: Keys,
        links: Links,
        queue: Queue,
        batch: Batch,
        bell: Bell,
        clock: Clock,
        notify_topic: str,
        retention: Retention,
        access: Access,
        hooks: Hooks,
        on_serving: Callable[[int], None],
        spans: Spans = NO_SPANS,
        features: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ) -> None:
        """``features``: further procedures, each called with the call's details and arguments."""
        self.calls = Calls(reactor)
        self._access = access
        self._hooks = hooks
        self._reactor = reactor
        self._store = store
        self._links = links
        self._queue = queue
        self._clock = clock
        self._api = api
        self._flows = Flows(api, clock, batch, access.permit, spans)
        self._features = features
        follow_ups = FollowUps(store, links, clock, retention)
        self._remedies = Remedies(
            store, keys, queue, bell, clock, retention, follow_ups, access.permit
        )
        self._on_serving = on_serving
        self._watchers = Watchers()
        self._waits: set[Deferred[None]] = set()
        self._topics = Topics(notify_topic, self._catch_up)
        self._watcher_came = threading.Event()
        self._outflow = Outflow()
        self._following = Following(store, self._outflow, self._watcher_came.set, access.permit)

    @inlineCallbacks
    def join(self, session: Session) -> Any:
        """Register everything on a new session, and learn who watches what."""
        transport: Any = session._transport
        self._outflow.attach(transport.transport)
        yield self._follow_subscriptions(session)
        yield self._access.join(session)
        yield self._hooks.join(session)
        endpoints = {
            **self._features,
            **self._flows.endpoints(),
            "taskbus.job.get": self.get,
            "taskbus.job.list": self.list,
            "taskbus.job.events": self.events,
            "taskbus.job.wait": self.wait,
            **self._following.endpoints(),
            **self._remedies.endpoints(),
            **self._access.endpoints(),
            **self._hooks.endpoints(),
            "taskbus.bus.status": self.status,
            "taskbus.bus.ready": self.ready,
        }
        registrations = yield register_all(
            session, {uri: self.calls.watch(_endpoint(call)) for uri, call in endpoints.items()}
        )
        self._on_serving(len(endpoints))
        log.info("serving %d URIs", len(endpoints))
        return registrations

    def leave(self) -> None:
        """See Service. Who waited cannot be reached any more."""
        self._topics.attach(None)
        self._access.leave()
        self._outflow.attach(None)
        self._hooks.leave()
        # Not at once: the session is about to close, and does not yet take answers in silence.
        self._reactor.callLater(0, self._end_waits)

    def retire(self) -> None:
        """See Service."""
        self._end_waits()

    def close(self) -> bool:
        """See Service."""
        return True

    def get(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``get(job, most=)`` -> everything known of it.

        ``most``: what of its args, kwargs, details and result does not fit into so many bytes of
        JSON is None, and ``left_out`` tells how long each of that is.
        """
        request = named(("job", "most"), args, kwargs)
        most = whole(request, "most", 0, _LAST_BYTE, _LAST_BYTE)
        return deferToThread(self._get, chosen_job(request), most, self._access.permit(details))

    def list(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``list(state=, uri=, before=, limit=100, tag=)`` -> jobs, newest first.

        ``state``: one state or a list of them; ``uri`` may end in ``.*``; ``before``: the id of
        the last job of the previous page. Of an error there are its URI and the beginning of its
        message.
        """
        request = named(("state", "uri", "before", "limit", "tag"), args, kwargs)
        states, tag = chosen_states(request.get("state")), chosen_tag(request.get("tag"))
        uri, before = chosen_uris(request.get("uri")), request.get("before")
        if before is not None and not is_job_id(before):
            raise InvalidArgument("before", before, "not a job id", "send the last id you have")
        limit = whole(request, "limit", 1, _MOST_LISTED, 100)
        patterns = self._access.permit(details).within(READ, uri)

        def read() -> Any:
            found = jobs_within(self._store, patterns, states, before or "", limit, tag)
            return [_listed(job) for job in found]

        return deferToThread(read)

    def events(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``events(job, after=0, limit=1000)`` -> the job's journal from ``seq > after``.

        Large events make a page shorter; after the last event it is empty.
        """
        request = named(("job", "after", "limit"), args, kwargs)
        job = chosen_job(request)
        after = whole(request, "after", 0, 2**31, 0)
        limit = whole(request, "limit", 1, _MOST_LISTED, _MOST_LISTED)
        permit = self._access.permit(details)

        def read() -> Any:
            permit.require_job(READ, existing(self._store, job))
            return [told(event) for event in _page(self._store.events(job, after, limit))]

        return deferToThread(read)

    @inlineCallbacks
    def wait(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``wait(job, timeout=)`` -> the task's result or its error, as if it had been called.

        A caller that asks for progressive results gets the job's events as they happen.
        """
        request = named(("job", "timeout"), args, kwargs)
        job_id = chosen_job(request)
        timeout = wait_seconds(request.get("timeout"))
        permit = self._access.permit(details)
        permit.require_job(READ, (yield deferToThread(existing, self._store, job_id)))
        deadline = self._reactor.seconds() + timeout
        while True:
            ended = self._ended(job_id, timeout, details.progress)
            try:
                job = yield deferToThread(existing, self._store, job_id)
                if job.state not in FINAL:
                    yield ended
            finally:
                ended.addErrback(lambda _: None)
                ended.cancel()
            job, result = yield deferToThread(self._outcome, job_id)
            if job.state in FINAL:
                break
            # That was an earlier end: it has been replayed since, or just now.
            timeout = max(0.0, deadline - self._reactor.seconds())
        if job.state is State.SUCCEEDED:
            return answer(result)
        raise refusal(job.error)

    def status(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``status()`` -> jobs in each state, and the counts of all queues together and of each one
        that workers take jobs from (None when the queue server is down), and how many follow.
        """
        named((), args, kwargs)
        followers = len(self._following)

        def read() -> Any:
            counts = self._store.counts()
            told: dict[str, Any] = {state.value: counts.get(state, 0) for state in State}
            told = {"jobs": told, "queue": None, "queues": None, "followers": followers}
            try:
                told["queues"] = {
                    one: self._queue.stats(one)._asdict() for one in sorted(self._api.queues)
                }
                told["queue"] = self._queue.stats()._asdict()
            except TaskbusError:
                pass  # That it is down is told by None.
            return told

        return deferToThread(read)

    def ready(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``ready()`` -> ``{"store": bool, "queue": bool}``: whether each can be used now."""
        named((), args, kwargs)

        def look() -> dict[str, bool]:
            return {
                "store": _answers(self._store.next_due),
                "queue": _answers(self._queue.stats),
            }

        return deferToThread(look)

    def relay(self, after: int, entries: Sequence[Entry]) -> None:
        """New entries of the journal, all since the position ``after``: for the relay's thread,
        which is held up until the router has taken what they have become.
        """
        labels = self._following.labels(entries)
        deliver: Callable[..., Any] = self._deliver
        blockingCallFromThread(self._reactor, deliver, after, entries, labels)

    def _deliver(
        self, after: int, entries: Sequence[Entry], labels: Mapping[str, Label] | None
    ) -> "Deferred[None]":
        self._watchers.deliver(entries)
        self._topics.deliver(entries)
        self._following.deliver(after, entries, labels)
        return self._outflow.drained()

    def is_watched(self) -> bool:
        """Whether anybody would notice new entries."""
        return bool(self._watchers) or bool(self._topics) or len(self._following) > 0

    def await_watcher(self, seconds: float) -> bool:
        """Another thread waits here for somebody to watch; False when nobody does by then."""
        self._watcher_came.clear()
        return self.is_watched() or self._watcher_came.wait(seconds)

    def _catch_up(self, job: str) -> None:
        """Publish a job's newest events once more, for a subscriber we just heard of."""

        def publish(events: Sequence[Event]) -> None:
            since = self._clock() - _CATCH_UP_SECONDS
            for event in events:
                if event.at >= since:
                    self._topics.publish(event)

        def missed(failure: Any) -> None:
            log.warning("job %s: its newest events were not repeated: %s", job, failure.value)

        if is_job_id(job):
            deferToThread(self._store.events, job).addCallbacks(publish, missed)

    def _ended(
        self, job: str, timeout: float, progress: Callable[..., None] | None
    ) -> "Deferred[None]":
        """Fires when the journal says that the job has ended; passes its events on till then."""

        def watch(event: Event) -> None:
            if is_last(event):
                done.callback(None)
            elif progress is not None:
                progress(told(event))

        def over(result: Any) -> Any:
            self._waits.discard(done)
            self._watchers.remove(job, watch)
            if timer.active():
                timer.cancel()
            return result

        def late() -> None:
            done.errback(
                WaitTimeout(f"job {job} has not ended within {timeout:g} seconds", field="timeout")
            )

        done: Deferred[None] = Deferred()
        timer = self._reactor.callLater(timeout, late)
        self._watchers.add(job, watch)
        self._watcher_came.set()
        self._waits.add(done)
        done.addBoth(over)
        return done

    def _end_waits(self) -> None:
        for done in tuple(self._waits):
            done.errback(
                Stopped("the bus has stopped waiting; the job goes on", remedy="ask again")
            )
        self._following.end("the bus has stopped; the jobs go on")

    def _outcome(self, job_id: str) -> tuple[Job, str | None]:
        return existing(self._store, job_id), self._store.result(job_id)

    def _get(self, job_id: str, most: int, permit: Permit) -> dict[str, Any]:
        job, result = self._outcome(job_id)
        permit.require_job(READ, job)
        texts = {
            "details": job.details, "args": job.args, "kwargs": job.kwargs, "result": result
        }  # fmt: skip
        return _summary(job) | {
            **_loaded(texts, most),
            "followed_by": [{"job": one.after, "on": one.on} for one in self._links.of([job_id])],
        }

    @inlineCallbacks
    def _follow_subscriptions(self, session: Session) -> Any:
        options = PublishOptions(acknowledge=False)

        def publish(topic: str, body: Mapping[str, Any]) -> None:
            if session.is_attached():
                session.publish(topic, body, options=options)

        def created(found: Mapping[str, Any]) -> None:
            self._topics.created(found["id"], found["uri"], found["match"])
            self._watcher_came.set()

        self._topics.attach(publish)
        # Each tells whose session it was, and what.
        yield session.subscribe(lambda it: created(it.args[1]), "wamp.subscription.on_create")
        yield session.subscribe(
            lambda it: self._topics.deleted(it.args[1]), "wamp.subscription.on_delete"
        )
        known = yield session.call("wamp.subscription.list")
        for ids in known.values():
            for subscription in ids:
                try:
                    found = yield session.call("wamp.subscription.get", subscription)
                except ApplicationError as error:
                    # Its last subscriber has left meanwhile.
                    if error.error != ApplicationError.NO_SUCH_SUBSCRIPTION:
                        raise
                else:
                    created(found)


def run_relay(
    relay: Relay, await_watcher: Callable[[float], bool], await_bell: Callable[[float], None]
) -> None:
    """The relay's thread: look when the bell rings, and from time to time.

    While nobody watches it does not listen to the bell: each ring would take time from the jobs.
    """

    def step() -> None:
        relay.run()
        if await_watcher(_LOOK_SECONDS):
            await_bell(_LOOK_SECONDS)

    for_ever("relay", step)


def run_chores(chores: Chores) -> None:
    """The chores' thread."""
    sleep = threading.Event()
    for_ever("chores", lambda: sleep.wait(chores.run()))


def _endpoint(procedure: Callable[..., Any]) -> Endpoint:
    return lambda call: procedure(call, *call.args, **call.kwargs)


def _answers(look: Callable[[], Any]) -> bool:
    try:
        look()
    except TaskbusError:
        return False
    return True


def _summary(job: Job) -> dict[str, Any]:
    kept = (
        "id", "uri", "priority", "timeout", "retries", "queue",
        "created", "due", "started", "finished", "expires",
    )  # fmt: skip
    shown = {name: getattr(job, name) for name in kept}
    error = None if job.error is None else load(job.error)
    return shown | {
        "state": job.state.value, "attempt": job.attempt, "seq": job.seq,
        "worker": job.worker, "lane": job.lane, "error": error, "tags": load(job.tags),
    }  # fmt: skip


def _listed(job: Job) -> dict[str, Any]:
    summary = _summary(job)
    error = summary["error"]
    if error is None:
        return summary
    message = error["message"][:_LISTED_MESSAGE]
    return summary | {"error": {"error": error["error"], "message": message}}


def _loaded(texts: Mapping[str, str | None], most: int) -> dict[str, Any]:
    """The values of JSON texts, and how long those are for which there is no room any more."""
    values: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    for name, text in texts.items():
        length = len((text or "").encode())
        is_left_out = length > most
        if is_left_out:
            left_out[name] = length
        else:
            most -= length
        values[name] = None if text is None or is_left_out else load(text)
    return values | ({"left_out": left_out} if left_out else {})


def _page(events: Sequence[Event]) -> list[Event]:
    """Their start, as much as one answer may hold; at least one."""
    size = 0
    for count, event in enumerate(events):
        size += len(event.data)
        if size > _LARGEST_PAGE and count:
            return list(events[:count])
    return list(events)
