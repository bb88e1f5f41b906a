"""The gateway program."""

import time
from functools import partial
from typing import Any

from twisted.internet import reactor as installed

from taskbus.adapter.host import Programs, listener
from taskbus.adapter.signing import SigningKeys
from taskbus.adapter.tallies import read_tallies
from taskbus.core.signed import SignedRequests
from taskbus.core.tally import tallied, together
from taskbus.core.throttle import Throttles
from taskbus.gateway import health, incoming, metrics
from taskbus.gateway.feed import Feeds
from taskbus.gateway.follow import Streams
from taskbus.gateway.hooks import routes as hook_routes
from taskbus.gateway.identity import Sessions
from taskbus.gateway.logs import Logs
from taskbus.gateway.openapi import documented
from taskbus.gateway.own import Own
from taskbus.gateway.queue_server import QueueServer
from taskbus.gateway.rest import Rest
from taskbus.gateway.route import Table
from taskbus.gateway.server import Gateway
from taskbus.model.apimap import ApiMap, longest_call
from taskbus.model.settings import Settings
from taskbus.site.checks import NotReady
from taskbus.site.programs import backend_processes
from taskbus.wire import read_api_map, read_secret
from taskbus.wire.serve import GRACE_SECONDS, Ready, serve


def run_gateway(settings: Settings) -> None:
    """The gateway program: HTTP behind the router; ends by a signal. Raises NotReady where there
    is one already: two cannot listen, and the second one's end would be that of the first, too.
    """
    if (pid := listener(settings.gateway_socket)) is not None:
        remedy = f"supervisorctl -c {settings.supervisor_file} restart gateway"
        raise NotReady(f"the gateway runs already, as process {pid}", remedy=remedy)
    reactor: Any = installed
    api = read_api_map(settings)
    ready = Ready(settings.run, "gateway")
    own, feeds = Own(), Feeds()
    programs = _programs(settings, api)
    readiness = health.Readiness(
        reactor, own, lambda: all(ready for _, ready in programs.workers().values())
    )

    def look() -> metrics.Host:
        counted = together(map(tallied, read_tallies(settings.run)))
        return metrics.Host(programs.workers(), programs.memory(), counted)

    routes = [
        *Rest(api).routes(),
        *Streams(reactor, feeds).routes(),
        *Logs(reactor, feeds).routes(),
        *health.routes(readiness),
        *metrics.routes(
            own,
            look,
            readiness.look,
            is_open=settings.gateway_metrics == "loopback",
            sources=[partial(metrics.webhooks, own)] if settings.webhook_topics else [],
        ),
        *incoming.routes(settings.incoming, own, read_secret, time.time),
        *QueueServer(settings, own).routes(),
        *hook_routes(),
    ]
    gateway = Gateway(
        reactor=reactor,
        settings=settings,
        table=Table(documented(routes)),
        sessions=Sessions(reactor, settings.router_socket, Throttles(time.monotonic)),
        own=own,
        signed=SignedRequests(SigningKeys(settings.signing).token, time.time),
        on_serving=lambda count: ready.say(routes=count),
    )
    gateway.listen()
    patience = longest_call(api.entries.values()) + GRACE_SECONDS
    serve(settings, "gateway", gateway, ready, patience)


def _programs(settings: Settings, api: ApiMap) -> Programs:
    pools = {
        pool.name: [f"{pool.program}-{number:02d}" for number in range(pool.count)]
        for pool in settings.pools
    }
    backends = backend_processes(settings, api)
    workers = [name for names in pools.values() for name in names]
    sockets = {"beanstalkd": settings.queue_socket, "router": settings.router_socket}
    return Programs(settings.run, ["control", "gateway", *backends, *workers], sockets, pools)
