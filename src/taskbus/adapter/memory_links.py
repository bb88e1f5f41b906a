"""Links in the memory of one process; see ``taskbus.adapter.memory``."""

from collections.abc import Collection

from taskbus.adapter.memory import MemoryStore
from taskbus.model.job import Job, Link, State
from taskbus.port.links import Ended


class MemoryLinks:
    """Links inside a MemoryStore; see ``taskbus.port.links``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def of(self, jobs: Collection[str]) -> list[Link]:
        """See Links."""
        with self._store._locked():
            return sorted(link for link in self._store._links if link.before in jobs)

    def meet(self, jobs: Collection[str], conditions: Collection[str]) -> None:
        """See Links."""
        with self._store._locked():
            for link in self._store._links:
                if link.before in jobs and link.on in conditions:
                    self._store._links[link] = True

    def waiting(self, jobs: Collection[str]) -> list[Job]:
        """See Links."""
        with self._store._locked():
            return self._waiting(jobs)

    def free(self, jobs: Collection[str]) -> list[Job]:
        """See Links."""
        with self._store._locked():
            links = self._store._links.items()
            held = {link.after for link, is_met in links if not is_met}
            return self._waiting({link.after for link, _ in links if link.before in jobs} - held)

    def tied(self, before: float, limit: int) -> list[Job]:
        """See Links."""
        with self._store._locked():
            found = [
                (job.finished, job)
                for job in self._store._jobs.values()
                if job.tied and job.finished is not None and job.finished < before
            ]
            return [job for _, job in sorted(found)[:limit]]

    def untie(self, jobs: Collection[str]) -> None:
        """See Links."""
        with self._store._locked():
            known = self._store._jobs
            for job in jobs:
                if job in known and known[job].finished is not None:
                    known[job] = known[job]._replace(tied=0)

    def outcomes(self, jobs: Collection[str], largest: int) -> list[Ended]:
        """See Links."""
        with self._store._locked():
            found = [self._store._jobs[job] for job in jobs if job in self._store._jobs]
            results = self._store._results
            return [_ended(job, job.error or results.get(job.id), largest) for job in found]

    def _waiting(self, jobs: Collection[str]) -> list[Job]:
        found = (self._store._jobs[job] for job in jobs if job in self._store._jobs)
        return [job for job in found if job.state is State.WAITING and job.lane is None]


def _ended(job: Job, body: str | None, largest: int) -> Ended:
    size = len(body or "")
    return Ended(job.id, job.uri, job.state, body if size <= largest else None, size)
