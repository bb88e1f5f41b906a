"""Settings: one TOML file, every key optional. Its folder is the site; paths are relative to it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskbus.model.errors import InvalidArgument
from taskbus.model.located import LocatedToml
from taskbus.model.options import check_retention
from taskbus.model.uri import check_uri

PROGRAMS = ("beanstalkd", "router", "control", "backend", "worker")
# sun_path holds 108 bytes with its closing zero (unix(7)).
_LONGEST_SOCKET_PATH = 107


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
    backend_threads: int = 32
    notify_topic: str = "com.example.queue.notify"
    router_command: str = ".venv-router/bin/crossbar"
    router_config: Path = Path("crossbar/config.json")
    web: Path = Path("crossbar/web")
    supervisor_config: Path = Path("supervisor/taskbus.conf")
    users: Mapping[str, str] = field(default_factory=dict)

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
        known = _KEYS.get(table)
        if known is None:
            raise toml.error(
                (table,), f"unknown table [{table}]", f"known: {', '.join(sorted(_KEYS))}"
            )
        for key, value in toml.table(body, (table,)).items():
            if key not in known:
                raise toml.error(
                    (table, key),
                    f"unknown setting {table}.{key}",
                    f"known: {', '.join(sorted(known))}",
                )
            name, check = known[key]
            try:
                checked = check(value)
            except InvalidArgument as error:
                problem = error.message.partition(": ")[2]
                raise toml.error(
                    (table, key), f"{table}.{key}: {problem}", error.about["remedy"]
                ) from None
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
    if len(str(settings.supervisor_socket).encode()) > _LONGEST_SOCKET_PATH:
        raise toml.error(
            ("site", "var"),
            f"{settings.run} is too long a path for Unix sockets",
            "choose a shorter site.var, for example /var/lib/taskbus",
        )
    return settings


def _anchored(settings: Settings, site: Path) -> Settings:
    """The same with every path absolute."""
    values = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = site / value
    command = values["router_command"]
    values["router_command"] = str(site / command) if "/" in command else command
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


_KEYS: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {
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
    },
    "backend": {
        "threads": ("backend_threads", _whole(1, 1000)),
        "notify_topic": ("notify_topic", check_uri),
    },
    "router": {
        "command": ("router_command", _text),
        "config": ("router_config", _path),
        "web": ("web", _path),
    },
    "supervisor": {"config": ("supervisor_config", _path)},
    "user": dict.fromkeys(PROGRAMS, ("users", _text)),
}
