"""The backend program."""

import sys
import time
from typing import Any

from twisted.internet import reactor as installed

from taskbus.adapter.beanstalkd import BeanstalkdQueue
from taskbus.adapter.doorbell import Doorbell
from taskbus.adapter.process import ProcessLiveness
from taskbus.bus.calls import Calls
from taskbus.core.intake import Intake
from taskbus.core.promote import Keeper
from taskbus.edge.backend import Backend
from taskbus.edge.batch import Batch
from taskbus.edge.foreground import Foreground
from taskbus.model.apimap import SERVED, longest_call
from taskbus.model.errors import ConfigError
from taskbus.model.settings import Settings
from taskbus.wire import make_sides, make_spans, read_api_map, retention_of, tally_of
from taskbus.wire.serve import GRACE_SECONDS, Ready, serve


def run_backend(settings: Settings, namespace: str) -> None:
    """The backend program of one namespace; ends by a signal."""
    reactor: Any = installed
    api = read_api_map(settings)
    if not api.below(namespace, SERVED):
        raise ConfigError(
            str(settings.api_map),
            None,
            f"no entry below the namespace {namespace!r}",
            f"it has {', '.join(api.namespaces(SERVED)) or 'no entries'}",
        )
    sys.path.insert(0, str(settings.tasks))
    sides = make_sides(settings)
    queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)
    bell = Doorbell(settings.doorbell)
    intake = Intake(sides.store, sides.keys, queue, bell)
    ready = Ready(settings.run, f"backend-{namespace}")
    batch, calls = Batch(reactor, intake), Calls(reactor)
    spans = make_spans("backend")
    keeper = Keeper(
        sides.store,
        ProcessLiveness(),
        bell,
        time.time,
        time.monotonic,
        settings.worker_ttr,
        retention_of(settings),
    )
    foreground = Foreground(
        reactor=reactor,
        api=api,
        entries=api.below(namespace, SERVED),
        batch=batch,
        keeper=keeper,
        calls=calls,
        clock=time.time,
        threads=settings.backend_threads,
        spans=spans,
        tally=tally_of(settings, f"backend-{namespace}", time.time),
    )
    backend = Backend(
        api=api,
        namespace=namespace,
        batch=batch,
        foreground=foreground,
        calls=calls,
        clock=time.time,
        on_serving=lambda count: ready.say(uris=count),
        spans=spans,
    )
    patience = longest_call(api.below(namespace, SERVED)) + GRACE_SECONDS
    serve(settings, "backend", backend, ready, patience)
