"""The expiry of a MemoryStore's jobs."""

from taskbus.adapter.memory import MemoryStore
from taskbus.model.job import State


class MemoryExpiry:
    """Expiry; see ``taskbus.port.expiry``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def expired(self, now: float, limit: int) -> list[str]:
        """See Expiry."""
        with self._store._locked():
            jobs = self._store._jobs
            awaited = {
                link.before
                for link in self._store._links
                if link.after in jobs and jobs[link.after].state is State.WAITING
            }
            found = [
                (job.expires, job.id)
                for job in jobs.values()
                if job.expires is not None and job.expires <= now and job.id not in awaited
            ]
            return [job for _, job in sorted(found)[:limit]]
