"""A program on the bus: it joins again after every loss, and stops without losing a call."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from autobahn.twisted.component import Component
from autobahn.twisted.wamp import Session
from autobahn.wamp.request import Registration
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from taskbus.bus.calls import Calls
from taskbus.bus.session import REALM, AnsweringSession, transport

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_LAST_SECONDS = 5.0
# Objects that may be garbage before the collector looks for it.
_GARBAGE = 20_000


class Service(Protocol):
    """What a program does on the bus."""

    calls: Calls

    def join(self, session: Session) -> "Deferred[list[Registration]]":
        """Make a new session useful; when that fails, the session is closed and made anew."""
        ...

    def leave(self) -> None:
        """The session is gone."""
        ...

    def retire(self) -> None:
        """No more calls will come: end those that only wait for something."""
        ...

    def close(self) -> bool:
        """The last step; False where a thread is left that does not end."""
        ...


class Program:
    """One service, one session at a time."""

    def __init__(
        self,
        reactor: Any,
        router_socket: Path,
        principal: tuple[str, str],
        service: Service,
        on_gone: Callable[[], None],
        patience: float,
    ) -> None:
        """``principal``: authid and ticket. ``on_gone`` is called whenever it serves no more.
        ``patience``: seconds that calls in hand may take once it has been told to stop.
        """
        authid, ticket = principal
        self._reactor = reactor
        self._service = service
        self._on_gone = on_gone
        self._patience = patience
        self._is_told = self._is_stopping = False
        self._session: Session | None = None
        self._joining: Deferred[None] | None = None
        self._registrations: list[Registration] = []
        self._component = Component(
            transports=[transport(str(router_socket))],
            realm=REALM,
            authentication={"ticket": {"authid": authid, "ticket": ticket}},
            session_factory=AnsweringSession,
        )
        self._component.on("join", self._join)
        self._component.on("leave", self._leave)
        self._component.on("disconnect", self._leave)

    def run(self) -> None:
        """Until TERM or INT, which lets the calls in hand finish; a second one does not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._connect()
        # What is loaded by now stays: the collector need not look at it again, nor run for every
        # few hundred objects where a call alone makes dozens.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        self._reactor.run(installSignalHandlers=False)
        if not self._service.close():
            log.warning("leaving a thread that does not end")
            logging.shutdown()
            os._exit(0)

    def _connect(self) -> None:
        self._component.start(self._reactor).addBoth(self._again)

    def _again(self, _result: Any) -> None:
        """Autobahn takes it for the end when either side has said goodbye."""
        if not self._is_stopping:
            self._reactor.callLater(_AGAIN_SECONDS, self._connect)

    def _join(self, session: AnsweringSession, _details: Any) -> "Deferred[None]":
        def joined(registrations: list[Registration]) -> None:
            self._registrations = registrations

        def failed(failure: Failure) -> None:
            log.error("joined, but cannot serve: %s", failure.getErrorMessage())
            if session.is_attached():
                session.leave()

        self._session = session
        session.on_displaced = partial(self._displaced, session)
        # A backend with half its URIs is worse than none.
        self._joining = maybeDeferred(self._service.join, session).addCallbacks(joined, failed)
        return self._joining

    def _leave(self, *_args: Any, **_kwargs: Any) -> None:
        self._session, self._registrations = None, []
        self._service.leave()
        self._on_gone()

    def _displaced(self, session: Session) -> None:
        """Somebody has started another one of these. Left without its URIs, this one would seem to
        serve until the other has ended, and for ever after. supervisord starts its own one again,
        which takes them back: the other leaves, too.
        """
        if session is self._session and not self._is_stopping:
            log.warning("another process has taken over what this one serves")
            self._stop()

    def _on_signal(self, *_: object) -> None:
        self._reactor.callFromThread(self._hurry if self._is_told else self._stop)
        self._is_told = True

    @inlineCallbacks
    def _stop(self) -> Any:
        if self._is_stopping:
            return
        self._is_stopping = True
        log.info("stopping; %d calls in hand", len(self._service.calls))
        late = self._reactor.callLater(self._patience, self._hurry)
        self._on_gone()
        yield self._joining
        yield self._unregister()
        self._service.retire()
        yield self._service.calls.answered()
        if self._session is not None and self._session.is_attached():
            # Its goodbye is answered after everything that was sent before it.
            yield self._session.leave()
        if late.active():
            late.cancel()
        self._end_soon()
        self._reactor.stop()

    def _unregister(self) -> "Deferred[Any]":
        """The router's answer comes after the last call that it had for us."""
        leaving = [maybeDeferred(one.unregister) for one in self._registrations]
        return DeferredList(leaving, consumeErrors=True)

    def _hurry(self) -> None:
        log.warning("not waiting for %d calls", len(self._service.calls))
        self._service.calls.cut()
        self._end_soon()

    def _end_soon(self) -> None:
        """Come what may: the reactor, too, may be waiting for somebody."""
        end = threading.Timer(_LAST_SECONDS, self._give_up)
        end.daemon = True
        end.start()

    def _give_up(self) -> None:
        log.error("the router or the store does not answer: leaving without")
        logging.shutdown()
        os._exit(1)
