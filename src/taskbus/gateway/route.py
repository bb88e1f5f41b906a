"""Routes, and what their handlers get and give.

A handler is ``async def handler(request: Request, bus: Bus) -> Answer | Stream``. When the client
hangs up, whatever it awaits is cancelled.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.types import CallResult
from twisted.internet.defer import Deferred

from taskbus.gateway.problem import HttpError, NoSuchMethod, NoSuchPath, UnsupportedMedia
from taskbus.model.errors import InvalidArgument
from taskbus.model.json import check_field
from taskbus.model.portable import DEEPEST
from taskbus.model.trace import Trace, parse_trace

_MOST_PARAMETERS = 100
_JSON = ("application/json", "")


class Headers(Mapping[str, str]):
    """A request's headers by name, in any case; several of one name are joined by commas."""

    def __init__(self, lines: Mapping[str, Sequence[str]]) -> None:
        self._lines = {name.lower(): ", ".join(values) for name, values in lines.items()}

    def __getitem__(self, name: str) -> str:
        return self._lines[name.lower()]

    def __iter__(self) -> Any:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


@dataclass(frozen=True)
class Request:
    """What a client asks. ``id`` names this request in log lines and errors; ``params``: what the
    path's ``{names}`` stand for; ``query``: all values of each name; ``client``: its IP address;
    ``target``: path and query as they were sent, which is what a signature covers.
    """

    id: str
    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    headers: Headers
    body: bytes
    client: str
    secure: bool = False
    target: str = ""

    def one(self, name: str, default: str | None = None) -> str | None:
        """The value of a query parameter that may be sent once."""
        values = self.query.get(name, ())
        if len(values) > 1:
            raise InvalidArgument(name, ", ".join(values), "sent twice", "send it once")
        return values[0] if values else default

    def number(self, name: str) -> int | None:
        """A query parameter that is a whole number."""
        text = self.one(name)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        raise InvalidArgument(name, text, "not a whole number", f"send ?{name}=100")

    @property
    def trace(self) -> Trace | None:
        """The W3C trace that it belongs to."""
        return parse_trace(self.headers.get("traceparent"), self.headers.get("tracestate"))

    def json(self) -> Any:
        """The body's value, as every door can carry it; raises InvalidArgument."""
        coding = self.headers.get("content-encoding", "identity")
        if coding.strip().lower() != "identity":
            raise UnsupportedMedia(
                f"the body is {coding}, not plain",
                {"Accept-Encoding": "identity"},
                field="content-encoding",
                value=coding,
                remedy="send it as it is",
            )
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _JSON:
            raise UnsupportedMedia(
                f"the body is {kind}, not JSON",
                {"Accept": "application/json"},
                field="content-type",
                value=kind,
                remedy="send JSON, and Content-Type: application/json",
            )
        return parse_json(self.body)

    def fields(self, *known: str) -> dict[str, Any]:
        """The body, an object with no other fields than these; all where none is named."""
        value = self.json()
        if not isinstance(value, dict):
            raise InvalidArgument("body", value, "not an object", 'send {"name": value, ...}')
        return only(value, known) if known else value


