"""RQ with its default worker, which forks a process for each job."""

from pathlib import Path

from bench.redis_peer import RedisPeer

QUEUE = "bench"


class Rq(RedisPeer):
    """Four `rq worker` processes on one queue."""

    client = "bench.rq_client"
    drain_jobs = 1000

    def __init__(self, python: Path, *, is_tuned: bool = False) -> None:
        """With RQ's defaults each child imports its task, and each job is logged in two lines."""
        super().__init__(python)
        self.name = "RQ, tuned" if is_tuned else "RQ"
        self._options = ["--quiet", "--config", "bench.rq_settings"] if is_tuned else []

    def start_workers(self, slots: int) -> None:
        """One process per slot."""
        for _ in range(slots):
            url = f"unix://{self._socket}"
            self._start_worker("rq.cli", "worker", *self._options, "--url", url, QUEUE)

    def settled(self) -> int:
        """Finished jobs; a failed one never counts, so a failure ends in a timeout."""
        return int(self._ask("ZCARD", f"rq:finished:{QUEUE}"))

    def settings(self) -> str:
        """Durability and pool."""
        tuned = " --quiet`, the tasks imported before the fork" if self._options else "`"
        return f"`rq worker{tuned}, one fork per job, results kept 500 s; {self._durability()}"
