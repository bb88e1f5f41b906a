"""A call as an HTTP request. Lean: the forker imports this.

With a body, the body is the call (``taskbus.handler.contract``). Without one, the query has each
keyword argument under its name, a text as it is and anything else as JSON; positional arguments are
one JSON list, ``args``. A ``plain`` target gets keyword arguments alone, as query or as JSON body.
"""

from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from taskbus.handler.contract import request
from taskbus.handler.http_progress import MEDIA_TYPE
from taskbus.handler.secret import proof
from taskbus.model.errors import InvalidArgument
from taskbus.model.http_target import BODYLESS, HttpTarget
from taskbus.model.json import dump
from taskbus.model.task import TaskInput
from taskbus.model.trace import trace_headers

_LONGEST_PATH = 8000
_PLAIN_ANSWERS = "application/json, application/problem+json;q=0.9"
_ANSWERS = f"{_PLAIN_ANSWERS}, {MEDIA_TYPE};q=0.9"
_VISIBLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


class Asked(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes | None


class Asking:
    """Makes the requests of one target."""

    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self._taken = target.taken | {"args"}
        parts = urlsplit(target.url)
        fixed = urlencode(target.params)
        query = "&".join(filter(None, (parts.query, fixed)))
        self._path = (parts.path or "/") + (f"?{query}" if query else "")
        said = {name.lower() for name, _ in target.headers}
        standard = {
            "Host": parts.netloc,
            "User-Agent": "taskbus",
            "Accept": _PLAIN_ANSWERS if target.plain else _ANSWERS,
        }
        self._headers = {
            name: value for name, value in standard.items() if name.lower() not in said
        }
        self._headers |= dict(target.headers)

    def __call__(self, task: TaskInput) -> Asked:
        """The request; raises InvalidArgument, ConfigError."""
        target = self._target
        if target.plain and task.args:
            raise InvalidArgument(
                "args", task.args, "for a service that has no positional arguments",
                "send keyword arguments",
            )  # fmt: skip
        path = self._placed(task.uri)
        headers = self._headers | _told(task)
        if target.auth:
            name, scheme, file = target.auth
            headers[name] = proof(scheme, file)
        if target.method in BODYLESS:
            return Asked(self._queried(path, task), headers, None)
        headers["Content-Type"] = "application/json"
        body = dump(task.kwargs).encode() if target.plain else request(task)
        return Asked(path, headers, body)

    def _placed(self, uri: str) -> str:
        """The path, with what was called in its places, none of which it can leave."""
        if "{" not in self._path:
            return self._path
        prefix = self._target.prefix
        name = uri[len(prefix) :] if prefix else uri.rpartition(".")[2]
        if not name.strip("."):
            raise InvalidArgument("uri", uri, "has no name below the entry", "call another URI")
        return self._path.replace("{uri}", quote(uri, "")).replace("{name}", quote(name, ""))

    def _queried(self, path: str, task: TaskInput) -> str:
        pairs: list[tuple[str, str]] = [("args", dump(task.args))] if task.args else []
        for name, value in task.kwargs.items():
            if name in self._taken:
                raise InvalidArgument(
                    f"kwargs.{name}", value, "a name that the API map has given away",
                    "leave it out",
                )  # fmt: skip
            pairs.append((name, value if isinstance(value, str) else dump(value)))
        if pairs:
            path += ("&" if "?" in path else "?") + urlencode(pairs)
        if len(path) > _LONGEST_PATH:
            raise InvalidArgument(
                "kwargs", f"{len(path)} bytes", "too long for a query",
                'send less, or let the API map say method = "POST"',
            )  # fmt: skip
        return path


def _told(task: TaskInput) -> dict[str, str]:
    """Headers that say which call this is."""
    details = task.details
    told = {"Taskbus-Uri": quote(task.uri, _VISIBLE)}
    if "job" in details:
        told |= {"Taskbus-Job": details["job"], "Taskbus-Attempt": str(details.get("attempt", 1))}
    if key := details.get("idempotency_key"):
        told["Idempotency-Key"] = quote(key, _VISIBLE)
    return told | trace_headers(details)
