"""What RQ and Celery have in common: a Redis of their own, and producers in their Python."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.contestant import Sample
from bench.environment import REPO
from bench.process import spawn, stop, wait_until


class RedisPeer:
    """Redis with the defaults it was built with (no config file), on a Unix socket only."""

    client = ""
    """The module that bench.producer submits through."""
    enqueue_jobs = 4000

    def __init__(self, python: Path) -> None:
        self._python = str(python)
        self._folder = Path()
        self._redis: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self, folder: Path) -> None:
        """Start Redis."""
        self._folder = folder
        server = shutil.which("redis-server")
        if server is None:
            raise SystemExit("bench: no redis-server: apt-get install redis-server")
        argv = [server, "--port", "0", "--unixsocket", self._socket, "--dir", str(folder)]
        self._redis = spawn(argv, folder / "redis.log", {})
        wait_until(lambda: self._ask("PING") == "PONG", "redis-server up", 10)

    def stop(self) -> None:
        """Workers first: they would log the loss of Redis, and wait for it."""
        stop(self._workers)
        self._workers = []
        if self._redis is not None:
            stop([self._redis])
            self._redis = None

    def processes(self) -> list[int]:
        """Return the pids of the workers and of Redis."""
        running = [*self._workers, *([self._redis] if self._redis else [])]
        return [process.pid for process in running]

    def rates(self) -> Mapping[str, float]:
        """See bench.producer."""
        answer: dict[str, float] = json.loads(self._produce("rates", str(self.enqueue_jobs)))
        return answer

    def submit(self, task: str, *args: str, count: int = 1) -> None:
        """See bench.producer."""
        self._produce("submit", str(count), task, *args)

    def latencies(self, samples: int, folder: Path) -> list[Sample]:
        """See bench.producer."""
        answer = json.loads(self._produce("latencies", str(samples), str(folder)))
        return [Sample(*times) for times in answer]

    @property
    def _socket(self) -> str:
        return str(self._folder / "redis.sock")

    @property
    def _env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(REPO), "BENCH_REDIS": self._socket}

    def _start_worker(self, *command: str) -> None:
        log = self._folder / f"worker-{len(self._workers)}.log"
        self._workers.append(spawn([self._python, "-m", *command], log, self._env))

    def _produce(self, *command: str) -> str:
        argv = [self._python, "-m", "bench.producer", self.client, *command]
        env = {**os.environ, **self._env}
        done = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.splitlines()[-1]

    def _ask(self, *command: str) -> str:
        argv = ["redis-cli", "-s", self._socket, *command]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    def _durability(self) -> str:
        """Return Redis's settings, in Redis's words and in plain ones."""
        settings = {name: self._ask("CONFIG", "GET", name).partition("\n")[2] for name in _SETTINGS}
        version = self._ask("INFO", "server").partition("redis_version:")[2].split()[0]
        asked = ", ".join(f'{name} "{value}"' for name, value in settings.items())
        if settings["appendonly"] == "yes":
            meaning = "every write is logged, flushed as appendfsync says"
        elif settings["save"]:
            meaning = "an accepted job is in memory only until the next snapshot"
        else:
            meaning = "nothing is ever on disk"
        return f"Redis {version} with its defaults: {asked} ({meaning})"


_SETTINGS = ("appendonly", "appendfsync", "save")
