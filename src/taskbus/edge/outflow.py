"""What was sent to the router and still waits for it to be taken."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

# A transport says that it is full from 64 KB on. So much more may be sent at once all the same.
_MOST_BYTES = 2_000_000


@implementer(IPushProducer)
class Outflow:
    """Listens to one transport at a time. Without one, what is sent goes nowhere, at once."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._is_full = False
        self._beyond = 0
        self._waiting: list[Deferred[None]] = []

    def attach(self, transport: Any) -> None:
        """Twisted's transport below a new session; None when the session is gone."""
        if self._transport is not None:
            self._transport.unregisterProducer()
        self._transport = transport
        self.resumeProducing()
        if transport is not None:
            transport.registerProducer(self, True)

    def sent(self, size: int) -> None:
        """About so many bytes."""
        if self._is_full:
            self._beyond += size

    def has_room(self) -> bool:
        """Whether more may be sent at once."""
        return self._beyond < _MOST_BYTES

    def drained(self) -> "Deferred[None]":
        """Fires when the router has taken (almost) everything."""
        if not self._is_full:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._is_full = True

    def resumeProducing(self) -> None:
        """It is empty."""
        self._is_full, self._beyond = False, 0
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def stopProducing(self) -> None:
        """It is closed."""
        self._transport = None
        self.resumeProducing()
