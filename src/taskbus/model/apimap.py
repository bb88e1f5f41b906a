"""The API map: one file says what every URI does.

::

    [api."com.example.dante.sleeper"]
    python = "tasks.dante:Sleeper"      # or http = "http://..." or exec = ["php", "x.php"]
    mode = "background"                 # foreground (default): run now; background: queue a job
    timeout = 60                        # seconds
    retries = 3                         # further attempts after the first one failed
    priority = "high"

    [api."com.example.widget.space"]
    php = "Example\\\\GetFreeSpace"      # a PHP class, run by the PHP backend or by a worker

    [api."com.example.shop.*"]          # every URI below it
    http = "http://127.0.0.1:8000/rpc"  # or a table: see taskbus.model.http_target

    [api."com.example.node.*"]
    wamp = true                         # a component of somebody's own registers it, with a key
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from taskbus.model.errors import InvalidArgument, UnknownUri
from taskbus.model.http_target import HttpTarget, check_http
from taskbus.model.located import LocatedToml
from taskbus.model.options import DEFAULT_QUEUE, PER_ENTRY, SHARED, Rate
from taskbus.model.php import STANDARD_PHP, PhpSite, PhpTarget
from taskbus.model.policy import STANDARD_POLICY, Policy
from taskbus.model.uri import check_pattern, covers, in_namespace, is_pattern

Mode = Literal["foreground", "background"]
MODES: tuple[Mode, ...] = ("foreground", "background")
KINDS = ("python", "php", "http", "exec", "wamp")
# Those that a backend of ours registers and runs. PHP has one in PHP; WAMP has none of ours.
SERVED = ("python", "http", "exec")
WAMP = "wamp"

_PHP = re.compile(r"[A-Za-z_]\w*(\\[A-Za-z_]\w*)*", re.ASCII)
_PYTHON = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a URI (or every URI below ``x.*``) does. ``timeout`` in seconds."""

    pattern: str
    kind: str
    target: str | tuple[str, ...] | HttpTarget | PhpTarget
    mode: Mode = "foreground"
    timeout: float = 300.0
    retries: int = 0
    priority: int = 500
    queue: str = DEFAULT_QUEUE
    policy: Policy = STANDARD_POLICY
    concurrency: int | None = None
    rate: Rate | None = None
    promote_after: float | None = None

    @property
    def handler(self) -> dict[str, Any]:
        """The entry as the forker needs it: JSON values."""
        return {"kind": self.kind, "target": self.target, "timeout": self.timeout}


