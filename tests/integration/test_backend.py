"""A backend and a router, and nothing else: how it joins, and how it answers."""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import joined, running_router, ticket_of

pytestmark = pytest.mark.integration

ALLOWED, FORBIDDEN = "com.example.dante", "com.example.unknown"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@contextmanager
def backend(folder: Path, namespace: str) -> "Iterator[subprocess.Popen[str]]":
    """A backend that finds the router of this folder."""
    for part in ("run", "secrets", "data"):
        (folder / "var" / part).mkdir(parents=True)
    (folder / "var/run/router.sock").symlink_to(folder / "router.sock")
    (folder / "var/secrets/backend").write_text(ticket_of("backend"))
    (folder / "taskbus.toml").touch()
    (folder / "api.toml").write_text(
        f'[api."{namespace}.pid"]\npython = "tests.support.tasks:pid"\n'
    )
    with subprocess.Popen(
        [REPOSITORY / ".venv/bin/taskbus", "--settings", folder / "taskbus.toml", "backend",
         namespace],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        # Who reads its log would otherwise wait for what it never says.
        end = threading.Timer(PATIENCE, process.kill)
        end.start()
        try:
            yield process
        finally:
            end.cancel()
            process.kill()


def wait_for(process: "subprocess.Popen[str]", words: str) -> None:
    """Read its log until this is said."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"it ended and never said {words!r}")


def test_it_tries_again_when_it_may_not_serve(folder: Path) -> None:
    """As after a change of the API map that the router has not heard of yet."""
    with running_router(folder, [ALLOWED]), backend(folder, FORBIDDEN) as process:
        for _ in range(3):
            wait_for(process, "joined, but cannot serve")


def test_it_waits_for_the_router_and_stops_without_it(folder: Path) -> None:
    with backend(folder, ALLOWED) as process:
        with running_router(folder, [ALLOWED]) as router, joined(router, "operator") as caller:
            wait_for(process, "serving 1 URIs")
            assert caller.call(f"{ALLOWED}.pid") == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
