"""The only file that names concrete adapters: settings in, a running program out."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskbus.model.apimap import ApiMap, longest_call, parse_api_map
from taskbus.model.builtin import built_in
from taskbus.model.errors import ConfigError, NotRunnable, TaskFailure, UnknownUri
from taskbus.model.http_target import HttpTarget
from taskbus.model.identity import is_job_id
from taskbus.model.incoming import read_secrets
from taskbus.model.job import Event, Job, Submission
from taskbus.model.located import LocatedToml
from taskbus.model.settings import WORKER, Pool, Settings, parse_settings
from taskbus.port.bell import Bell
from taskbus.port.queue import Queue
from taskbus.port.sides import Sides
from taskbus.port.store import Store, existing

if TYPE_CHECKING:
    from taskbus.adapter.host import Programs
    from taskbus.bus.program import Service
    from taskbus.core.permit import Permit
    from taskbus.core.retention import Retention
    from taskbus.core.tally import Tally
    from taskbus.core.webhook_book import Book
    from taskbus.edge.batch import Batch
    from taskbus.edge.hooks import Hooks
    from taskbus.port.spans import Spans
    from taskbus.worker.parent import Worker

log = logging.getLogger(__name__)

# Less than what supervisord adds to the longest call.
_GRACE_SECONDS = 5.0


def read_settings(file: Path) -> Settings:
    """The settings in a file; raises ConfigError."""
    return parse_settings(read_text(file), file)


def read_api_map(settings: Settings, own_queues: Collection[str] | None = None) -> ApiMap:
    """The API map that the settings name, with the bus' own tasks, or only with those of these
    queues; raises ConfigError.
    """
    file = settings.api_map
    own = [entry for entry in built_in(settings) if own_queues is None or entry.queue in own_queues]
    site = str(settings.site)
    return parse_api_map(read_text(file), str(file), settings.queues, own, site)


def check_targets(settings: Settings, api: ApiMap) -> None:
    """Load every python task, look for every exec program, and read the files that http targets
    name; raises ConfigError.
    """
    from taskbus.handler import build

    sys.path.insert(0, str(settings.tasks))
    for argv in settings.queue_server_exec:
        if missing := _missing_program(settings, argv[0]):
            toml = LocatedToml(read_text(settings.file), str(settings.file))
            problem, remedy = f"queue_server.exec: {missing}", "correct its name, or install it"
            raise toml.error(("queue_server", "exec"), problem, remedy)
    for entry in api.entries.values():
        problem = ""
        if entry.kind == "python":
            try:
                build(entry.handler, None)
            except TaskFailure as error:
                problem = error.message
        elif entry.kind == "exec":
            problem = _missing_program(settings, entry.target[0])
        elif isinstance(entry.target, HttpTarget):
            problem = _problem_of(entry.target)
        if problem:
            map_ = LocatedToml(read_text(settings.api_map), str(settings.api_map))
            where = ("api", entry.pattern, entry.kind)
            raise map_.error(where, f"{entry.pattern}: {problem}", f"mend {entry.kind} or its code")


def _missing_program(settings: Settings, program: str) -> str:
    place = str(settings.site / program) if "/" in program else program
    return f"there is no program {place}" if shutil.which(place) is None else ""


def _problem_of(target: HttpTarget) -> str:
    """What is wrong with the files that it names."""
    from taskbus.handler.http import check_target

    try:
        check_target(target)
    except ConfigError as error:
        return str(error)
    return ""


def check_incoming(settings: Settings, api: ApiMap) -> None:
    """Whether webhooks from others can be verified, and become something; raises ConfigError."""
    for one in settings.incoming:
        read_secrets(one, read_secret(one.secret_file))
        problem = ""
        if one.submit:
            try:
                api.entry(one.submit)
            except UnknownUri as error:
                problem = f"submit: {error.message}"
        elif not any(one.publish.startswith(f"{name}.") for name in api.namespaces()):
            problem = f"publish: {one.publish!r} is below no namespace of the API map"
        if problem:
            problem = f"incoming.{one.name}.{problem}"
            raise ConfigError(str(settings.file), None, problem, "name what the API map has")


def read_secret(file: Path) -> str:
    """A file with a secret in it; raises ConfigError where others may read it, too."""
    text = read_text(file)
    if file.stat().st_mode & 0o077:
        raise ConfigError(str(file), None, "others may read it", f"chmod 600 {file}")
    return text


def _followed_map(settings: Settings) -> Callable[[], ApiMap]:
    """The API map as it is in its file, for who may go on with the last valid one."""
    seen = os.stat(settings.api_map).st_mtime_ns
    api = read_api_map(settings)

    def current() -> ApiMap:
        nonlocal seen, api
        try:
            changed = os.stat(settings.api_map).st_mtime_ns
            if changed != seen:
                seen = changed
                api = read_api_map(settings)
        except (OSError, ConfigError) as error:
            log.warning("keeping the old API map: %s", error)
        return api

    return current


def make_store(settings: Settings) -> Store:
    """The store that the settings name; raises StoreUnavailable, or ConfigError."""
    return make_sides(settings).store


def make_sides(settings: Settings) -> Sides:
    """The store that the settings name, with its other ports."""
    file = settings.store_url_file
    return open_sides(settings.database if file is None else read_text(file).strip())


def open_store(url: str) -> Store:
    """The store at this URL, its tables made where they are missing; raises StoreUnavailable."""
    return open_sides(url).store


def open_sides(url: str) -> Sides:
    """The store at this URL with its other ports. A driver is imported only where it is needed."""
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from taskbus.adapter.mongo import MongoStore
        from taskbus.adapter.mongo_sides import mongo_sides

        return mongo_sides(MongoStore(url))
    from taskbus.adapter.sql import SqlStore
    from taskbus.adapter.sql_sides import sql_sides

    return sql_sides(SqlStore(url))


def _retention(settings: Settings) -> "Retention":
    from taskbus.core.retention import Retention

    return Retention(settings.retention, settings.dead_letter_retention)


def make_spans(program: str) -> "Spans":
    """What records spans: OpenTelemetry where it is installed and exports, else nothing."""
    from taskbus.adapter.telemetry import spans
    from taskbus.core.untraced import NO_SPANS

    return spans(program) or NO_SPANS


def _tally(settings: Settings, program: str) -> "Tally":
    """The program's counts, as it has left them."""
    from taskbus.adapter.tallies import read_tally, tally_saver
    from taskbus.core.tally import Tally

    told = read_tally(settings.run, program)
    return Tally(time.time, tally_saver(settings.run, program), told)


