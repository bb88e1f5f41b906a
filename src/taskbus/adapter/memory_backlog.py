"""The backlog of a MemoryStore."""

from taskbus.adapter.memory import MemoryStore
from taskbus.model.job import Placement, State


class MemoryBacklog:
    """Backlog; see ``taskbus.port.backlog``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def queued(self, after: str, limit: int) -> list[Placement]:
        """See Backlog."""
        with self._store._locked():
            jobs = sorted(job for job in self._store._jobs.values() if job.id > after)
            return [job.placement for job in jobs if job.state is State.QUEUED][:limit]
