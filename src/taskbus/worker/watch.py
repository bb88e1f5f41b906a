"""A bell that also shows a job's journal to whoever rings it: a worker in a terminal."""

from collections.abc import Callable

from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import Event
from taskbus.port.bell import Bell
from taskbus.port.store import Store


class JournalBell:
    """A Bell, which shows what is new since it was made; see ``taskbus.port.bell``."""

    def __init__(self, bell: Bell, store: Store, job: str, show: Callable[[Event], None]) -> None:
        self._bell = bell
        self._store = store
        self._job = job
        self._show = show
        self._seen = 0
        for event in self._new():
            self._seen = event.seq

    def ring(self) -> None:
        """See Bell."""
        self._bell.ring()
        try:
            for event in self._new():
                self._seen = event.seq
                self._show(event)
        except StoreUnavailable:
            pass  # With the next ring.
        except BrokenPipeError:
            # Nobody looks any more; the job goes on.
            self._show = lambda _: None

    def _new(self) -> list[Event]:
        return self._store.events(self._job, self._seen, 1_000_000)