def visit_bus(settings: Settings, work: Callable[[Any], Any]) -> Any:
    """Run the coroutine ``work(session)`` as the operator; see ``edge.client.visit``."""
    from taskbus.bus.session import REALM
    from taskbus.edge.client import Unreachable, visit

    if not os.path.exists(settings.secrets):
        raise Unreachable(
            f"the bus of {settings.file} has never been up", remedy="start it with 'taskbus up'"
        )
    ticket = read_text(settings.secrets / "operator").strip()
    return visit(str(settings.router_socket), "operator", ticket, work, REALM)


def run_worker(settings: Settings, pool: Pool, name: str, most: int | None) -> None:
    """The worker program: serve until a signal ends it, or until ``most`` jobs are done."""
    from taskbus.adapter.beanstalkd import BeanstalkdQueue
    from taskbus.adapter.doorbell import Doorbell
    from taskbus.adapter.process import Presence

    presence = Presence(settings.run, name)
    queues = [
        BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr, pool.queues)
        for _ in range(pool.slots if most is None else 1)
    ]
    on_ready = partial(presence.hold, queues=pool.queues)
    bell = Doorbell(settings.doorbell)
    tally = _tally(settings, name) if most is None else None
    sides = make_sides(settings)
    _worker(settings, sides, queues, bell, pool.queues, on_ready, tally).serve(most)


def _worker(
    settings: Settings,
    sides: Sides,
    queues: Sequence[Queue],
    bell: Bell,
    own_queues: Collection[str] | None,
    on_ready: Callable[[], None],
    tally: "Tally | None" = None,
) -> "Worker":
    from taskbus.adapter.process import ProcessLiveness
    from taskbus.core.follow import FollowUps
    from taskbus.core.webhook_book import Book
    from taskbus.worker.parent import Worker

    book = Book(sides.records, time.time)
    return Worker(
        store=sides.store,
        limits=sides.limits,
        queues=queues,
        liveness=ProcessLiveness(),
        bell=bell,
        clock=time.time,
        follow_ups=FollowUps(sides.store, sides.links, time.time, _retention(settings)),
        # What it loads makes its forks slower: no tasks of other pools' queues.
        load_map=lambda: read_api_map(settings, own_queues),
        task_path=[str(settings.tasks)],
        ttr=settings.worker_ttr,
        on_ready=on_ready,
        retention=_retention(settings),
        spans=make_spans("worker"),
        tally=tally,
        enclose=book.enclose,
        valve=book.valve,
    )


