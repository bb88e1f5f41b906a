"""The running bus, whose queue is wiped under it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gate import GATED, Gate, a_gate
from tests.support.processes import PATIENCE
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

SLEEPER = "com.example.dante.sleeper"
FINAL = ("succeeded", "failed", "dead", "cancelled")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as made:
        yield made


@pytest.fixture
def site(folder: Path, gate: Gate) -> Iterator[Site]:
    with running_site(folder, entries=gate.entry) as running:
        yield running


def submit(session: Session, count: int, uri: str, *args: Any, **options: Any) -> list[str]:
    found: list[str] = session.call(
        "taskbus.job.submit_many", [{"uri": uri, "args": list(args), **options}] * count
    )
    return found


def in_state(session: Session, state: str, uri: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.call("taskbus.job.list", state, uri or None, None, 1000)
    return found


@pytest.mark.slow
def test_a_queue_that_is_wiped_loses_no_job_and_doubles_none(site: Site, gate: Gate) -> None:
    with site.joined() as session:
        # One in the hands of each worker, so that one of each has been lost and one goes on.
        held = submit(session, 4, GATED, priority="urgent")
        eventually(lambda: len(in_state(session, "running", GATED)) == 4)
        delayed = submit(session, 50, SLEEPER, 0, delay=3)
        queued = submit(session, 300, SLEEPER, 0)
        jobs = {*held, *delayed, *queued}

        assert site.supervisorctl("stop", "beanstalkd").returncode == 0
        shutil.rmtree(site.var / "data/queue")
        (site.var / "data/queue").mkdir()
        victim = site.pid("worker-00")
        os.kill(victim, signal.SIGKILL)
        assert site.supervisorctl("start", "beanstalkd").returncode == 0
        # The dead worker's children may have read a line, too.
        for _ in range(2 * len(held)):
            gate.let_one_pass()

        eventually(lambda: len(in_state(session, "succeeded", "")) == len(jobs), PATIENCE)
        takeovers = 0
        for job in jobs:
            events = session.call("taskbus.job.events", job)
            kinds = [event["kind"] for event in events]
            assert [kind for kind in kinds if kind in FINAL] == kinds[-1:] == ["succeeded"]
            lost = sum(event["data"].get("reason", "").endswith("lost") for event in events)
            takeovers += lost
            assert kinds.count("running") == 1 + lost
        assert takeovers == 2
