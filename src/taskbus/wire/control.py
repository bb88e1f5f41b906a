"""The control program."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.threads import blockingCallFromThread

from taskbus.adapter.beanstalkd import BeanstalkdQueue
from taskbus.adapter.doorbell import Door, Doorbell
from taskbus.adapter.process import ProcessLiveness
from taskbus.core.admission import Admission, Sweep
from taskbus.core.chores import Chores
from taskbus.core.follow import Ends, FollowUps
from taskbus.core.forget import forgetting
from taskbus.core.intake import Intake
from taskbus.core.keyring import Keyring
from taskbus.core.numbers import Numbers
from taskbus.core.permit import Permit
from taskbus.core.recovery import Recovery
from taskbus.core.relay import Relay
from taskbus.core.webhook_book import Book
from taskbus.core.webhook_desk import Desk
from taskbus.core.webhook_fan import Fan
from taskbus.core.webhook_feed import Feed
from taskbus.edge.access import Access
from taskbus.edge.api import Api
from taskbus.edge.batch import Batch
from taskbus.edge.control import Control, run_chores, run_relay
from taskbus.edge.enqueue import Enqueue
from taskbus.edge.hooks import Hooks, Parts, run_feed
from taskbus.edge.php import Php
from taskbus.edge.queue_server import QueueServer
from taskbus.model.apimap import ApiMap
from taskbus.model.job import Submission
from taskbus.model.settings import Settings
from taskbus.port.bell import Bell
from taskbus.port.queue import Queue
from taskbus.port.sides import Sides
from taskbus.task.reports import report
from taskbus.wire import followed_map, make_sides, make_spans, read_api_map, retention_of
from taskbus.wire.serve import GRACE_SECONDS, Ready, serve


def run_control(settings: Settings) -> None:
    """The control program: ``taskbus.job.*``, relay and chores; ends by a signal."""
    reactor: Any = installed
    sides = make_sides(settings)
    store, keys, links, limits = sides.store, sides.keys, sides.links, sides.limits
    retention = retention_of(settings)
    queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)
    bell = Doorbell(settings.doorbell)
    ready = Ready(settings.run, "control")
    api = read_api_map(settings)
    access = Access(
        reactor, Keyring(sides.records, time.time), api, store, time.time, settings.notify_topic
    )
    batch = Batch(reactor, Intake(store, keys, queue, bell))
    spans = make_spans("control")
    hooks, book = _webhooks(settings, sides, api, queue, bell, batch, access.permit)
    features: dict[str, Callable[..., Any]] = {
        **Api(api, access.permit).endpoints(),
        **Php(api, Enqueue(api, time.time, batch, spans)).endpoints(),
    }
    if settings.queue_server:
        queue_server = QueueServer(
            settings, api, time.time, store, batch,
            Numbers(sides.records, "queue_server"), access.permit, report,
        )  # fmt: skip
        features |= queue_server.endpoints()
    control = Control(
        reactor=reactor,
        api=api,
        store=store,
        keys=keys,
        links=links,
        queue=queue,
        batch=batch,
        bell=bell,
        clock=time.time,
        notify_topic=settings.notify_topic,
        retention=retention,
        access=access,
        hooks=hooks,
        on_serving=lambda count: ready.say(uris=count),
        spans=spans,
        features=features,
    )
    relay = Relay(store, control.relay, control.is_watched)
    run_relay(relay, control.await_watcher, Door(settings.doorbell).wait)
    recovery = Recovery(
        store, sides.backlog, queue, ProcessLiveness(), time.time, settings.worker_ttr,
        retention,
    )  # fmt: skip
    ends = Ends(FollowUps(store, links, time.time, retention), store, queue)
    forget = forgetting(store, keys, sides.expiry, time.time)
    admission = Admission(store, limits, time.time, followed_map(settings), "chores", book.valve)
    sweep = Sweep(admission, limits, queue, time.time)
    others = (*recovery.chores(), *ends.chores(), *sweep.chores(), *forget)
    run_chores(Chores(store, queue, time.time, *others))

    serve(settings, "control", control, ready, GRACE_SECONDS)


def _webhooks(
    settings: Settings,
    sides: Sides,
    api: ApiMap,
    queue: Queue,
    bell: Bell,
    batch: Batch,
    permit: Callable[[Any], Permit],
) -> tuple[Hooks, Book]:
    """The webhooks' part of control; its thread runs where some topic is exposed."""
    reactor: Any = installed
    exposed, clock = settings.webhook_topics, time.time
    store, links, records = sides.store, sides.links, sides.records

    def accept(submissions: Sequence[Submission]) -> list[str]:
        ids: list[str] = blockingCallFromThread(reactor, batch.accept, submissions)
        return ids

    book = Book(records, clock)
    desk = Desk(records, store, queue, bell, book, api, clock, exposed)
    follow_ups = FollowUps(store, links, clock, retention_of(settings))
    fan = Fan(api, book, store, queue, follow_ups, clock, accept)
    hooks = Hooks(reactor, Parts(book, desk, fan), clock, exposed, settings.notify_topic, permit)
    if exposed:
        patience = settings.webhook_patience
        feed = Feed(store, links, records, book, fan, clock, exposed, patience, hooks.disable)
        reactor.callWhenRunning(run_feed, feed, fan)
    return hooks, book