def run_job(settings: Settings, wanted: str, again: bool, show: Callable[[Event], None]) -> Job:
    """Run one job in this process, as a worker would: ``wanted`` is its id, or the number that the
    queue server gave it. Its journal is shown as it grows. Returns the job after this attempt;
    raises what keeps it from being run, see ``core.pick``.
    """
    from taskbus.adapter.beanstalkd import BeanstalkdQueue
    from taskbus.adapter.doorbell import Doorbell
    from taskbus.core.command import numbered
    from taskbus.core.pick import pick
    from taskbus.worker.chosen import ChosenJob
    from taskbus.worker.interrupt import cancel_on_interrupt
    from taskbus.worker.watch import JournalBell

    _check_may_work(settings, wanted)
    # As the workers: programs of the API map may be named by where the site is.
    os.chdir(settings.site)
    sides = make_sides(settings)
    store = sides.store
    job = existing(store, wanted) if is_job_id(wanted) else numbered(store, int(wanted))
    queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)

    def prepare() -> None:
        pick(store, sides.keys, time.time, job.id, "operator", again)

    bell = JournalBell(Doorbell(settings.doorbell), store, job.id, show)
    chosen = ChosenJob(job.id, prepare, queue)
    worker = _worker(settings, sides, [chosen], bell, None, lambda: None)
    with cancel_on_interrupt(store, job.id, "operator"):
        worker.serve(1)
    bell.ring()
    return existing(store, job.id)


def _check_may_work(settings: Settings, wanted: str) -> None:
    """Raises NotRunnable where this process is not what a worker would be."""
    from taskbus.site.folders import user_id

    if not settings.data.exists():
        problem = f"the bus of {settings.file} has never been up"
        raise NotRunnable(wanted, problem, "start it with 'taskbus up'")
    user = settings.users.get(WORKER)
    if user is not None and user_id(settings, WORKER) != os.geteuid():
        # Another one's task code must not run with our rights, nor leave files that are ours.
        raise NotRunnable(wanted, f"its workers run as {user}", f"run this as {user}")


def run_backend(settings: Settings, namespace: str) -> None:
    """The backend program of one namespace; ends by a signal."""
    from twisted.internet import reactor as installed

    from taskbus.adapter.beanstalkd import BeanstalkdQueue
    from taskbus.adapter.doorbell import Doorbell
    from taskbus.adapter.process import Presence, ProcessLiveness
    from taskbus.bus.calls import Calls
    from taskbus.core.intake import Intake
    from taskbus.core.promote import Keeper
    from taskbus.edge.backend import Backend
    from taskbus.edge.batch import Batch
    from taskbus.edge.foreground import Foreground

    reactor: Any = installed
    api = read_api_map(settings)
    if not api.below(namespace):
        raise ConfigError(
            str(settings.api_map),
            None,
            f"no entry below the namespace {namespace!r}",
            f"it has {', '.join(api.namespaces()) or 'no entries'}",
        )
    sys.path.insert(0, str(settings.tasks))
    sides = make_sides(settings)
    queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)
    bell = Doorbell(settings.doorbell)
    intake = Intake(sides.store, sides.keys, queue, bell)
    presence = Presence(settings.run, f"backend-{namespace}")
    batch, calls = Batch(reactor, intake), Calls(reactor)
    spans = make_spans("backend")
    keeper = Keeper(
        sides.store, ProcessLiveness(), bell, time.time, settings.worker_ttr, _retention(settings)
    )
    foreground = Foreground(
        reactor=reactor,
        api=api,
        entries=api.below(namespace),
        batch=batch,
        keeper=keeper,
        calls=calls,
        clock=time.time,
        threads=settings.backend_threads,
        spans=spans,
        tally=_tally(settings, f"backend-{namespace}"),
    )
    backend = Backend(
        api=api,
        namespace=namespace,
        batch=batch,
        foreground=foreground,
        calls=calls,
        clock=time.time,
        on_serving=lambda count: presence.hold(uris=count),
        spans=spans,
    )
    patience = longest_call(api.below(namespace)) + _GRACE_SECONDS
    _serve(settings, "backend", backend, presence.drop, patience)