class ApiMap:
    """All entries; ``entry(uri)`` finds the one that applies."""

    def __init__(
        self,
        entries: Iterable[Entry],
        queues: Collection[str] = (),
        built_in: Iterable[Entry] = (),
    ) -> None:
        """``queues``: those that workers take jobs from, where that is known. ``built_in``: tasks
        of the bus' own, which workers run, and which no caller can name.
        """
        self.queues = frozenset(queues)
        self.entries: Mapping[str, Entry] = {entry.pattern: entry for entry in entries}
        self.built_in: Mapping[str, Entry] = {entry.pattern: entry for entry in built_in}
        # As the router does for prefix registrations: the longest pattern wins.
        self._patterns = sorted(filter(is_pattern, self.entries), key=len, reverse=True)

    def entry(self, uri: str) -> Entry:
        """The exact entry, or the longest pattern's; raises UnknownUri."""
        if exact := self.entries.get(uri):
            return exact
        for pattern in self._patterns:
            if covers(pattern, uri):
                return self.entries[pattern]
        raise UnknownUri(uri)

    def to_queue(self, uri: str) -> Entry:
        """As ``entry``, for a job; raises InvalidArgument where that cannot be one."""
        entry = self.entry(uri)
        if entry.kind == WAMP:
            raise InvalidArgument(
                "uri",
                uri,
                "a component of its own runs it, and no worker can",
                "call it, or let the API map say what a worker can run",
            )
        return entry

    def of_job(self, uri: str) -> Entry:
        """As ``to_queue``, for a job that has been accepted; it may be one of the bus' own."""
        return self.built_in.get(uri) or self.to_queue(uri)

    def for_workers(self) -> list[Entry]:
        """Every entry whose jobs a worker may meet."""
        queued = [one for one in self.entries.values() if one.kind != WAMP]
        return [*queued, *self.built_in.values()]

    def is_left_to_components(self, pattern: str) -> bool:
        """Whether a URI, or ``x.*`` for all below ``x``, is of the kind WAMP and nothing else."""
        around = [pattern, *(one for one in self._patterns if covers(one, pattern))]
        nearest = next((self.entries[one] for one in around if one in self.entries), None)
        inside = [one for uri, one in self.entries.items() if covers(pattern, uri)]
        return nearest is not None and all(one.kind == WAMP for one in (nearest, *inside))

    def check_queue(self, queue: str) -> None:
        """Raises InvalidArgument where no worker would ever take a job from this queue."""
        if self.queues and queue not in self.queues:
            raise InvalidArgument(
                "queue",
                queue,
                "no worker takes jobs from it",
                f"use {', '.join(sorted(self.queues))}, or name it in the settings, "
                "under queues of [worker] or of a [pool.NAME]",
            )

    def below(self, namespace: str, kinds: Collection[str] = KINDS) -> list[Entry]:
        """The entries of one namespace."""
        return [one for one in self._of(kinds) if in_namespace(one.pattern, namespace)]

    def namespaces(self, kinds: Collection[str] = KINDS) -> list[str]:
        """The fewest namespaces that hold every entry of these kinds, sorted: one backend serves
        each.
        """
        parents = sorted({one.pattern.rpartition(".")[0] for one in self._of(kinds)}, key=len)
        found: list[str] = []
        for parent in parents:
            if not any(in_namespace(parent + ".*", shorter) for shorter in found):
                found.append(parent)
        return sorted(found)

    def _of(self, kinds: Collection[str]) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.kind in kinds]


def longest_call(entries: Iterable[Entry]) -> float:
    """The longest timeout of those that backends run themselves, in seconds."""
    return max((one.timeout for one in entries if one.mode == "foreground"), default=0.0)


def parse_api_map(
    text: str,
    file: str,
    queues: Collection[str] = (),
    built_in: Iterable[Entry] = (),
    site: str = "",
    php: PhpSite = STANDARD_PHP,
) -> ApiMap:
    """The map in a TOML text, for workers that take jobs from these queues, beside the entries
    that are ``built_in``; the files that it names are below the folder ``site``, and its PHP
    classes where ``php`` says. Raises ConfigError naming ``file`` and the line.
    """
    toml = LocatedToml(text, file)
    for key in toml.data:
        if key != "api":
            raise toml.error((key,), f"unknown table [{key}]", 'entries are [api."some.uri"]')
    api = toml.table(toml.data.get("api", {}), ("api",))
    entries = [
        _entry(toml, uri, toml.table(body, ("api", uri)), site, php) for uri, body in api.items()
    ]
    found = ApiMap(entries, queues, built_in)
    for entry in entries:
        try:
            found.check_queue(entry.queue)
        except InvalidArgument as error:
            raise toml.error(
                ("api", entry.pattern, "queue"),
                f"{entry.pattern}: {error.message}",
                error.about["remedy"],
            ) from None
    return found


