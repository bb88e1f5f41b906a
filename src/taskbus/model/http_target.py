"""What ``http = ...`` in the API map says: a URL alone, or a table. Lean: the forker imports this.

::

    [api."com.example.stock.*".http]
    url = "https://stock.example.com/v1/{name}"     # {name}: what is below com.example.stock
    method = "GET"
    auth = {bearer = "secrets/stock"}
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from taskbus.model.errors import InvalidArgument

METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE")
# Those have no body: what they send is in the query.
BODYLESS = frozenset({"GET", "DELETE"})
# RFC 9110, 9.2.2: to do it twice is as if it was done once.
IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
PLACES = ("{uri}", "{name}")
MOST_TRIES = 10
MOST_CONNECTIONS = 1000
MOST_WAITING = 10_000
LONGEST_IDLE = 3600.0

_VISIBLE = re.compile(r"[!-~]+")  # Anything else is percent-encoded in a URL.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
_BRACED = re.compile(r"\{[^{}]*\}|[{}]")
# Two of them would contradict each other, and where a message ends is no caller's choice.
_OURS = frozenset(
    {
        "accept-encoding", "connection", "content-length", "content-type", "expect",
        "idempotency-key", "keep-alive", "te", "traceparent", "tracestate", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_OUR_PREFIX = "taskbus-"


class HttpTarget(NamedTuple):
    """One ``http`` target; JSON makes a list of it, and ``HttpTarget(*list)`` one again.

    ``auth``: header, scheme (may be empty) and the file of the secret. ``prefix``: that of the URIs
    of a wildcard entry, as ``com.x.``. ``keep_alive``: seconds for which an unused connection is
    kept. ``plain``: the service does not speak the bus' contract.
    """

    url: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    auth: tuple[str, str, str] | None = None
    verify: bool = True
    ca: str | None = None
    connections: int | None = None
    waiting: int = 100
    # Node, Apache and uvicorn close theirs after five seconds, and a call on its way is lost then.
    keep_alive: float = 4.0
    tries: int = 1
    idempotent: bool = False
    plain: bool = False
    prefix: str = ""

    def placed(self, pattern: str, site: str) -> "HttpTarget":
        """The target of this entry, its files below the site's folder."""
        return self._replace(
            prefix=pattern.removesuffix("*") if pattern.endswith(".*") else "",
            auth=self.auth and (*self.auth[:2], os.path.join(site, self.auth[2])),
            ca=self.ca and os.path.join(site, self.ca),
        )

    @property
    def may_be_repeated(self) -> bool:
        """Whether a call that may have been carried out can be sent again."""
        return self.idempotent or self.method in IDEMPOTENT

    @property
    def taken(self) -> frozenset[str]:
        """The names in the query that no caller can choose."""
        query = urlsplit(self.url).query
        return frozenset(name for name, _ in (*parse_qsl(query, True), *self.params))


def check_http(value: Any) -> HttpTarget:
    """The value of ``http``; raises InvalidArgument."""
    if not isinstance(value, dict):
        return HttpTarget(check_url("http", value))
    for name, given in value.items():
        if name not in _CHECKS:
            known = ", ".join(_CHECKS)
            raise InvalidArgument(f"http.{name}", given, "unknown option", f"known: {known}")
    if "url" not in value:
        raise InvalidArgument("http", value, "has no url", 'write url = "http://host:port/path"')
    target = HttpTarget(
        **{name: check(f"http.{name}", value[name]) for name, check in _CHECKS.items()
           if name in value}
    )  # fmt: skip
    _check_whole(target, value)
    return target


def _check_whole(target: HttpTarget, value: Mapping[str, Any]) -> None:
    """What no option alone says."""
    for name in ("ca", "verify"):
        if name in value and not target.url.startswith("https:"):
            raise InvalidArgument(
                f"http.{name}", value[name], "without TLS", "write https:// in url, or remove it"
            )
    if target.ca and not target.verify:
        raise InvalidArgument("http.ca", target.ca, "without verification", "remove verify = false")
    if "waiting" in value and target.connections is None:
        raise InvalidArgument(
            "http.waiting", target.waiting, "nothing to wait for", "add connections = 8"
        )
    if target.auth and target.auth[0].lower() in {name.lower() for name, _ in target.headers}:
        raise InvalidArgument(
            "http.headers", target.auth[0], "the header of auth", "name it only once"
        )
    if "args" in target.taken:
        raise InvalidArgument(
            "http.params", "args", "the name of the positional arguments", "choose another one"
        )


