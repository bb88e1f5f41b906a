"""taskbus itself: a whole site of its own in a temporary folder, started by `taskbus up`."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from bench.contestant import Sample
from bench.environment import REPO
from bench.process import spawn, stop, tree, wait_until
from bench.taskbus_site import NAMESPACE, SLOTS, Site

_CLIENT = "bench.taskbus_client"


class Taskbus:
    """One worker process that runs four jobs at a time, each in a process of its own."""

    name = "taskbus"
    drain_jobs = 10_000
    enqueue_jobs = 8000

    def __init__(self, store: str = "", more: str = "", kind: str = "python") -> None:
        """`store`: the URL of one that is not the default; `more`: settings, as TOML; `kind`: what
        the tasks are written in, "python" or "php".
        """
        self._store = store
        self._more = more
        self._kind = kind
        self._folder = Path()
        self._site: Site | None = None

    def start(self, folder: Path) -> None:
        """`up` starts workers too; those are stopped again."""
        self._folder = folder
        self._site = Site(folder / "site")
        self._site.write(_free_port(), self._store, self._more, self._kind)
        self._taskbus("up", "--detach")
        self._supervisorctl("stop", "worker:*")

    def start_workers(self, slots: int) -> None:
        """Start the worker; its slots are in the settings, which `up` has read."""
        if slots != SLOTS:
            raise ValueError(f"the site is made for {SLOTS} slots, not {slots}")
        self._supervisorctl("start", "worker:*")

    def rates(self) -> Mapping[str, float]:
        """See bench.taskbus_client. The no-op procedure is only up meanwhile."""
        log = self._folder / "noop.log"
        noop = spawn([sys.executable, "-m", "bench.taskbus_noop", NAMESPACE], log, self._env)
        try:
            wait_until(lambda: "registered" in log.read_text(), "no-op registered", 20)
            command = ("bench.producer", _CLIENT, "rates", str(self.enqueue_jobs))
            answer: dict[str, float] = json.loads(self._run(*command))
        finally:
            stop([noop])
        return answer

    def submit(self, task: str, *args: str, count: int = 1) -> None:
        """In batches: the drain is not about submitting."""
        self._run(_CLIENT, str(count), task, *args)

    def latencies(self, samples: int, folder: Path) -> list[Sample]:
        """See bench.producer."""
        command = ("bench.producer", _CLIENT, "latencies", str(samples), str(folder))
        return [Sample(*times) for times in json.loads(self._run(*command))]

    def cancels(self, count: int, folder: Path) -> list[float]:
        """Seconds from the call of cancel to the end of a running job, one at a time."""
        found: list[float] = json.loads(
            self._run("bench.taskbus_life", "cancel", str(count), str(folder))
        )
        return found

    def log_lines(self, lines: int) -> float:
        """Lines of 80 bytes per second that one job writes, and the journal takes."""
        return float(self._run("bench.taskbus_life", "log", str(lines)))

    def settled(self) -> int:
        """Jobs in a final state; a failed one never counts, so a failure ends in a timeout."""
        if self._store:
            return int(json.loads(self._run("bench.taskbus_life", "settled")))
        # The file itself is asked sooner, and nobody's time is taken.
        return int(self._query("SELECT count(*) FROM job WHERE state = 'succeeded'"))

    def processes(self) -> list[int]:
        """Everything is below supervisord: the store's writer, the queue and the router too."""
        pid = self._there.supervisord_pid()
        return [] if pid is None else [pid]

    def settings(self) -> str:
        """Versions, durability and pool."""
        journal = self._query("PRAGMA journal_mode")
        return (
            f"taskbus {version('taskbus')}, one worker with {SLOTS} slots, one fork per job, the "
            f"tasks imported before the fork; SQLite {sqlite3.sqlite_version} (journal_mode "
            f"{journal}, the log synced before a job is acknowledged), beanstalkd as the queue: no "
            "accepted job is lost, and one whose worker dies is run again"
        )

    def stop(self) -> None:
        """`down`; whatever has outlived it is killed."""
        if self._site is None:
            return
        pids = self.processes()
        members = tree(pids)
        if members:
            self._taskbus("down", check=False)
        for member in members:
            for now in tree([member.pid]):
                if now.pid == member.pid and now.started == member.started:
                    os.kill(now.pid, 9)
        self._site = None

    @property
    def _there(self) -> Site:
        if self._site is None:
            raise RuntimeError("not started")
        return self._site

    @property
    def _env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(REPO), "BENCH_TASKBUS": str(self._there.folder)}

    def _taskbus(self, *command: str, check: bool = True) -> None:
        argv = [_program("taskbus"), "--settings", str(self._there.settings), *command]
        self._log(argv, check)

    def _supervisorctl(self, *command: str) -> None:
        config = self._there.var / "supervisord.conf"
        self._log([_program("supervisorctl"), "-c", str(config), *command], True)

    def _log(self, argv: list[str], check: bool) -> None:
        with (self._folder / "commands.log").open("ab") as log:
            subprocess.run(argv, check=check, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _run(self, *command: str) -> str:
        argv = [sys.executable, "-m", *command]
        env = {**os.environ, **self._env}
        done = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.splitlines()[-1]

    def _query(self, sql: str) -> str:
        uri = f"file:{self._there.var / 'data' / 'taskbus.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            return str(db.execute(sql).fetchone()[0])


def _program(name: str) -> str:
    return str(REPO / ".venv" / "bin" / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
