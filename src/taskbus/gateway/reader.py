"""One who reads a stream over HTTP, at its own pace: what it does not take, it does not get."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from taskbus.bus.follower import Item
from taskbus.gateway.problem import HttpError
from taskbus.gateway.route import Writer

STALL_SECONDS = 30.0
_BEAT_SECONDS = 15.0


class Stalled(HttpError):
    """A reader has taken nothing for too long."""

    uri = "taskbus.error.stalled"


class Reader:
    """Has room until it is full; if it stays so, there never will be."""

    def __init__(self, reactor: Any, writer: Writer, beat: bytes = b"") -> None:
        """``beat``: what is sent when there has been nothing to send for a while."""
        self._reactor = reactor
        self._writer = writer
        self._beat = beat
        self._is_full = False
        self._is_stalled = False
        self._waiting: list[Deferred[None]] = []
        self._timer: Any = None
        self._rest()

    def give(self, items: Sequence[Item]) -> None:
        """More for it."""
        self.write(b"".join([item.body for item in items]))

    def write(self, data: bytes) -> None:
        """The bytes themselves."""
        if not data:
            return
        written = self._writer.write(data)
        if not written.called and not self._is_full:
            self._is_full = True
            self._set(STALL_SECONDS, self._stall)
            written.addCallback(self._emptied)
        # When it has gone, whoever reads for it is cancelled.
        written.addErrback(lambda _: None)

    def has_room(self) -> bool:
        """Whether it takes what it gets."""
        return not self._is_full

    def room(self) -> "Deferred[None]":
        """Fires when it has; fails with Stalled."""
        if self._is_stalled:
            return fail(_stalled())
        if not self._is_full:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def close(self) -> None:
        """Nothing more will be written."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _emptied(self, _result: None) -> None:
        if not self._is_stalled:
            self._is_full = False
            self._rest()
            for one in self._take_waiting():
                one.callback(None)

    def _take_waiting(self) -> "list[Deferred[None]]":
        waiting, self._waiting = self._waiting, []
        return [one for one in waiting if not one.called]

    def _rest(self) -> None:
        if self._beat:
            self._set(_BEAT_SECONDS, self._tick)
        else:
            self.close()

    def _tick(self) -> None:
        self._rest()
        self.write(self._beat)

    def _set(self, seconds: float, then: Any) -> None:
        self.close()
        self._timer = self._reactor.callLater(seconds, then)

    def _stall(self) -> None:
        self._is_stalled = True
        for one in self._take_waiting():
            one.errback(_stalled())


def _stalled() -> Stalled:
    return Stalled(f"the reader has taken nothing for {STALL_SECONDS:g} seconds")