def check_url(field: str, value: Any) -> str:
    """An http URL; in its path and its query there may be PLACES."""
    if isinstance(value, str) and _VISIBLE.fullmatch(value):
        parts = _parts(value)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.fragment:
            if "@" in parts.netloc:
                raise InvalidArgument(
                    field, f"{parts.scheme}://...@...", "has a password in it",
                    'write it in a file and auth = {basic = "file"}',
                )  # fmt: skip
            wrong = [one for one in _BRACED.findall(value) if one not in PLACES]
            if wrong or _BRACED.search(parts.netloc):
                raise InvalidArgument(
                    field, value, "has a placeholder that is unknown, or in the wrong place",
                    f"use {' and '.join(PLACES)}, in the path or the query",
                )  # fmt: skip
            return value
    raise InvalidArgument(field, value, "not an http URL", 'write "http://host:port/path"')


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises where it is no port.
    except ValueError:
        return urlsplit("")
    return parts


def _method(field: str, value: Any) -> str:
    if value in METHODS:
        return str(value)
    raise InvalidArgument(field, value, "not a method", f"use one of {', '.join(METHODS)}")


def _headers(field: str, value: Any) -> tuple[tuple[str, str], ...]:
    remedy = 'write {Accept-Language = "en"}, of visible ASCII'
    seen = set()
    for name, text in _table(field, value, remedy):
        _header(f"{field}.{name}", name)
        if name.lower() == "authorization":
            raise InvalidArgument(
                f"{field}.{name}", "...", "a secret in the API map",
                'write it in a file and auth = {bearer = "file"}',
            )  # fmt: skip
        if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            raise InvalidArgument(f"{field}.{name}", text, "not a header's value", remedy)
        if name.lower() in seen:
            raise InvalidArgument(f"{field}.{name}", text, "there twice", "write it once")
        seen.add(name.lower())
    return tuple(value.items())


def _header(field: str, name: Any) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidArgument(field, name, "not a header's name", "use letters, digits and -")
    if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIX):
        raise InvalidArgument(field, name, "a header that the bus sets itself", "remove it")
    return name


def _params(field: str, value: Any) -> tuple[tuple[str, str], ...]:
    remedy = 'write {format = "json", limit = 10}'
    found = []
    for name, given in _table(field, value, remedy):
        if isinstance(given, bool) or not isinstance(given, (str, int, float)):
            raise InvalidArgument(f"{field}.{name}", given, "not a text or a number", remedy)
        found.append((name, str(given)))
    return tuple(found)


def _table(field: str, value: Any, remedy: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    raise InvalidArgument(field, value, "not a table", remedy)


def _auth(field: str, value: Any) -> tuple[str, str, str]:
    names = value.keys() if isinstance(value, dict) else set()
    if names == {"bearer"} or names == {"basic"}:
        [(scheme, file)] = value.items()
        return "Authorization", scheme.capitalize(), _file(f"{field}.{scheme}", file)
    if names == {"header", "file"}:
        name = _header(f"{field}.header", value["header"])
        return name, "", _file(f"{field}.file", value["file"])
    raise InvalidArgument(
        field, sorted(names) or "...", "not a way to prove who calls",
        'write {bearer = "file"}, {basic = "file"} or {header = "X-Api-Key", file = "file"}',
    )  # fmt: skip


def _file(field: str, value: Any) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise InvalidArgument(field, value, "not a file", "name one, relative to the site's folder")


def _flag(field: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidArgument(field, value, "neither true nor false", "write one of them")


def _count(least: int, most: int) -> Callable[[str, Any], int]:
    def check(field: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise InvalidArgument(field, value, "not a count", f"use {least} to {most}")

    return check


def _idle(field: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value <= LONGEST_IDLE:
        return float(value)
    raise InvalidArgument(
        field, value, "not a number of seconds",
        f"use 0 to {LONGEST_IDLE:g}; 0 for a new connection each time",
    )  # fmt: skip


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "url": check_url,
    "method": _method,
    "headers": _headers,
    "params": _params,
    "auth": _auth,
    "verify": _flag,
    "ca": _file,
    "connections": _count(1, MOST_CONNECTIONS),
    "waiting": _count(0, MOST_WAITING),
    "keep_alive": _idle,
    "tries": _count(1, MOST_TRIES),
    "idempotent": _flag,
    "plain": _flag,
}
