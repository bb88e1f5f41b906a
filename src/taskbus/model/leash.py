"""How a call under way, which has a thread of its own, is ended from another one.

A thread cannot be ended; what it waits for, a program or a connection, can.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Ends it; True: at once, False: it may clean up.
Pull = Callable[[bool], None]


class Leash:
    """Held by who may want the call to end, tied by the handler that runs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pull: Pull | None = None
        self._is_pulled = False

    def pull(self, hard: bool) -> bool:
        """End the call, now or as soon as it begins; False where nothing is tied."""
        with self._lock:
            self._is_pulled = True
            if self._pull is None:
                return False
            self._pull(hard)
            return True

    @contextmanager
    def tied(self, pull: Pull) -> Iterator[None]:
        """Meanwhile ``pull`` may be called, in another thread."""
        with self._lock:
            self._pull = pull
            if self._is_pulled:
                pull(True)
        try:
            yield
        finally:
            with self._lock:
                self._pull = None
