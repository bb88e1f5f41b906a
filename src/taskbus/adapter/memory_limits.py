"""The limits' side of a MemoryStore."""

from taskbus.adapter.memory import MemoryStore
from taskbus.model.job import Job, Place, State


class MemoryLimits:
    """Limits; see ``taskbus.port.limits``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def places(self, lane: str) -> list[Place]:
        """See Limits."""
        with self._store._locked():
            return [one for one in self._store._places.values() if one.lane == lane]

    def coming(self, lane: str) -> int:
        """See Limits."""
        return len(self._jobs(lane, State.QUEUED))

    def first(self, lane: str, count: int) -> list[Job]:
        """See Limits."""
        found = self._jobs(lane, State.WAITING)
        return sorted(found, key=lambda job: (-job.priority, job.id))[:count]

    def crowded(self) -> list[str]:
        """See Limits."""
        with self._store._locked():
            jobs = self._store._jobs.values()
            return sorted({job.lane for job in jobs if job.lane and job.state is State.WAITING})

    def forget(self, now: float) -> int:
        """See Limits."""
        with self._store._locked():
            before = len(self._store._places)
            self._store._drop_places(lambda one: one.until is not None and one.until <= now)
            return before - len(self._store._places)

    def _jobs(self, lane: str, state: State) -> list[Job]:
        with self._store._locked():
            jobs = self._store._jobs.values()
            return [job for job in jobs if job.lane == lane and job.state is state]
