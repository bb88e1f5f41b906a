"""The gateway's web server: bytes from the router become requests, and answers bytes.

It listens on a Unix socket that only the router uses, so it believes what that says of the client.
"""

import gzip
import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from autobahn.twisted.wamp import Session
from autobahn.wamp.request import Registration
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.web import http

from taskbus.bus.calls import Calls
from taskbus.core.signed import SignedRequests
from taskbus.gateway.identity import IdentityBus, Sessions, credential
from taskbus.gateway.own import Own
from taskbus.gateway.problem import (
    HttpError,
    TooLarge,
    as_error,
    problem,
    problem_headers,
    status_of,
)
from taskbus.gateway.route import (
    Answer,
    Headers,
    Request,
    Route,
    Stream,
    Table,
    allowed_methods,
    parse_query,
)
from taskbus.model.errors import InvalidArgument
from taskbus.model.identity import new_job_id
from taskbus.model.settings import Settings

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 60
_SANE_ID = re.compile(r"[A-Za-z0-9._:@-]{1,100}")
# Above that the time it takes would be everybody's: one thread answers all.
_SMALLEST_ZIPPED, _LARGEST_ZIPPED = 1024, 2**20
_ZIP_LEVEL = 5
_SEEN_BY_PAGES = "ETag, Link, Location, Retry-After, X-Request-Id"
_LONGEST_PREFLIGHT = "600"
_SAFE: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Gateway:
    """The service: its routes, and the sessions of those who use them."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        table: Table,
        sessions: Sessions,
        own: Own,
        signed: SignedRequests,
        on_serving: Callable[[int], None],
    ) -> None:
        """``on_serving`` is called with the number of routes each time they can be used."""
        self.calls = Calls(reactor)
        self._reactor = reactor
        self._settings = settings
        self._table = table
        self._sessions = sessions
        self._own = own
        self._signed = signed
        self._on_serving = on_serving
        self._port: Any = None
        self._streams: set[Deferred[None]] = set()

    def listen(self) -> None:
        """Be there for the router, whether the bus can be reached or not."""
        path = self._settings.gateway_socket
        path.unlink(missing_ok=True)
        factory = _Factory(self, self._reactor)
        self._port = self._reactor.listenUNIX(str(path), factory, backlog=1024, mode=0o660)

    def join(self, session: Session) -> "Deferred[list[Registration]]":
        """See Service."""
        self._own.session = session
        self._on_serving(len(self._table.routes))
        log.info("serving %d routes", len(self._table.routes))
        return succeed([])

    def leave(self) -> None:
        """See Service."""
        self._own.session = None

    def retire(self) -> None:
        """See Service. Streams have no end of their own."""
        if self._port is not None:
            self._port.stopListening()
        for stream in tuple(self._streams):
            stream.cancel()

    def close(self) -> bool:
        """See Service."""
        self._sessions.close()
        return True

    @property
    def body_limit(self) -> int:
        """Bytes that a request's body may have."""
        return self._settings.gateway_body

    def watch_stream(self, running: "Deferred[None]") -> None:
        """Remember what has to be ended with the program."""
        self._streams.add(running)
        running.addBoth(lambda _: self._streams.discard(running))

    @property
    def origins(self) -> Collection[str]:
        """The web pages that may use it."""
        return self._settings.gateway_origins

    async def answer(self, request: Request, bus: IdentityBus) -> Answer | Stream:
        """What a request is answered with, or its error."""
        if request.method == "OPTIONS" and (routes := self._table.at(request.path)):
            return self._options(request, [route for route, _ in routes])
        route, params = self._table.find(request.method, request.path)
        if not route.public:
            await bus.session()
        unknown = set() if route.open_query else request.query.keys() - route.known_query
        for name in sorted(unknown):
            known = ", ".join(sorted(route.known_query)) or "none"
            raise InvalidArgument(
                name, ", ".join(request.query[name]), "unknown parameter", f"known: {known}"
            )
        return await route.handler(replace(request, params=params), bus)

    def bus_of(self, request: Request) -> IdentityBus:
        """The bus as who sends this."""
        return IdentityBus(self._sessions, credential(request, self._signed), request.trace)

    def _options(self, request: Request, routes: Sequence[Route]) -> Answer:
        allowed = allowed_methods(routes)
        headers = {"Allow": f"{allowed}, OPTIONS"}
        if request.headers.get("origin") in self.origins:
            headers |= {
                "Access-Control-Allow-Methods": allowed,
                "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, "
                "If-Match, If-None-Match, Last-Event-ID, Prefer, X-Request-Id",
                "Access-Control-Max-Age": _LONGEST_PREFLIGHT,
            }
        return Answer(204, None, headers)


