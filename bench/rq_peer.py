"""RQ with its default worker, which forks a process for each job."""

from bench.redis_peer import RedisPeer

QUEUE = "bench"


class Rq(RedisPeer):
    """Four `rq worker` processes on one queue."""

    name = "RQ"
    client = "bench.rq_client"
    drain_jobs = 1000

    def start_workers(self, slots: int) -> None:
        """One process per slot. Quiet: logging two lines per job would be charged to RQ."""
        for _ in range(slots):
            url = f"unix://{self._socket}"
            options = ["--quiet", "--config", "bench.rq_settings", "--url", url]
            self._start_worker("rq.cli", "worker", *options, QUEUE)

    def settled(self) -> int:
        """Finished jobs; a failed one never counts, so a failure ends in a timeout."""
        return int(self._ask("ZCARD", f"rq:finished:{QUEUE}"))

    def settings(self) -> str:
        """Durability and pool."""
        return (
            "`rq worker`, one fork per job, the tasks imported before the fork, results kept "
            f"500 s; {self._durability()}"
        )
