"""Who asks: the credential of a request, and the WAMP session that is opened with it.

The router decides whom it lets in, and what each may call; a session stays for a while, so that the
next request with the same credential finds it.
"""

import base64
import binascii
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.serializer import MsgPackSerializer
from autobahn.wamp.types import (
    CallOptions,
    CallResult,
    Challenge,
    CloseDetails,
    ComponentConfig,
    SessionDetails,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.python.failure import Failure

from taskbus.bus.session import REALM, spared
from taskbus.core.signed import SignedRequests
from taskbus.core.throttle import Throttles
from taskbus.gateway.problem import HttpError
from taskbus.gateway.route import Request
from taskbus.model.access import split_token
from taskbus.model.errors import InvalidArgument, TaskbusError, Unauthenticated
from taskbus.model.signed_request import Signed, parse_signature
from taskbus.model.trace import Trace
from taskbus.model.uri import is_loose_uri

log = logging.getLogger(__name__)

_MOST_SESSIONS = 256
_IDLE_SECONDS = 60.0
_JOIN_SECONDS = 10.0
# Principals that are parts of the bus itself: nobody is one of them over HTTP.
_OWN = frozenset({"backend", "control", "gateway", "php"})
_TAKEN = frozenset({"self", "procedure", "options"})
_CANNOT_LOOK = ApplicationError.AUTHENTICATION_FAILED
_REMEDY = "send Authorization: Bearer KEY; 'taskbus key create' makes keys"


class Unreachable(HttpError):
    """The router does not answer."""

    uri = "taskbus.error.unreachable"


class Busy(HttpError):
    """More identities at a time than the gateway keeps sessions for."""

    uri = "taskbus.error.rate_limited"


class Credential(NamedTuple):
    """What the router is shown: who somebody claims to be, and the proof."""

    authid: str
    ticket: str


def credential(request: Request, signed: SignedRequests) -> Credential | None:
    """The credential of a request, None for none; raises Unauthenticated for what is no credential.

    ``Bearer tb_<id>_<secret>`` is an access key; ``Basic`` a principal's name and its ticket. A
    signature (``taskbus.model.signed_request``) is the proof of a key that is not sent.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    if told := parse_signature(header):
        path, _, query = request.target.partition("?")
        return Credential(
            told.key, signed.check(told, Signed(request.method, path, query, request.body))
        )
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and (found := split_token(value)):
        return Credential(found[0], value)
    if scheme.lower() == "basic":
        try:
            authid, colon, ticket = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        else:
            if colon and authid not in _OWN:
                return Credential(authid, ticket)
    raise Unauthenticated("this is no credential", field="authorization", remedy=_REMEDY)


class Sessions:
    """One session for each credential."""

    def __init__(self, reactor: Any, router_socket: Path, throttles: Throttles) -> None:
        """``throttles``: how many requests each access key may send."""
        self._throttles = throttles
        self._reactor = reactor
        self._endpoint = UNIXClientEndpoint(reactor, str(router_socket), timeout=_JOIN_SECONDS)
        # The longest unused first. By digest: what is kept in memory is no proof.
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def borrow(self, who: Credential) -> "Deferred[_Kept]":
        """A session of this identity, to be given back; fails with Unauthenticated, Unreachable,
        Busy or RateLimited.
        """
        digest = hashlib.sha256(repr(who).encode()).digest()
        kept = self._kept.get(digest)
        if kept is None:
            if not self._has_room():
                return fail(Busy("too many identities at a time", remedy="ask again"))
            kept = _Kept(self._reactor, lambda: self._drop(digest, kept))
            self._kept[digest] = kept
            kept.open(self._endpoint, who)
        self._kept.move_to_end(digest)
        kept.users += 1
        return kept.ready().addCallback(self._counted).addErrback(kept.given_up)

    def _counted(self, kept: "_Kept") -> "_Kept":
        self._throttles.take(kept.authid, kept.rate)
        return kept

    def close(self, authid: str | None = None) -> None:
        """End the sessions of one identity, or all of them: what they call is cancelled."""
        for kept in tuple(self._kept.values()):
            if authid is None or kept.authid == authid:
                kept.leave()

    def _has_room(self) -> bool:
        if len(self._kept) < _MOST_SESSIONS:
            return True
        for kept in self._kept.values():
            if not kept.users:
                kept.leave()
                return True
        return False

    def _drop(self, digest: bytes, kept: "_Kept | None") -> None:
        if kept is not None and self._kept.get(digest) is kept:
            del self._kept[digest]


class _Kept:
    """A session, and how many requests use it."""

    def __init__(self, reactor: Any, on_gone: Callable[[], None]) -> None:
        self.users = 0
        self.authid = ""
        self.session: _Session | None = None
        self._reactor = reactor
        self._on_gone = on_gone
        self._waiting: list[Deferred[_Kept]] = []
        self._is_left = False
        self._idle: Any = None

    @property
    def rate(self) -> str | None:
        """What the bus says of an access key's rate."""
        return None if self.session is None else self.session.rate

    def open(self, endpoint: UNIXClientEndpoint, who: Credential) -> None:
        self.authid = who.authid
        session = _Session(who, self._gone)
        factory = WampRawSocketClientFactory(lambda: session, MsgPackSerializer())
        late = self._reactor.callLater(_JOIN_SECONDS, self._late, session)

        def settled(result: Any) -> None:
            if late.active():
                late.cancel()
            if isinstance(result, Failure):
                self._settle(Failure(_refusal(result.value)))
            else:
                self.session = session
                self._settle(None)
                if self._is_left:
                    session.end()

        connecting = endpoint.connect(factory)
        connecting.addErrback(session.joined)
        session.ready.addBoth(settled)

    def ready(self) -> "Deferred[_Kept]":
        """Fires with this once it has joined."""
        if self.session is not None:
            return succeed(self)
        waiting: Deferred[_Kept] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def give_back(self) -> None:
        """Nobody of this request uses it any more."""
        self.users -= 1
        if not self.users:
            self._stop_idling()
            self._idle = self._reactor.callLater(_IDLE_SECONDS, self._leave_idle)

    def given_up(self, failure: Failure) -> Failure:
        """It did not join, or its user did not wait for that."""
        self.give_back()
        return failure

    def leave(self) -> None:
        """End it, now or once it has joined."""
        self._is_left = True
        self._on_gone()
        self._stop_idling()
        if self.session is not None:
            self.session.end()

    def _leave_idle(self) -> None:
        if not self.users:
            self.leave()

    def _late(self, session: "_Session") -> None:
        session.joined(Failure(Unreachable("the router does not answer")))
        session.end()

    def _settle(self, failure: Failure | None) -> None:
        if failure is not None:
            self._on_gone()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.called:
                continue
            if failure is None:
                one.callback(self)
            else:
                one.errback(failure)

    def _gone(self) -> None:
        self._stop_idling()
        self._on_gone()

    def _stop_idling(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()


class _Session(ApplicationSession):
    """Joins with a ticket."""

    def __init__(self, who: Credential, on_gone: Callable[[], None]) -> None:
        super().__init__(ComponentConfig(REALM))
        self.ready: Deferred[None] = Deferred()
        self.rate: str | None = None
        self._who = who
        self._on_gone = on_gone

    def joined(self, failure: Failure | None = None) -> None:
        """It has joined, or never will."""
        if not self.ready.called:
            if failure is None:
                self.ready.callback(None)
            else:
                self.ready.errback(failure)

    def end(self) -> None:
        """Say goodbye."""
        if self.is_attached():
            self.leave()
        else:
            self.disconnect()

    def onMessage(self, msg: Any) -> None:
        super().onMessage(spared(msg))

    def onConnect(self) -> None:
        self.join(REALM, ["ticket"], self._who.authid)

    def onChallenge(self, _challenge: Challenge) -> str:
        return self._who.ticket

    def onJoin(self, details: SessionDetails) -> None:
        self.rate = (details.authextra or {}).get("rate")
        self.joined()

    def onLeave(self, details: CloseDetails) -> None:
        self.joined(Failure(ApplicationError(details.reason, details.message)))
        self.disconnect()

    def onDisconnect(self) -> None:
        super().onDisconnect()
        self.joined(Failure(Unreachable("the router closed the connection")))
        self._on_gone()


def _refusal(error: BaseException | None) -> Exception:
    """Why there is no session."""
    if isinstance(error, TaskbusError):
        return error
    if isinstance(error, ApplicationError) and error.error != _CANNOT_LOOK:
        log.info("the router refuses: %s", error.error_message())
        return Unauthenticated(
            "the router does not know this credential", field="authorization", remedy=_REMEDY
        )
    return Unreachable("the router cannot be reached", remedy="ask again")


class IdentityBus:
    """``Bus`` for one request."""

    def __init__(
        self, sessions: Sessions, who: Credential | None, trace: Trace | None = None
    ) -> None:
        """``trace``: what the request belongs to, and so each of its calls."""
        self._sessions = sessions
        self._who = who
        self._trace = trace
        self._kept: _Kept | None = None

    @property
    def identity(self) -> str:
        """See Bus."""
        return "" if self._who is None else self._who.authid

    def session(self) -> "Deferred[ApplicationSession]":
        """See Bus."""
        if self._kept is not None and self._kept.session is not None:
            return succeed(self._kept.session)
        if self._who is None:
            return fail(Unauthenticated("this needs a key", field="authorization", remedy=_REMEDY))

        def borrowed(kept: _Kept) -> Any:
            self._kept = kept
            return kept.session

        return self._sessions.borrow(self._who).addCallback(borrowed)

    def call(self, uri: str, /, *args: Any, **kwargs: Any) -> "Deferred[Any]":
        """See Bus."""
        self._mark(kwargs.setdefault("options", CallOptions()))
        return self.session().addCallback(lambda one: one.call(uri, *args, **kwargs))

    def call_whole(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> "Deferred[CallResult]":
        """See Bus."""
        if not is_loose_uri(uri):
            raise InvalidArgument("uri", uri, "not a URI", "send com.example.some.uri")
        for name in _TAKEN & kwargs.keys():
            raise InvalidArgument(
                f"kwargs.{name}", kwargs[name], "a keyword that Autobahn keeps", "choose another"
            )
        options = CallOptions(details=True)
        self._mark(options)

        def whole(result: CallResult) -> CallResult:
            result.kwresults = result.kwresults or {}
            return result

        calling = self.session().addCallback(
            lambda one: one.call(uri, *args, options=options, **kwargs)
        )
        return calling.addCallback(whole)

    def _mark(self, options: CallOptions) -> None:
        """The call belongs to the request's trace."""
        if self._trace is not None:
            options.transaction_hash = self._trace.text

    def close(self) -> None:
        """The request is over."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            kept.give_back()