def only(value: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The object, which has no other fields than these; raises InvalidArgument."""
    for name in value:
        if name not in known:
            raise InvalidArgument(name, value[name], "unknown field", f"known: {', '.join(known)}")
    return value


def parse_json(body: bytes) -> Any:
    """JSON in UTF-8, no deeper than the bus carries, of finite numbers; raises InvalidArgument."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(body.decode(), parse_constant=refuse, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise InvalidArgument("body", "", "not UTF-8", "send JSON in UTF-8") from None
    except RecursionError:
        raise InvalidArgument(
            "body", "", f"nested more than {DEEPEST} deep", "send a flatter value"
        ) from None
    except ValueError as error:
        shown = body[:100].decode(errors="replace")
        raise InvalidArgument("body", shown, f"not JSON: {error}", "send JSON") from None
    check_field("body", value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names a key twice")
    return found


@dataclass(frozen=True)
class Answer:
    """``body``: a JSON value, or bytes whose Content-Type is among the headers; None for none."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Writer(Protocol):
    """Where a stream goes."""

    def write(self, data: bytes) -> "Deferred[None]":
        """Fires when there is room for more; fails with ConnectionError once the client is gone."""


@dataclass(frozen=True)
class Stream:
    """An answer that is written while ``run(writer)`` runs, and ends with it. Cancelled when the
    client hangs up, or when the program stops.
    """

    run: Callable[[Writer], Awaitable[None]]
    headers: Mapping[str, str]
    status: int = 200


class Bus(Protocol):
    """The bus as who the request has proved to come from; fails with Unauthenticated for none."""

    def call(self, uri: str, /, *args: Any, **kwargs: Any) -> "Deferred[Any]":
        """As ``Session.call``; cancelling it cancels the call."""

    def call_whole(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> "Deferred[CallResult]":
        """The same, with all that the result consists of."""

    def session(self) -> "Deferred[ApplicationSession]":
        """The identity's session, shared with its other requests; for subscriptions."""

    @property
    def identity(self) -> str:
        """Its authid, empty for none."""


Handler = Callable[[Request, Bus], Awaitable[Answer | Stream]]


@dataclass(frozen=True)
class Route:
    """``path`` may have ``{name}`` in the place of whole segments. ``doc``: its OpenAPI operation,
    whose parameters say which query parameters there are; others are refused, unless it is
    ``open_query``. ``public``: who sends it need not prove anything.
    """

    method: str
    path: str
    handler: Handler
    doc: Mapping[str, Any] = field(default_factory=dict)
    public: bool = False
    open_query: bool = False

    @property
    def names(self) -> list[str]:
        """What its path leaves open."""
        return [one[1:-1] for one in self.path.split("/") if one.startswith("{")]

    @property
    def known_query(self) -> frozenset[str]:
        """The query parameters that it takes."""
        return frozenset(
            one["name"] for one in self.doc.get("parameters", ()) if one.get("in") == "query"
        )


class Table:
    """All routes, by path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._of: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        seen = set()
        for route in routes:
            pattern = tuple(route.path.removeprefix("/").split("/"))
            shape = (route.method, *("{}" if one.startswith("{") else one for one in pattern))
            if shape in seen:
                raise ValueError(f"two routes for {route.method} {route.path}")
            seen.add(shape)
            self._of.setdefault(len(pattern), []).append((pattern, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route of a path as it was sent, and its parameters; raises HttpError."""
        found = self.at(path)
        if not found:
            raise NoSuchPath(
                f"there is nothing at {path}",
                field="path",
                value=path,
                remedy="see /docs for what there is",
            )
        wanted = "GET" if method == "HEAD" else method
        for route, params in found:
            if route.method == wanted:
                return route, params
        allowed = allowed_methods([route for route, _ in found])
        raise NoSuchMethod(
            f"{method} is not possible at {path}",
            {"Allow": allowed},
            field="method",
            value=method,
            remedy=f"use {allowed}",
        )

    def at(self, path: str) -> list[tuple[Route, dict[str, str]]]:
        """All routes of a path, with its parameters; literal segments win over named ones."""
        segments = _segments(path)
        fits = []
        for pattern, route in self._of.get(len(segments), ()):
            params = _match(pattern, segments)
            if params is not None:
                fits.append((len(params), route, params))
        least = min((count for count, _, _ in fits), default=0)
        return [(route, params) for count, route, params in fits if count == least]


def allowed_methods(routes: Sequence[Route]) -> str:
    """The value of an Allow header."""
    methods = {route.method for route in routes}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _match(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    params = {}
    for want, have in zip(pattern, segments, strict=True):
        if want.startswith("{"):
            if not have:
                return None
            params[want[1:-1]] = have
        elif want != have:
            return None
    return params


def _segments(path: str) -> list[str]:
    """The segments, decoded once. None may hold what another reader would take for two, or for a
    way up.
    """
    if not path.startswith("/"):
        raise HttpError(
            f"the target {path!r} is no path", field="path", value=path, remedy="begin it with /"
        )
    segments = []
    for part in path[1:].split("/"):
        try:
            text = unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise InvalidArgument("path", path, "not UTF-8", "encode it as UTF-8") from None
        if text in (".", "..") or any(one in "/\\" or ord(one) < 32 for one in text):
            raise InvalidArgument(
                "path",
                path,
                "a segment that is . or .., or holds a slash",
                "write the path plainly",
            )
        segments.append(text)
    return segments


def parse_query(text: str) -> dict[str, list[str]]:
    """All values by name; raises InvalidArgument."""
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError as error:
        raise InvalidArgument("query", text, str(error), "send ?name=value&name=value") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        check_field(name, value)
        found.setdefault(name, []).append(value)
    return found
