"""A real router for tests, and sessions on it that a test can use without knowing Twisted."""

import json
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.serializer import JsonSerializer, MsgPackSerializer
from autobahn.wamp.types import (
    CallOptions,
    Challenge,
    CloseDetails,
    ComponentConfig,
    PublishOptions,
    RegisterOptions,
    SessionDetails,
    SubscribeOptions,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.python.failure import Failure

from taskbus.site.router import render_node
from tests.support.processes import PATIENCE, REPOSITORY

REALM = "realm1"
NAMESPACES = ("com.example.dante", "com.example.shop")
NOTIFY_TOPIC = "com.example.queue.notify"
BRIDGE_KEY, BRIDGE_SECRET = "cron", "the bridge's secret"
_BOOTED = "NODE_BOOT_COMPLETE"

Via = Literal["socket", "websocket"]


@dataclass(frozen=True)
class Router:
    """A running node."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    log: list[str]

    @property
    def socket(self) -> Path:
        """RawSocket, for the principals control, backend and operator."""
        return self.folder / "router.sock"

    @property
    def url(self) -> str:
        """The web transport."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """Ends the node; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def running_router(
    folder: Path,
    namespaces: Sequence[str] = NAMESPACES,
    client_timeout: int = 60,
    without: Sequence[str] = (),
) -> Iterator[Router]:
    """A node with its files in ``folder`` (whose path is short: it holds a socket).

    ``client_timeout``: seconds that one HTTP request may take to arrive. ``without`` these paths,
    as if it had not yet come so far.
    """
    router = start_router(folder, namespaces, client_timeout, without)
    try:
        yield router
    finally:
        router.stop()


def start_router(
    folder: Path,
    namespaces: Sequence[str] = NAMESPACES,
    client_timeout: int = 60,
    without: Sequence[str] = (),
) -> Router:
    """Start a node on a free port; returns when it has booted completely."""
    port = _free_port()
    write_config(folder, port, namespaces, client_timeout, without)
    crossbar = REPOSITORY / ".venv-router/bin/crossbar"
    process = subprocess.Popen(
        [REPOSITORY / "crossbar/start", folder, folder / "router.sock"],
        env={"TASKBUS_CROSSBAR": str(crossbar), **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    router = Router(folder, port, process, [])
    settled = threading.Event()
    threading.Thread(target=_follow, args=(router, settled), daemon=True).start()
    settled.wait(PATIENCE)
    if not any(_BOOTED in line for line in router.log):
        router.stop()
        raise RuntimeError("the router did not boot:\n" + "".join(router.log[-40:]))
    return router


def write_config(
    folder: Path,
    port: int,
    namespaces: Sequence[str] = NAMESPACES,
    client_timeout: int = 60,
    without: Sequence[str] = (),
) -> None:
    """Render the node's config.json. A principal's ticket is ``<principal>'s ticket``."""
    values: dict[str, str | int] = {
        "http_host": "127.0.0.1",
        "http_port": port,
        "web_dir": str(REPOSITORY / "crossbar/web"),
        "router_socket": str(folder / "router.sock"),
        "router_python": str(REPOSITORY / "crossbar"),
        "notify_topic": NOTIFY_TOPIC,
        "gateway_socket": str(folder / "gateway.sock"),
        "gateway_body": 1_048_576,
        "bridge_key": BRIDGE_KEY,
        "bridge_secret": BRIDGE_SECRET,
    }
    for principal in ("control", "backend", "gateway", "php", "operator", "browser"):
        values[f"ticket_{principal}"] = ticket_of(principal)
    template = (REPOSITORY / "crossbar/config.json").read_text()
    node = json.loads(render_node(template, values, namespaces))
    web = node["workers"][0]["transports"][0]
    web["options"]["client_timeout"] = client_timeout
    for path in without:
        del web["paths"][path]
    (folder / "config.json").write_text(json.dumps(node))


def ticket_of(principal: str) -> str:
    """The ticket that ``write_config`` gave it."""
    return f"{principal}'s ticket"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _follow(router: Router, settled: threading.Event) -> None:
    """Keep what the node says, so that it never waits for a reader."""
    assert router.process.stdout is not None
    with router.process.stdout as lines:
        for line in lines:
            router.log.append(line)
            if _BOOTED in line:
                settled.set()
    settled.set()


class Session:
    """A WAMP session for the test's thread: every method waits for the router's answer."""

    def __init__(self, inner: "_Session") -> None:
        self._inner = inner

    @property
    def id(self) -> int:
        """The session's id on the router."""
        assert self._inner.session_id is not None
        return self._inner.session_id

    def call(self, uri: str, /, *args: Any, **kwargs: Any) -> Any:
        """The result of a call; ApplicationError when it fails."""
        return _in_reactor(self._inner.call, uri, *args, **kwargs)

    def begin(
        self, uri: str, /, *args: Any, on_progress: Callable[[Any], Any], **kwargs: Any
    ) -> Callable[[], Any]:
        """Send a call before any later one; what this returns waits for the answer.

        ``on_progress`` runs in the reactor, with each progressive result.
        """
        options = CallOptions(on_progress=on_progress)
        return _begin(self._inner.call, uri, *args, options=options, **kwargs)

    def register(
        self,
        procedure: Callable[..., Any],
        uri: str,
        match: str = "exact",
        force_reregister: bool | None = None,
    ) -> None:
        """Serve ``uri``; the procedure runs in the reactor and gets a keyword ``details``."""
        options = RegisterOptions(
            match=match, details_arg="details", force_reregister=force_reregister
        )
        _in_reactor(self._inner.register, procedure, uri, options=options)

    def subscribe(
        self, topic: str, match: str = "exact"
    ) -> "queue.SimpleQueue[tuple[tuple[Any, ...], dict[str, Any]]]":
        """The topic's events from now on, as (args, kwargs)."""
        events: queue.SimpleQueue[tuple[tuple[Any, ...], dict[str, Any]]] = queue.SimpleQueue()
        _in_reactor(
            self._inner.subscribe,
            lambda *args, **kwargs: events.put((args, kwargs)),
            topic,
            options=SubscribeOptions(match=match),
        )
        return events

    def subscribe_whole(self, topic: str) -> "queue.SimpleQueue[Any]":
        """The details of the topic's events."""
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        _in_reactor(
            self._inner.subscribe,
            lambda *_, details, **__: events.put(details),
            topic,
            options=SubscribeOptions(details_arg="details"),
        )
        return events

    def publish(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """Publish, and wait until the router has taken it."""
        _in_reactor(
            self._inner.publish, topic, *args, options=PublishOptions(acknowledge=True), **kwargs
        )

    def read_no_more(self) -> None:
        """What the router sends from now on stays with it."""
        _in_reactor(self._inner.pause)

    def close_in_call(self, uri: str) -> None:
        """Call, and close the WebSocket with the same bytes, wanting no answer of either."""
        _in_reactor(self._inner.close_in_call, uri)

    def abort(self) -> None:
        """Cut the connection."""
        _in_reactor(self._inner.abort)

    def await_end(self) -> None:
        """Wait until the router has ended it."""
        _in_reactor(lambda: self._inner.closed)

    def leave(self) -> None:
        """Say goodbye and wait until the connection is closed."""
        _in_reactor(self._inner.leave_and_close)


@contextmanager
def joined(
    router: Router, principal: str | None, ticket: str | None = None, via: Via = "socket"
) -> Iterator[Session]:
    """A session of this principal with its own ticket, or another; None joins as anonymous.

    It speaks what is usual there: MessagePack on the socket, JSON over WebSocket.
    """
    inner = _Session(principal, ticket_of(principal or "") if ticket is None else ticket)
    _in_reactor(_connect, inner, router, via)
    session = Session(inner)
    try:
        yield session
    finally:
        session.leave()


class _Session(ApplicationSession):
    def __init__(self, authid: str | None, ticket: str) -> None:
        super().__init__(ComponentConfig(REALM))
        self._wanted_authid = authid
        self._ticket = ticket
        self.ready: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def leave_and_close(self) -> "Deferred[None]":
        if self.is_attached():
            self.leave()
        return self.closed

    def pause(self) -> None:
        self._protocol.transport.pauseProducing()

    def close_in_call(self, uri: str) -> None:
        self.call(uri).addErrback(lambda _: None)
        # Else it would cut the connection after a second without an answer.
        self._protocol.closeHandshakeTimeout = 0
        self._protocol.sendClose()

    def abort(self) -> "Deferred[None]":
        self._protocol.transport.abortConnection()
        return self.closed

    @property
    def _protocol(self) -> Any:
        return self._transport

    def onConnect(self) -> None:
        if self._wanted_authid is None:
            self.join(REALM, ["anonymous"])
        else:
            self.join(REALM, ["ticket"], self._wanted_authid)

    def onChallenge(self, challenge: Challenge) -> str:
        return self._ticket

    def onJoin(self, details: SessionDetails) -> None:
        self.ready.callback(None)

    def onLeave(self, details: CloseDetails) -> None:
        if not self.ready.called:
            self.ready.errback(ApplicationError(details.reason, details.message))
        self.disconnect()

    def onDisconnect(self) -> None:
        super().onDisconnect()  # Calls that wait for an answer hear that none will come.
        if not self.ready.called:
            self.ready.errback(ConnectionError("the router closed the connection"))
        self.closed.callback(None)


def _connect(inner: _Session, router: Router, via: Via) -> "Deferred[None]":
    endpoint: UNIXClientEndpoint | TCP4ClientEndpoint
    factory: WampRawSocketClientFactory | WampWebSocketClientFactory
    if via == "socket":
        endpoint = UNIXClientEndpoint(reactor, str(router.socket))
        factory = WampRawSocketClientFactory(lambda: inner, MsgPackSerializer())
    else:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", router.port)
        url = f"ws://127.0.0.1:{router.port}/ws"
        factory = WampWebSocketClientFactory(lambda: inner, url, serializers=[JsonSerializer()])
    connecting: Deferred[Any] = endpoint.connect(factory)  # type: ignore[arg-type]
    return connecting.addCallback(lambda _: inner.ready)


def _in_reactor(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The outcome of ``function``, called in the reactor's thread."""
    return _begin(function, *args, **kwargs)()


def _begin(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def call() -> None:
        maybeDeferred(function, *args, **kwargs).addBoth(outcomes.put)

    def wait() -> Any:
        try:
            outcome = outcomes.get(timeout=PATIENCE)
        except queue.Empty:
            raise TimeoutError(f"no answer within {PATIENCE:g} seconds") from None
        if isinstance(outcome, Failure):
            raise outcome.value  # type: ignore[misc]
        return outcome

    _run_reactor()
    reactor.callFromThread(call)
    return wait


_reactor_lock = threading.Lock()


def _run_reactor() -> None:
    """A process has one reactor: from first use on it runs in a thread of its own."""
    with _reactor_lock:
        if reactor.running:
            return
        running = threading.Event()
        reactor.callWhenRunning(running.set)
        threading.Thread(
            target=reactor.run,  # type: ignore[misc]
            kwargs={"installSignalHandlers": False},
            daemon=True,
        ).start()
        running.wait()
