"""The only package that names concrete adapters: settings in, a running program out.

Each program has a module, which imports what it runs; what several need is here.
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskbus.model.apimap import ApiMap, parse_api_map
from taskbus.model.builtin import built_in
from taskbus.model.errors import ConfigError, InvalidArgument, TaskFailure, UnknownUri
from taskbus.model.http_target import HttpTarget
from taskbus.model.incoming import read_secrets
from taskbus.model.located import LocatedToml
from taskbus.model.settings import Settings, parse_settings
from taskbus.port.sides import Sides
from taskbus.port.store import Store

if TYPE_CHECKING:
    from taskbus.core.retention import Retention
    from taskbus.core.tally import Tally
    from taskbus.port.spans import Spans

log = logging.getLogger(__name__)


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
    return parse_api_map(read_text(file), str(file), settings.queues, own, site, settings.php)


def check_targets(settings: Settings, api: ApiMap) -> None:
    """Load every python and php task, look for every exec program, and read the files that http
    targets name; raises ConfigError.
    """
    from taskbus.handler import build
    from taskbus.site.php import problems_of_classes

    sys.path.insert(0, str(settings.tasks))
    for argv in settings.queue_server_exec:
        if missing := _missing_program(settings, argv[0]):
            toml = LocatedToml(read_text(settings.file), str(settings.file))
            problem, remedy = f"queue_server.exec: {missing}", "correct its name, or install it"
            raise toml.error(("queue_server", "exec"), problem, remedy)
    of_classes = problems_of_classes(settings.php, api)
    for entry in api.entries.values():
        problem = of_classes.get(entry.pattern, "")
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
                api.to_queue(one.submit)
            except (UnknownUri, InvalidArgument) as error:
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


def followed_map(settings: Settings) -> Callable[[], ApiMap]:
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


def retention_of(settings: Settings) -> "Retention":
    from taskbus.core.retention import Retention

    return Retention(settings.retention, settings.dead_letter_retention)


def make_spans(program: str) -> "Spans":
    """What records spans: OpenTelemetry where it is installed and exports, else nothing."""
    from taskbus.adapter.telemetry import spans
    from taskbus.core.untraced import NO_SPANS

    return spans(program) or NO_SPANS


def tally_of(settings: Settings, program: str, clock: Callable[[], float]) -> "Tally":
    """The program's counts, as it has left them."""
    from taskbus.adapter.tallies import read_tally, tally_saver
    from taskbus.core.tally import Tally

    told = read_tally(settings.run, program)
    return Tally(clock, tally_saver(settings.run, program), told)


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
