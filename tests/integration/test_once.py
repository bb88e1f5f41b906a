"""Workers of one job: ``worker --once``, and the loop around it."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskbus.adapter.beanstalkd import BeanstalkdQueue
from taskbus.adapter.doorbell import Doorbell
from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_keys import SqlKeys
from taskbus.core.intake import Intake, prepare
from taskbus.launch import prepare as prepare_site
from taskbus.model.apimap import ApiMap
from taskbus.wire import read_settings
from tests.support.beanstalkd import running_beanstalkd
from tests.support.gate import GATED, Gate, a_gate
from tests.support.processes import AS_FROM_A_SHELL, PATIENCE, REPOSITORY
from tests.support.site import Site, alive, descendants, eventually, make_site

pytestmark = pytest.mark.integration

ADD = "com.example.dante.countdown"


@dataclass
class Jobs:
    """A site's store and queue, without a worker."""

    site: Site
    api: ApiMap
    store: SqlStore
    intake: Intake

    def submit(self, uri: str, *args: object) -> str:
        """A new job's id."""
        submission = prepare(self.api, lambda: 1.0, {"uri": uri, "args": list(args)}, {})
        self.intake.accept([[submission]])
        return submission.job.id

    def states(self, *jobs: str) -> list[str | None]:
        return [found and found.state for found in map(self.store.job, jobs)]

    def worker(self, job: str) -> str:
        """Who has run it."""
        [claim] = [event for event in self.store.events(job) if event.kind == "running"]
        return str(json.loads(claim.data)["actor"])


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as gate:
        yield gate


@pytest.fixture
def jobs(folder: Path, gate: Gate) -> Iterator[Jobs]:
    site = make_site(folder, entries=gate.entry)
    settings = read_settings(site.settings)
    api = prepare_site(settings)
    with running_beanstalkd(settings.run), closing(SqlStore(settings.database)) as store:
        queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)
        with closing(queue), closing(Doorbell(settings.doorbell)) as bell:
            yield Jobs(site, api, store, Intake(store, SqlKeys(store), queue, bell))


def test_it_runs_one_job_and_leaves_the_next_in_the_queue(jobs: Jobs) -> None:
    first, second = (jobs.submit(ADD, 1, 0) for _ in range(2))
    assert jobs.site.taskbus("worker", "--once").returncode == 0
    assert jobs.states(first, second) == ["succeeded", "queued"]
    assert jobs.site.taskbus("worker", "--once").returncode == 0
    assert jobs.states(first, second) == ["succeeded", "succeeded"]


def test_a_job_that_fails_is_no_failure_of_its_worker(jobs: Jobs) -> None:
    job = jobs.submit("com.example.dante.fail")
    assert jobs.site.taskbus("worker", "--once").returncode == 0
    assert jobs.states(job) == ["failed"]


@contextmanager
def looping(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """The loop, in a process group of its own, as a terminal gives it one."""
    process = subprocess.Popen(
        [*AS_FROM_A_SHELL, REPOSITORY / "workers/once.sh"],
        env={**os.environ, "TASKBUS_SETTINGS": str(site.settings)},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_the_loop_gives_each_job_a_worker_of_its_own(jobs: Jobs) -> None:
    with looping(jobs.site):
        ids = [jobs.submit(ADD, 1, 0) for _ in range(3)]
        eventually(lambda: jobs.states(*ids) == ["succeeded"] * 3)
    assert len({jobs.worker(one) for one in ids}) == 3


@pytest.mark.parametrize("ending", ["TERM to the loop", "Ctrl-C"])
def test_the_job_in_hand_ends_and_then_the_loop(jobs: Jobs, gate: Gate, ending: str) -> None:
    with looping(jobs.site) as loop:
        in_hand = jobs.submit(GATED)
        eventually(gate.is_reached)
        next_one = jobs.submit(ADD, 1, 0)
        everything = {loop.pid, *descendants(loop.pid)}
        if ending == "Ctrl-C":
            os.killpg(loop.pid, signal.SIGINT)
        else:
            loop.terminate()
        gate.let_one_pass()
        assert loop.wait(PATIENCE) == 0
        eventually(lambda: not alive(everything))
    assert jobs.states(in_hand, next_one) == ["succeeded", "queued"]


def test_a_loop_without_work_ends_by_term(jobs: Jobs) -> None:
    with looping(jobs.site) as loop:
        # Its worker may be anywhere between its first instruction and its wait for a job.
        eventually(lambda: descendants(loop.pid))
        everything = {loop.pid, *descendants(loop.pid)}
        loop.terminate()
        assert loop.wait(PATIENCE) == 0
        eventually(lambda: not alive(everything))


def test_a_worker_that_cannot_start_is_tried_again(jobs: Jobs) -> None:
    api_map = jobs.site.folder / "api.toml"
    fine = api_map.read_text()
    api_map.write_text("[api")
    with looping(jobs.site) as loop:
        assert loop.stderr is not None
        problems = (line for line in loop.stderr if "api.toml:1" in line)
        assert next(problems)
        assert next(problems)
        api_map.write_text(fine)
        job = jobs.submit(ADD, 1, 0)
        eventually(lambda: jobs.states(job) == ["succeeded"])
