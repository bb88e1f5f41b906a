"""Celery's prefork pool, with long-lived children and with one child per task."""

from pathlib import Path

from bench.redis_peer import RedisPeer


class Celery(RedisPeer):
    """One Celery worker whose pool has four processes."""

    client = "bench.celery_app"

    def __init__(self, python: Path, *, one_task_per_child: bool = False) -> None:
        super().__init__(python)
        self._options = ["--max-tasks-per-child=1"] if one_task_per_child else []
        self.name = "Celery, one task per child" if one_task_per_child else "Celery prefork"
        self.drain_jobs = 120 if one_task_per_child else 10_000

    def start_workers(self, slots: int) -> None:
        """One worker; its defaults, WARNING log level included, are Celery's."""
        app = ["celery", "--app", "bench.celery_app", "worker"]
        self._start_worker(*app, f"--concurrency={slots}", "--pool=prefork", *self._options)

    def settled(self) -> int:
        """Results recorded: the result backend has a Redis database to itself."""
        return int(self._ask("-n", "1", "DBSIZE"))

    def settings(self) -> str:
        """Durability and pool."""
        pool = " ".join(["`celery worker --pool=prefork", *self._options]) + "`"
        return (
            f"{pool}, Redis as broker and as result backend, acks_late off (Celery's default: "
            f"a task is lost if its worker dies); {self._durability()}"
        )