class _Factory(http.HTTPFactory):
    """Makes requests of ours."""

    noisy = False

    def __init__(self, gateway: Gateway, reactor: Any) -> None:
        super().__init__(timeout=_REQUEST_SECONDS, reactor=reactor)
        self._gateway = gateway

    def buildProtocol(self, addr: Any) -> Any:
        """See Factory."""
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = lambda channel, *_: _Received(channel, self._gateway)
        return channel

    def log(self, request: Any) -> None:
        """No access log: what went wrong is logged where it does."""


class _Received(http.Request):
    """A request of Twisted's, once all of it is there."""

    def __init__(self, channel: Any, gateway: Gateway) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self._gateway = gateway

    def process(self) -> None:
        """Called by Twisted."""
        _Exchange(self, self._gateway).begin()


class _Exchange:
    """One request and its answer."""

    def __init__(self, received: _Received, gateway: Gateway) -> None:
        self._http: Any = received
        self._gateway = gateway
        self._id = new_job_id()
        self._is_gone = False
        self._is_full = False
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        """Answer it; what is under way is cancelled when the client hangs up."""
        answering = self._gateway.calls.watch(lambda: Deferred.fromCoroutine(self._answer()))()
        answering.addErrback(self._broken)

        def gone(_failure: Failure) -> None:
            self._is_gone = True
            answering.cancel()

        self._http.notifyFinish().addErrback(gone)

    async def _answer(self) -> None:
        bus: IdentityBus | None = None
        try:
            asked = self._read()
            bus = self._gateway.bus_of(asked)
            answer = await self._gateway.answer(asked, bus)
            if isinstance(answer, Stream):
                await self._stream(answer)
            else:
                self._send(answer)
        except Exception as error:  # noqa: BLE001 - the client hears of it
            self._refuse(error)
        finally:
            if bus is not None:
                bus.close()

    def _read(self) -> Request:
        received = self._http
        sent_id = received.getHeader("x-request-id") or ""
        if _SANE_ID.fullmatch(sent_id):
            self._id = sent_id
        body = received.content.read()
        if len(body) > self._gateway.body_limit:
            raise TooLarge(f"the body is larger than {self._gateway.body_limit} bytes")
        try:
            method, target = received.method.decode("ascii"), received.uri.decode("ascii")
            lines = {
                name.decode(): [value.decode() for value in values]
                for name, values in received.requestHeaders.getAllRawHeaders()
            }
        except UnicodeDecodeError:
            raise InvalidArgument("headers", "", "not UTF-8", "send ASCII") from None
        path, _, query = target.partition("?")
        return Request(
            id=self._id,
            method=method,
            path=path,
            params={},
            query=parse_query(query),
            headers=Headers(lines),
            body=body,
            client=received.getHeader("x-forwarded-for") or "",
            secure=received.getHeader("x-forwarded-proto") == "https",
            target=target,
        )

    def _send(self, answer: Answer) -> None:
        if self._is_gone:
            return
        status, headers, body = answer.status, dict(answer.headers), answer.body
        if body is None:
            body = b""
        elif not isinstance(body, bytes):
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        if status == http.OK and self._is_known(headers.get("ETag")):
            status, body = http.NOT_MODIFIED, b""
            headers.pop("Content-Type", None)
        if len(body) >= _SMALLEST_ZIPPED and "Content-Encoding" not in headers:
            body = self._zipped(body, headers)
        if status not in http.NO_BODY_CODES:
            headers["Content-Length"] = str(len(body))
        self._head(status, headers)
        self._http.write(body)
        self._http.finish()

    def _is_known(self, tag: str | None) -> bool:
        """Whether the client has it already, in whatever coding."""
        known = self._http.getHeader("if-none-match")
        if tag is None or known is None or self._http.method not in (b"GET", b"HEAD"):
            return False
        tags = [one.strip().removeprefix("W/") for one in known.split(",")]
        return known.strip() == "*" or tag.removeprefix("W/") in tags

    def _zipped(self, body: bytes, headers: dict[str, str]) -> bytes:
        headers["Vary"] = ", ".join(filter(None, (headers.get("Vary"), "Accept-Encoding")))
        if len(body) > _LARGEST_ZIPPED or not self._takes_gzip():
            return body
        headers["Content-Encoding"] = "gzip"
        if "ETag" in headers:
            # The same job in other bytes.
            headers["ETag"] = f"W/{headers['ETag'].removeprefix('W/')}"
        return gzip.compress(body, _ZIP_LEVEL, mtime=0)

    def _takes_gzip(self) -> bool:
        for one in (self._http.getHeader("accept-encoding") or "").lower().split(","):
            coding, _, weight = one.partition(";")
            if coding.strip() in ("gzip", "*"):
                return not re.fullmatch(r"q=0(\.0*)?", weight.replace(" ", ""))
        return False

    async def _stream(self, answer: Stream) -> None:
        if self._is_gone:
            return
        self._head(answer.status, answer.headers)
        self._http.write(b"")
        self._http.registerProducer(self, True)
        running = Deferred.fromCoroutine(_as_coroutine(answer, self))
        self._gateway.watch_stream(running)
        try:
            await running
        except CancelledError:
            pass  # The client has gone, or the program stops: either ends the stream.
        finally:
            if not self._is_gone:
                self._http.unregisterProducer()
        if not self._is_gone:
            self._http.finish()

    def write(self, data: bytes) -> "Deferred[None]":
        """See Writer."""
        if self._is_gone:
            return fail(ConnectionError("the client is gone"))
        self._http.write(data)
        if not self._is_full:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._is_full = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._is_full = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(None)

    def stopProducing(self) -> None:
        """The client is gone; ``begin`` hears of it, too."""

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        http_ = self._http
        http_.setResponseCode(status, HTTPStatus(status).phrase.encode())
        for name, value in {**_SAFE, **headers, "X-Request-Id": self._id}.items():
            http_.setHeader(name, value)
        if not self._gateway.origins:
            return
        # Whether it is named or not: a shared cache must not give one origin another's answer.
        http_.setHeader("Vary", ", ".join(filter(None, (headers.get("Vary"), "Origin"))))
        origin = http_.getHeader("origin")
        if origin in self._gateway.origins:
            http_.setHeader("Access-Control-Allow-Origin", origin)
            http_.setHeader("Access-Control-Expose-Headers", _SEEN_BY_PAGES)

    def _refuse(self, error: Exception) -> None:
        if self._is_gone:
            return
        if self._http.startedWriting:
            raise error
        uri, message, about = as_error(error)
        status = status_of(uri)
        headers = problem_headers(status, about)
        if isinstance(error, HttpError):
            headers |= error.headers
        if status >= http.INTERNAL_SERVER_ERROR:
            log.warning("request %s: %s: %s", self._id, uri, message)
        self._send(Answer(status, problem(uri, message, about, self._id), headers))

    def _broken(self, failure: Failure) -> None:
        """Part of it is sent: only the end of the connection tells that the rest is missing."""
        if not self._is_gone:
            log.error("request %s: its answer broke", self._id, exc_info=failure.value)
            self._http.channel.transport.abortConnection()


async def _as_coroutine(answer: Stream, writer: _Exchange) -> None:
    await answer.run(writer)
