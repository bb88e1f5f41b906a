"""A store in a file: what it does when it cannot write."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from taskbus.adapter import sql_sqlite
from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import State
from taskbus.wire import open_store
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.values import added, applied, running, start, succeeded

# A small file system of its own, gone with its last process.
_SMALL_DISK = 'mount -t tmpfs -o size=3m tmpfs "$1" && shift && exec "$@"'


@pytest.fixture
def locked(url: str, tmp_path: Path) -> sqlite3.Connection:
    """Another program that can lock the store."""
    open_store(url).close()
    return sqlite3.connect(tmp_path / "taskbus.db", check_same_thread=False)


def test_a_lock_that_is_held_for_a_while_is_waited_for(
    url: str, locked: sqlite3.Connection
) -> None:
    with closing(locked), closing(open_store(url)) as store, ThreadPoolExecutor(1) as pool:
        job = added(store)
        locked.execute("BEGIN EXCLUSIVE")
        waiting = pool.submit(applied, store, start(job))
        assert store.job(job.id) == job
        assert store.jobs() == [job]
        assert not waiting.done()
        locked.rollback()
        assert waiting.result(PATIENCE).state is State.RUNNING


def test_a_lock_that_is_held_too_long_is_told(
    url: str, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_sqlite, "_BUSY_SECONDS", 0.05)
    with closing(locked), closing(open_store(url)) as store:
        job = running(store)
        locked.execute("BEGIN EXCLUSIVE")
        for write in (
            lambda: added(store),
            lambda: store.advance([succeeded(job)]),
            lambda: store.renew(job, 5000.0),
            lambda: store.placed([job.placement]),
            lambda: store.remove([job.id]),
        ):
            with pytest.raises(StoreUnavailable, match="locked"):
                write()
        assert store.job(job.id) == job
        locked.rollback()
        applied(store, succeeded(job))
        assert store.position() == 3


def test_a_full_disk_refuses_what_it_cannot_keep_and_keeps_what_it_took(tmp_path: Path) -> None:
    words = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount"]
    done = subprocess.run(
        [*words, "sh", "-c", _SMALL_DISK, "sh", tmp_path,
         sys.executable, "-m", "tests.support.store_user", "fill_disk",
         f"sqlite:///{tmp_path}/taskbus.db", str(tmp_path / "ballast")],
        input="go\n", capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "whole"
