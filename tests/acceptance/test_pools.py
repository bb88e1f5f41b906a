"""Jobs go to the queue that they name, and its workers run them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from tests.support.bridge import post
from tests.support.gate import GATED, Gate, a_gate
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

ECHO, SLOW = "com.example.test.echo", "com.example.test.slow"
SETTINGS = """
[pool.slow]
count = 2

[pool.aside]
queues = ["aside.1", "aside.2"]
"""
ENTRIES = f"""
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
[api."{SLOW}"]
python = "tests.support.tasks:Echo"
mode = "background"
queue = "slow"
"""


@pytest.fixture(scope="module")
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as made:
        yield made


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def site(folder: Path, gate: Gate) -> Iterator[Site]:
    with running_site(folder, SETTINGS, gate.entry + ENTRIES) as up:
        yield up


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


def ran_in(site: Site, operator: Session, job: str) -> str:
    """The program whose worker ran the job."""
    operator.call("taskbus.job.wait", job)
    events = operator.call("taskbus.job.events", job)
    [actor] = [event["data"]["actor"] for event in events if event["kind"] == "running"]
    pid = int(actor.split("/")[-2])
    [name] = [one["name"] for one in site.status()["programs"] if one["pid"] == pid]
    return str(name.rpartition("-")[0])


def test_each_pool_runs_what_is_in_its_queues(site: Site, operator: Session) -> None:
    direct = operator.call(SLOW)
    submit = "taskbus.job.submit"
    aside = [operator.call(submit, ECHO, queue=f"aside.{nth}") for nth in (1, 2)]
    otherwise = operator.call(submit, SLOW, queue="default")
    by_command = site.taskbus("submit", ECHO, "--queue", "slow").stdout.strip()
    request = {"procedure": submit, "args": [ECHO], "kwargs": {"queue": "slow", "delay": 0.1}}
    _, answer = post(site, "/call", request, **site.bridge_secret())
    assert ran_in(site, operator, direct) == "worker-slow"
    assert [ran_in(site, operator, job) for job in aside] == ["worker-aside"] * 2
    assert ran_in(site, operator, otherwise) == "worker"
    assert ran_in(site, operator, by_command) == "worker-slow"
    # It was scheduled: a chore has queued it.
    assert ran_in(site, operator, answer["args"][0]) == "worker-slow"
    assert operator.call("taskbus.job.get", direct)["queue"] == "slow"
    assert operator.call("taskbus.job.list", uri=SLOW)[0]["queue"] == "default"


def test_a_full_queue_does_not_keep_others_waiting(
    site: Site, operator: Session, gate: Gate
) -> None:
    held = [operator.call("taskbus.job.submit", GATED, queue="slow") for _ in range(4)]
    eventually(lambda: operator.call("taskbus.bus.status")["queues"]["slow"]["reserved"] == 2)
    job = operator.call("taskbus.job.submit", ECHO)
    operator.call("taskbus.job.wait", job)
    told = operator.call("taskbus.bus.status")
    assert told["queues"]["slow"] == {"ready": 2, "reserved": 2, "delayed": 0, "buried": 0}
    assert set(told["queues"]) == {"default", "slow", "aside.1", "aside.2"}
    assert told["queue"]["ready"] >= 2
    shown = site.taskbus("status").stdout
    assert "queue  slow     2 ready, 2 reserved, 0 delayed" in shown
    for _ in held:
        gate.let_one_pass()
    for job in held:
        operator.call("taskbus.job.wait", job)


def test_status_tells_every_worker_and_its_queues(site: Site) -> None:
    notes = {one["name"]: one["note"] for one in site.status()["programs"]}
    assert notes["worker-00"] == ""
    assert notes["worker-slow-00"] == notes["worker-slow-01"] == "takes from slow"
    assert notes["worker-aside-00"] == "takes from aside.1, aside.2"
    assert site.supervisorctl("restart", "worker-slow:*").returncode == 0
    site.await_ready()


@pytest.mark.parametrize("principal", ["operator", "browser"])
def test_a_queue_without_workers_is_refused(site: Site, principal: str) -> None:
    with site.joined(principal) as session, pytest.raises(ApplicationError) as caught:
        session.call("taskbus.job.submit", ECHO, queue="fast")
    assert caught.value.error == "taskbus.error.invalid_argument"
    about: dict[str, Any] = caught.value.kwargs
    assert (about["field"], about["value"]) == ("queue", "fast")
    assert "aside.1, aside.2, default, slow" in about["remedy"]
    done = site.taskbus("submit", ECHO, "--queue", "fast")
    assert done.returncode == 2
    assert "[pool.NAME]" in done.stderr


def test_a_map_whose_queue_has_no_workers_is_found_before_it_is_used(site: Site) -> None:
    api = site.folder / "api.toml"
    before = api.read_text()
    api.write_text(before.replace('queue = "slow"', 'queue = "fast"'))
    line = before.split("\n").index('queue = "slow"') + 1
    try:
        done = site.taskbus("check")
    finally:
        api.write_text(before)
    assert done.returncode == 4
    assert f"api.toml:{line}: {SLOW}: queue: no worker" in done.stderr


def test_an_unknown_pool(site: Site) -> None:
    done = site.taskbus("worker", "--pool", "fast")
    assert done.returncode == 2
    assert "worker, slow, aside" in done.stderr
