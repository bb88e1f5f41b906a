"""The expiry of a MemoryStore's jobs."""

from taskbus.adapter.memory import MemoryStore


class MemoryExpiry:
    """Expiry; see ``taskbus.port.expiry``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def expired(self, now: float, limit: int) -> list[str]:
        """See Expiry."""
        with self._store._locked():
            jobs = self._store._jobs
            needed = self._store._needed()
            found = [
                (job.expires, job.id)
                for job in jobs.values()
                if job.expires is not None and job.expires <= now and job.id not in needed
            ]
            return [job for _, job in sorted(found)[:limit]]
