"""So many calls at a time; the next ones wait for their turn, and hold no thread meanwhile."""

from collections import deque

from twisted.internet.defer import Deferred, succeed


class Turns:
    """The places of one target, given in the order in which they were asked for."""

    def __init__(self, places: float, waiting: int) -> None:
        """``places``: infinity for no limit. ``waiting``: how many may wait."""
        self._free = places
        self._most = waiting
        self._waiting: deque[Deferred[None]] = deque()

    def take(self) -> "Deferred[None] | None":
        """Fires when there is a place, which ``give`` gives back; None where too many wait. Who
        waits no more cancels it.
        """
        if self._free:
            self._free -= 1
            return succeed(None)
        if len(self._waiting) >= self._most:
            return None
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        return turn

    def give(self) -> None:
        """A place is free again."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._free += 1
