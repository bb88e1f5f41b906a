"""Settings: one TOML file, every key optional. Its folder is the site; paths are relative to it."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from taskbus.model.errors import InvalidArgument
from taskbus.model.incoming import Incoming, check_incoming, check_target, check_verify
from taskbus.model.located import LocatedToml
from taskbus.model.options import DEFAULT_QUEUE, check_flag, check_queue, check_retention
from taskbus.model.php import PhpSite
from taskbus.model.queue_server import KEYS, OF_QUEUE_SERVER
from taskbus.model.uri import RESERVED, check_uri
from taskbus.model.webhook import DISABLED_TOPIC
from taskbus.model.webhook import QUEUE as WEBHOOKS

PROGRAMS = ("beanstalkd", "router", "control", "backend", "php", "gateway", "worker")
# sun_path holds 108 bytes with its closing zero (unix(7)).
_LONGEST_SOCKET_PATH = 107
WORKER = "worker"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_DELIVERIES = 32


@dataclass(frozen=True, slots=True)
class Pool:
    """Worker processes that take jobs from the same queues, ``slots`` of them at a time each."""

    name: str
    count: int = 1
    slots: int = 1
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)

    @property
    def program(self) -> str:
        """What supervisord calls it; each process has its number behind that."""
        return WORKER if self.name == WORKER else f"{WORKER}-{self.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be chosen; see ``taskbus.toml`` for what each means."""

    site: Path
    file: Path
    http_host: str = "127.0.0.1"
    http_port: int = 9080
    var: Path = Path("var")
    api_map: Path = Path("api.toml")
    tasks: Path = Path("workers")
    store_url: str = ""
    store_url_file: Path | None = None
    retention: float = 7 * 86400.0
    dead_letter_retention: float = 30 * 86400.0
    worker_count: int = field(default_factory=lambda: max(2, os.cpu_count() or 1))
    worker_slots: int = 2
    worker_ttr: int = 60
    worker_queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    more_pools: tuple[Pool, ...] = ()
    incoming: tuple[Incoming, ...] = ()
    backend_threads: int = 32
    php_command: str = "php"
    php_client: Path = Path("clients/php")
    php_tasks: Path = Path("workers/php")
    php_processes: int = 2
    php_warm: bool = True
    notify_topic: str = "com.example.queue.notify"
    gateway_body: int = 1_048_576
    gateway_origins: tuple[str, ...] = ()
    gateway_metrics: str = "key"
    webhook_topics: tuple[str, ...] = ()
    webhook_networks: tuple[str, ...] = ()
    webhook_concurrency: int = 2
    webhook_timeout: int = 15
    webhook_patience: float = 5 * 86400.0
    router_command: str = ".venv-router/bin/crossbar"
    router_config: Path = Path("crossbar/config.json")
    web: Path = Path("crossbar/web")
    supervisor_config: Path = Path("supervisor/taskbus.conf")
    queue_server: bool = False
    queue_server_open_to: str = KEYS
    queue_server_queue: str = DEFAULT_QUEUE
    queue_server_allow: tuple[str, ...] = ()
    queue_server_exec: tuple[tuple[str, ...], ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All worker pools: the one of ``[worker]``, and each ``[pool.NAME]``; and where there are
        webhooks, one for them, unless another one is.
        """
        own = Pool(WORKER, self.worker_count, self.worker_slots, self.worker_queues)
        pools = (own, *self.more_pools)
        if self.webhook_topics and not any(WEBHOOKS in (pool.name, *pool.queues) for pool in pools):
            # Deliveries mostly wait for others: many at a time, and nobody's jobs behind them.
            return (*pools, Pool(WEBHOOKS, 1, _DELIVERIES, (WEBHOOKS,)))
        return pools

    @property
    def queues(self) -> frozenset[str]:
        """The queues that some pool takes jobs from."""
        return frozenset(queue for pool in self.pools for queue in pool.queues)

    @property
    def php(self) -> PhpSite:
        """Where PHP and its classes are."""
        return PhpSite(self.php_command, str(self.php_client), str(self.php_tasks))

    @property
    def run(self) -> Path:
        """Sockets and locks."""
        return self.var / "run"

    @property
    def logs(self) -> Path:
        """What each program says."""
        return self.var / "log"

    @property
    def data(self) -> Path:
        """The store and the queue's binlog."""
        return self.var / "data"

    @property
    def secrets(self) -> Path:
        """One file of mode 0600 for each principal."""
        return self.var / "secrets"

    @property
    def signing(self) -> Path:
        """The keys that may sign requests, one file of mode 0600 for each."""
        return self.secrets / "signing"

    @property
    def database(self) -> str:
        """The store's URL."""
        return self.store_url or f"sqlite:///{self.data / 'taskbus.db'}"

    @property
    def router_node(self) -> Path:
        """The router's folder, with its rendered configuration."""
        return self.var / "router"

    @property
    def supervisor_file(self) -> Path:
        """supervisord's rendered configuration."""
        return self.var / "supervisord.conf"

    @property
    def queue_socket(self) -> Path:
        """Where beanstalkd listens."""
        return self.run / "beanstalkd.sock"

    @property
    def router_socket(self) -> Path:
        """Where the router listens for components."""
        return self.run / "router.sock"

    @property
    def gateway_socket(self) -> Path:
        """Where the gateway listens for the router."""
        return self.run / "gateway.sock"

    @property
    def doorbell(self) -> Path:
        """Where the relay hears that the journal has grown."""
        return self.run / "doorbell.sock"

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisorctl finds supervisord."""
        return self.run / "supervisor.sock"

    @property
    def url(self) -> str:
        """The page, and the base of the HTTP bridge."""
        host = f"[{self.http_host}]" if ":" in self.http_host else self.http_host
        return f"http://{host}:{self.http_port}/"


def parse_settings(text: str, file: Path) -> Settings:
    """The settings in a TOML text; raises ConfigError naming file and line."""
    toml = LocatedToml(text, str(file))
    site = file.resolve().parent
    chosen: dict[str, Any] = {}
    for table, body in toml.data.items():
        if table == "pool":
            chosen["more_pools"] = _pools(toml, toml.table(body, ("pool",)))
            continue
        if table == "incoming":
            chosen["incoming"] = _incoming(toml, toml.table(body, ("incoming",)), site)
            continue
        known = _KEYS.get(table)
        if known is None:
            tables = ", ".join(sorted({*_KEYS, "pool.NAME", "incoming.NAME"}))
            raise toml.error((table,), f"unknown table [{table}]", f"known: {tables}")
        for key, checked in _checked(toml, (table,), body, known).items():
            name = known[key][0]
            if name == "users":
                chosen.setdefault("users", {})[key] = checked
            else:
                chosen[name] = checked
    settings = Settings(site=site, file=file.resolve(), **chosen)
    settings = _anchored(settings, site)
    if settings.store_url and settings.store_url_file:
        raise toml.error(
            ("store", "url_file"), "store.url_file: beside store.url", "write one of the two"
        )
    if settings.queue_server and settings.queue_server_queue not in settings.queues:
        raise toml.error(
            ("queue_server", "queue"),
            f"queue_server.queue: no worker takes jobs from {settings.queue_server_queue!r}",
            "name it under queues of [worker] or of a [pool.NAME]",
        )
    _check_deliveries(toml, settings)
    _check_var(toml, settings)
    return settings


def _check_var(toml: LocatedToml, settings: Settings) -> None:
    problem = ""
    if len(str(settings.supervisor_socket).encode()) > _LONGEST_SOCKET_PATH:
        problem = f"{settings.run} is too long a path for Unix sockets"
    elif set('"\\') & set(str(settings.var)):
        problem = f"{settings.var} has a quotation mark or a backslash, which supervisor misreads"
    if problem:
        remedy = "choose a shorter or plainer site.var, for example /var/lib/taskbus"
        raise toml.error(("site", "var"), problem, remedy)


def _check_deliveries(toml: LocatedToml, settings: Settings) -> None:
    """A pool of the name of their own one is theirs."""
    named = [pool for pool in settings.more_pools if pool.name == WEBHOOKS]
    if settings.webhook_topics and WEBHOOKS not in settings.queues:
        path = ("pool", *(pool.name for pool in named), "queues")
        raise toml.error(
            path,
            f"pool.{WEBHOOKS}.queues: no worker takes the deliveries of webhooks",
            f'add "{WEBHOOKS}" to them, or give this pool another name',
        )


def _checked(
    toml: LocatedToml, path: tuple[str, ...], body: Any, known: "_Known"
) -> dict[str, Any]:
    """The keys of one table, each value as its check returns it."""
    checked = {}
    where = ".".join(path)
    for key, value in toml.table(body, path).items():
        if key not in known:
            raise toml.error(
                (*path, key), f"unknown setting {where}.{key}", f"known: {', '.join(sorted(known))}"
            )
        try:
            checked[key] = known[key][1](value)
        except InvalidArgument as error:
            problem = error.message.partition(": ")[2]
            raise toml.error(
                (*path, key), f"{where}.{key}: {problem}", error.about["remedy"]
            ) from None
    return checked


def _pools(toml: LocatedToml, tables: dict[str, Any]) -> tuple[Pool, ...]:
    pools = []
    for name, body in tables.items():
        path = ("pool", name)
        if name == WORKER or not _NAME.fullmatch(name):
            raise toml.error(
                path,
                f"{name!r} is not a name for a pool",
                f"use up to 32 of a-z, 0-9, _ and -, but not {WORKER}, which is [{WORKER}]'s own",
            )
        pools.append(Pool(name, **{"queues": (name,)} | _checked(toml, path, body, _OF_POOL)))
    return tuple(pools)


def _incoming(toml: LocatedToml, tables: dict[str, Any], site: Path) -> tuple[Incoming, ...]:
    found = []
    for name, body in tables.items():
        path = ("incoming", name)
        if not _NAME.fullmatch(name):
            raise toml.error(
                path, f"{name!r} is not a name for a webhook", "use up to 32 of a-z, 0-9, _ and -"
            )
        said = _checked(toml, path, body, _OF_INCOMING)
        try:
            one = check_incoming(name, said)
        except InvalidArgument as error:
            raise toml.error(path, f"{'.'.join(path)}.{error}", error.about["remedy"]) from None
        found.append(one._replace(secret_file=site / one.secret_file))
    return tuple(found)


def _anchored(settings: Settings, site: Path) -> Settings:
    """The same with every path absolute."""
    values = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = site / value
    for name in ("router_command", "php_command"):
        command = values[name]
        values[name] = str(site / command) if "/" in command else command
    return Settings(**values)


def _text(value: Any) -> str:
    if isinstance(value, str) and value and "\0" not in value and "\n" not in value:
        return value
    raise InvalidArgument("value", value, "not a text", "write a text in quotes")


def _path(value: Any) -> Path:
    return Path(_text(value))


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise InvalidArgument("value", value, "out of range", f"use {least} to {most}")

    return check


def _queues(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else []
    try:
        found = tuple(dict.fromkeys(map(check_queue, names)))
    except InvalidArgument:
        found = ()
    if found:
        return found
    raise InvalidArgument(
        "queues", value, "not a list of queues' names", 'write ["default", "slow"]'
    )


def _origins(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(
        isinstance(one, str) and _ORIGIN.fullmatch(one) for one in value
    ):
        return tuple(value)
    raise InvalidArgument(
        "origins", value, "not a list of web origins", 'write ["https://app.example.com"]'
    )


def _metrics(value: Any) -> str:
    if value in ("key", "loopback"):
        return str(value)
    raise InvalidArgument("metrics", value, "not who may see them", 'write "key" or "loopback"')


def _topics(value: Any) -> tuple[str, ...]:
    remedy = 'write ["com.example.shop.*", "job.failed.*"]; of the bus\' own only ' + DISABLED_TOPIC
    if not isinstance(value, list):
        raise InvalidArgument("exposed", value, "not a list of topics", remedy)
    for one in value:
        base = one.removesuffix(".*") if isinstance(one, str) else one
        if base != "job":  # Alone it is too short for a URI.
            check_uri(base)
        if base.split(".")[0] in RESERVED and one != DISABLED_TOPIC:
            raise InvalidArgument("exposed", one, "a topic of the bus itself", remedy)
    return tuple(dict.fromkeys(value))


def _networks(value: Any) -> tuple[str, ...]:
    try:
        # A number would be one, too.
        return tuple(str(ip_network(one.strip())) for one in value)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidArgument(
            "allow", value, f"not a list of networks ({error})", 'write ["10.1.0.0/16", "fd00::/8"]'
        ) from None


def _seconds(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31:
        return float(value)
    raise InvalidArgument("value", value, "not a number of seconds", "use more than 0")


_Known = Mapping[str, tuple[str, Callable[[Any], Any]]]
_OF_INCOMING: _Known = {
    "verify": ("verify", check_verify),
    "secret_file": ("secret_file", _path),
    "submit": ("submit", check_target),
    "publish": ("publish", check_target),
}
_OF_POOL: _Known = {
    "count": ("count", _whole(1, 1000)),
    "slots": ("slots", _whole(1, 1000)),
    "queues": ("queues", _queues),
}
_KEYS: dict[str, _Known] = {
    "site": {
        "var": ("var", _path),
        "api_map": ("api_map", _path),
        "tasks": ("tasks", _path),
    },
    "http": {"host": ("http_host", _text), "port": ("http_port", _whole(1, 65535))},
    "store": {
        "url": ("store_url", _text),
        "url_file": ("store_url_file", _path),
        "retention": ("retention", check_retention),
        "dead_letter_retention": ("dead_letter_retention", check_retention),
    },
    "worker": {
        "count": ("worker_count", _whole(1, 1000)),
        "slots": ("worker_slots", _whole(1, 1000)),
        "ttr": ("worker_ttr", _whole(3, 86400)),
        "queues": ("worker_queues", _queues),
    },
    "backend": {
        "threads": ("backend_threads", _whole(1, 1000)),
        "notify_topic": ("notify_topic", check_uri),
    },
    "php": {
        "command": ("php_command", _text),
        "client": ("php_client", _path),
        "tasks": ("php_tasks", _path),
        "processes": ("php_processes", _whole(1, 1000)),
        "warm": ("php_warm", check_flag),
    },
    "gateway": {
        "body": ("gateway_body", _whole(1024, 16_000_000)),
        "origins": ("gateway_origins", _origins),
        "metrics": ("gateway_metrics", _metrics),
    },
    "queue_server": OF_QUEUE_SERVER,
    "webhooks": {
        "exposed": ("webhook_topics", _topics),
        "allow": ("webhook_networks", _networks),
        "concurrency": ("webhook_concurrency", _whole(1, 1000)),
        "timeout": ("webhook_timeout", _whole(1, 300)),
        "disable_after": ("webhook_patience", _seconds),
    },
    "router": {
        "command": ("router_command", _text),
        "config": ("router_config", _path),
        "web": ("web", _path),
    },
    "supervisor": {"config": ("supervisor_config", _path)},
    "user": dict.fromkeys(PROGRAMS, ("users", _text)),
}