def _entry(toml: LocatedToml, uri: str, body: dict[str, Any], site: str, php: PhpSite) -> Entry:
    path = ("api", uri)
    if any(isinstance(value, dict) for key, value in body.items() if key not in _CHECKS):
        # TOML reads [api.com.example] as three tables, one in the other.
        raise toml.error(path, f"{uri}: not in quotes", 'write [api."com.example.some_task"]')
    kinds = [key for key in KINDS if key in body]
    if len(kinds) != 1:
        raise toml.error(path, f"{uri}: needs exactly one of {', '.join(KINDS)}", "name one")
    fields: dict[str, Any] = {}
    for key, value in body.items():
        check = _CHECKS.get(key)
        if check is None:
            known = ", ".join(sorted(_CHECKS))
            raise toml.error((*path, key), f"{uri}: unknown option {key!r}", f"known: {known}")
        try:
            fields[key] = check(value)
        except InvalidArgument as error:
            place = (*path, *error.about["field"].split("."))
            raise toml.error(place, f"{uri}: {error.message}", error.about["remedy"]) from None
    try:
        check_pattern(uri)
    except InvalidArgument as error:
        raise toml.error(path, error.message, error.about["remedy"]) from None
    kind = kinds[0]
    target = fields.pop(kind)
    if isinstance(target, HttpTarget):
        target = target.placed(uri, site)
    elif kind == "php":
        target = php.target(target)
    _check_component(toml, uri, body)
    policy = {name: fields.pop(name) for name in Policy._fields if name in fields}
    entry = Entry(pattern=uri, kind=kind, target=target, policy=Policy(**policy), **fields)
    if entry.promote_after is not None:
        _check_promotion(toml, entry, entry.promote_after)
    return entry


def _check_component(toml: LocatedToml, uri: str, body: Mapping[str, Any]) -> None:
    """Its options are for who runs it."""
    for key in body if WAMP in body else ():
        if key != WAMP and (key, body[key]) != ("mode", "foreground"):
            remedy = "remove it, or let the entry say what the bus can run"
            problem = f"{key} is not for {WAMP}, whose calls a component of its own runs"
            raise toml.error(("api", uri, key), f"{uri}: {problem}", remedy)


def _check_promotion(toml: LocatedToml, entry: Entry, seconds: float) -> None:
    problem = remedy = ""
    if entry.mode == "background":
        problem, remedy = "is for foreground calls", "remove it: this call is a job at once"
    elif entry.kind not in SERVED:
        problem = f"is not for {entry.kind}, whose calls another program runs"
        remedy = 'remove it, or choose mode = "background"'
    elif seconds >= entry.timeout:
        problem = f"is not below the timeout, {entry.timeout:g}"
        remedy = "choose a smaller one, or a longer timeout"
    if problem:
        place = ("api", entry.pattern, "promote_after")
        raise toml.error(place, f"{entry.pattern}: promote_after {problem}", remedy)


def _python(value: Any) -> str:
    if isinstance(value, str) and _PYTHON.fullmatch(value):
        return value
    raise InvalidArgument(
        "python", value, "not a task's place", 'write "package.module:ClassOrFunction"'
    )


def _php(value: Any) -> str:
    if isinstance(value, str) and _PHP.fullmatch(value):
        return value
    raise InvalidArgument(
        "php", value, "not the name of a class", 'write "Example\\\\GetFreeSpace"'
    )


def _exec(value: Any) -> tuple[str, ...]:
    words = value if isinstance(value, list) else []
    if words and all(isinstance(word, str) and "\0" not in word for word in words) and words[0]:
        return tuple(words)
    raise InvalidArgument(
        "exec", value, "not an argument list", 'write ["program", "argument", ...]; no shell'
    )


def _wamp(value: Any) -> str:
    if value is True:
        return ""
    raise InvalidArgument(WAMP, value, "not true", "write wamp = true, or name another target")


def _mode(value: Any) -> Mode:
    for mode in MODES:
        if value == mode:
            return mode
    raise InvalidArgument("mode", value, "not a mode", f"use one of {', '.join(MODES)}")


_CHECKS: dict[str, Any] = {
    "python": _python,
    "php": _php,
    "http": check_http,
    "exec": _exec,
    WAMP: _wamp,
    "mode": _mode,
    **SHARED,
    **PER_ENTRY,
}