def run_control(settings: Settings) -> None:
    """The control program: ``taskbus.job.*``, relay and chores; ends by a signal."""
    from twisted.internet import reactor as installed

    from taskbus.adapter.beanstalkd import BeanstalkdQueue
    from taskbus.adapter.doorbell import Door, Doorbell
    from taskbus.adapter.process import Presence, ProcessLiveness
    from taskbus.core.admission import Admission, Sweep
    from taskbus.core.chores import Chores
    from taskbus.core.follow import Ends, FollowUps
    from taskbus.core.forget import forgetting
    from taskbus.core.intake import Intake
    from taskbus.core.keyring import Keyring
    from taskbus.core.numbers import Numbers
    from taskbus.core.recovery import Recovery
    from taskbus.core.relay import Relay
    from taskbus.edge.access import Access
    from taskbus.edge.batch import Batch
    from taskbus.edge.control import Control, run_chores, run_relay
    from taskbus.edge.queue_server import QueueServer
    from taskbus.task.reports import report

    reactor: Any = installed
    sides = make_sides(settings)
    store, keys, links, limits = sides.store, sides.keys, sides.links, sides.limits
    retention = _retention(settings)
    queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)
    bell = Doorbell(settings.doorbell)
    presence = Presence(settings.run, "control")
    api = read_api_map(settings)
    access = Access(
        reactor, Keyring(sides.records, time.time), api, store, time.time, settings.notify_topic
    )
    batch = Batch(reactor, Intake(store, keys, queue, bell))
    hooks, book = _webhooks(settings, sides, api, queue, bell, batch, access.permit)
    features: dict[str, Callable[..., Any]] = {}
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
        on_serving=lambda count: presence.hold(uris=count),
        spans=make_spans("control"),
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
    admission = Admission(store, limits, time.time, _followed_map(settings), "chores", book.valve)
    sweep = Sweep(admission, limits, queue, time.time)
    others = (*recovery.chores(), *ends.chores(), *sweep.chores(), *forget)
    run_chores(Chores(store, queue, time.time, *others))

    _serve(settings, "control", control, presence.drop, _GRACE_SECONDS)


def run_gateway(settings: Settings) -> None:
    """The gateway program: HTTP behind the router; ends by a signal."""
    from twisted.internet import reactor as installed

    from taskbus.adapter.process import Presence
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

    reactor: Any = installed
    api = read_api_map(settings)
    presence = Presence(settings.run, "gateway")
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
        on_serving=lambda count: presence.hold(routes=count),
    )
    gateway.listen()
    patience = longest_call(api.entries.values()) + _GRACE_SECONDS
    _serve(settings, "gateway", gateway, presence.drop, patience)


def _programs(settings: Settings, api: ApiMap) -> "Programs":
    from taskbus.adapter.host import Programs

    pools = {
        pool.name: [f"{pool.program}-{number:02d}" for number in range(pool.count)]
        for pool in settings.pools
    }
    backends = [f"backend-{namespace}" for namespace in api.namespaces()]
    workers = [name for names in pools.values() for name in names]
    sockets = {"beanstalkd": settings.queue_socket, "router": settings.router_socket}
    return Programs(settings.run, ["control", "gateway", *backends, *workers], sockets, pools)


def _webhooks(
    settings: Settings,
    sides: Sides,
    api: ApiMap,
    queue: Queue,
    bell: Bell,
    batch: "Batch",
    permit: Callable[[Any], "Permit"],
) -> "tuple[Hooks, Book]":
    """The webhooks' part of control; its thread runs where some topic is exposed."""
    from twisted.internet import reactor as installed
    from twisted.internet.threads import blockingCallFromThread

    from taskbus.core.follow import FollowUps
    from taskbus.core.webhook_book import Book
    from taskbus.core.webhook_desk import Desk
    from taskbus.core.webhook_fan import Fan
    from taskbus.core.webhook_feed import Feed
    from taskbus.edge.hooks import Hooks, Parts, run_feed

    reactor: Any = installed
    exposed, clock = settings.webhook_topics, time.time
    store, links, records = sides.store, sides.links, sides.records

    def accept(submissions: Sequence[Submission]) -> list[str]:
        ids: list[str] = blockingCallFromThread(reactor, batch.accept, submissions)
        return ids

    book = Book(records, clock)
    desk = Desk(records, store, queue, bell, book, api, clock, exposed)
    follow_ups = FollowUps(store, links, clock, _retention(settings))
    fan = Fan(api, book, store, queue, follow_ups, clock, accept)
    hooks = Hooks(reactor, Parts(book, desk, fan), clock, exposed, settings.notify_topic, permit)
    if exposed:
        patience = settings.webhook_patience
        feed = Feed(store, links, records, book, fan, clock, exposed, patience, hooks.disable)
        reactor.callWhenRunning(run_feed, feed, fan)
    return hooks, book


def _serve(
    settings: Settings,
    principal: str,
    service: "Service",
    on_gone: Callable[[], None],
    patience: float,
) -> None:
    from twisted.internet import reactor as installed

    from taskbus.bus.program import Program

    ticket = read_text(settings.secrets / principal).strip()
    program = Program(
        installed, settings.router_socket, (principal, ticket), service, on_gone, patience
    )
    program.run()


def start_logging(level: int = logging.INFO) -> None:
    """Lines on stderr, where supervisord collects them."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


def read_text(file: Path) -> str:
    """A file that somebody wrote; raises ConfigError where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), None, f"not UTF-8: {error}", "save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            str(file), None, f"cannot be read: {error.strerror}", "check the path and its rights"
        ) from None
