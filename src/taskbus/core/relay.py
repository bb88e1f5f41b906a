"""The relay: the journal, read once, for everybody who watches it."""

from collections.abc import Callable, Sequence

from taskbus.port.store import Entry, Store

_BITE = 1000


class Relay:
    """Follows the journal of all jobs from where it stood when the relay was made.

    Clients that were away read what they missed from the journal itself, by sequence number.
    """

    def __init__(
        self,
        store: Store,
        deliver: Callable[[int, Sequence[Entry]], None],
        is_watched: Callable[[], bool],
    ) -> None:
        """``deliver`` gets entries and the position since which they are all there are. The next
        ones are read when it has returned.
        """
        self._store = store
        self._deliver = deliver
        self._is_watched = is_watched
        self._position = store.position()

    def run(self) -> None:
        """Deliver everything that is new, or skip it where nobody watches."""
        newest = self._store.position()
        # Asked after the position: whoever begins to watch later reads what was written earlier.
        if not self._is_watched():
            self._position = newest
        while entries := self._store.journal(self._position, _BITE):
            after, self._position = self._position, entries[-1].position
            self._deliver(after, entries)
