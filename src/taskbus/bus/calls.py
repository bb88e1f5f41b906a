"""The calls that a program has taken and not yet answered."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from taskbus.model.errors import Stopped


class Calls:
    """Counts them, so that a program can end after its last answer."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: set[Deferred[Any]] = set()
        self._held: set[Deferred[None]] = set()
        self._waiting: list[Deferred[None]] = []
        self._is_cut = False

    def __len__(self) -> int:
        return len(self._open) + len(self._held)

    def watch(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """The endpoint, whose calls are counted where they are not answered at once."""

        def call(*args: Any) -> Any:
            answer = endpoint(*args)
            if isinstance(answer, Deferred):
                self._open.add(answer)
                answer.addBoth(self._closed, answer)
            return answer

        return call

    def hold(self, going_on: "Deferred[None]") -> None:
        """Count what goes on after its call was answered."""
        self._held.add(going_on)

        def closed(_result: Any) -> None:
            self._held.discard(going_on)
            self._look()

        going_on.addBoth(closed)

    def answered(self) -> "Deferred[None]":
        """Fires when no call is open and all answers have been given to the session."""
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        self._look()
        return done

    def cut(self) -> None:
        """Answer all that are open with an error; what they do may go on."""
        self._is_cut = True
        for one in (*self._open, *self._held):
            one.cancel()

    def forsake(self) -> None:
        """The session is gone, and with it whoever waits for an answer: end what can be ended."""
        for answer in tuple(self._open):
            # Not at once: the session, which is told of the end, has yet to know that it is gone.
            self._reactor.callLater(0, answer.cancel)

    def _closed(self, result: Any, answer: "Deferred[Any]") -> Any:
        self._open.discard(answer)
        self._look()
        if self._is_cut and isinstance(result, Failure):
            return Failure(Stopped("this call was still running when its program had to stop"))
        return result

    def _look(self) -> None:
        if not len(self):
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                # Not at once: the session has yet to send what closed the last call.
                self._reactor.callLater(0, done.callback, None)
