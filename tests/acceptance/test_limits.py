"""Limits of a running bus: so many at a time, so many in a time."""

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskbus.wire import open_store
from tests.support.gate import Gate, a_gate
from tests.support.router import Session
from tests.support.site import Site, alive, descendants, eventually, running_site

pytestmark = pytest.mark.acceptance

PAIR, ALONE, RATED, BOTH = (
    f"com.example.limit.{name}" for name in ("pair", "alone", "rated", "both")
)
ENTRIES = f"""
[api."{PAIR}"]
python = "tests.support.tasks:be_one_of"
mode = "background"
concurrency = 2
[api."{ALONE}"]
python = "tests.support.tasks:be_one_of"
mode = "background"
concurrency = 1
[api."{RATED}"]
python = "tests.support.tasks:add"
mode = "background"
rate = "3/second"
[api."{BOTH}"]
python = "tests.support.tasks:add"
mode = "background"
rate = "4/second"
concurrency = 1
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Its two workers run four jobs at a time."""
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder), entries=ENTRIES) as up,
    ):
        yield up


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as made:
        yield made


def submit(session: Session, uri: str, *args: Any, **options: Any) -> str:
    return str(session.call("taskbus.job.submit", uri, list(args), **options))


def get(session: Session, job: str) -> dict[str, Any]:
    told: dict[str, Any] = session.call("taskbus.job.get", job)
    return told


def states(session: Session, jobs: list[str]) -> Counter[str]:
    return Counter(get(session, job)["state"] for job in jobs)


def events(session: Session, job: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in session.call("taskbus.job.events", job) if event["kind"] == kind]


def starts(session: Session, jobs: list[str]) -> list[float]:
    """When attempts of these began."""
    return sorted(event["at"] for job in jobs for event in events(session, job, "running"))


def test_never_more_run_at_a_time_than_the_limit_says(
    site: Site, session: Session, folder: Path, gate: Gate
) -> None:
    jobs = [submit(session, PAIR, 2, str(folder)) for _ in range(8)]
    eventually(lambda: states(session, jobs) == {"running": 2, "waiting": 6})
    waiting = next(job for job in jobs if get(session, job)["state"] == "waiting")
    assert get(session, waiting)["lane"] == PAIR
    [event] = events(session, waiting, "waiting")
    assert event["data"]["reason"] == f"limit of {PAIR}: 2 at a time"
    assert f"limit of {PAIR}" in site.taskbus("jobs", "--uri", PAIR).stdout
    assert f"limit of {PAIR}: 2 at a time" in site.taskbus("job", waiting).stdout
    assert "6 waiting" in site.taskbus("status").stdout
    for _ in jobs:
        gate.let_one_pass()
    # A task that found two others there would have failed.
    assert {session.call("taskbus.job.wait", job) for job in jobs} <= {0, 1}
    assert len(starts(session, jobs)) == 8


def test_each_key_has_the_limit_for_itself(session: Session, folder: Path, gate: Gate) -> None:
    ann, more, bob = (
        submit(session, ALONE, 2, str(folder), concurrency_key=key) for key in ("ann", "ann", "bob")
    )
    eventually(lambda: states(session, [ann, more, bob]) == {"running": 2, "waiting": 1})
    assert get(session, bob)["state"] == "running"
    for _ in range(3):
        gate.let_one_pass()
    for job in (ann, more, bob):
        session.call("taskbus.job.wait", job)


def test_a_waiting_job_is_cancelled_at_once(
    site: Site, session: Session, folder: Path, gate: Gate
) -> None:
    jobs = [submit(session, ALONE, 1, str(folder)) for _ in range(3)]
    eventually(lambda: states(session, jobs) == {"running": 1, "waiting": 2})
    waiting = [job for job in jobs if get(session, job)["state"] == "waiting"]
    assert site.taskbus("cancel", waiting[0]).stdout == "cancelled\n"
    assert get(session, waiting[0])["lane"] is None
    gate.let_one_pass()
    gate.let_one_pass()
    for job in jobs:
        if job != waiting[0]:
            assert session.call("taskbus.job.wait", job) == 0
    assert states(session, jobs) == {"succeeded": 2, "cancelled": 1}


def test_a_killed_worker_s_place_goes_to_who_takes_the_job_over(
    session: Session, folder: Path, gate: Gate
) -> None:
    # Its processes die with it, but perhaps not before the next attempt begins.
    lost = submit(session, ALONE, 2, str(folder))
    eventually(lambda: get(session, lost)["state"] == "running")
    others = [submit(session, ALONE, 2, str(folder)) for _ in range(2)]
    eventually(lambda: states(session, others) == {"waiting": 2})
    worker = int(get(session, lost)["worker"].split("/")[-2])
    below = descendants(worker)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(events(session, lost, "running")) == 2 and not alive(below))
    assert states(session, others) == {"waiting": 2}
    for _ in range(3):
        gate.let_one_pass()
    for job in (lost, *others):
        session.call("taskbus.job.wait", job)
    assert [len(starts(session, [job])) for job in (lost, *others)] == [2, 1, 1]


def test_a_changed_limit_holds_for_those_that_wait(
    site: Site, session: Session, folder: Path, gate: Gate
) -> None:
    jobs = [submit(session, ALONE, 4, str(folder)) for _ in range(4)]
    eventually(lambda: states(session, jobs) == {"running": 1, "waiting": 3})

    def change(limit: str) -> None:
        file.write_text(before.replace("concurrency = 1\n", limit, 1))
        for number in range(2):
            os.kill(site.pid(f"worker-{number:02d}"), signal.SIGHUP)

    file = site.folder / "api.toml"
    before = file.read_text()
    change("concurrency = 3\n")
    eventually(lambda: states(session, jobs)["running"] == 3)
    change("")
    eventually(lambda: states(session, jobs)["running"] == 4)
    change("concurrency = 1\n")
    for _ in jobs:
        gate.let_one_pass()
    for job in jobs:
        session.call("taskbus.job.wait", job)


def test_never_more_begin_in_a_time_than_the_rate_says(session: Session) -> None:
    jobs = session.call("taskbus.job.submit_many", [{"uri": RATED, "args": [1]}] * 10)
    for job in jobs:
        assert session.call("taskbus.job.wait", job) == 11
    times = starts(session, jobs)
    assert len(times) == 10
    assert all(later - one >= 1.0 for one, later in zip(times, times[3:], strict=False))
    reasons = {event["data"]["reason"] for job in jobs for event in events(session, job, "waiting")}
    assert reasons == {f"limit of rate {RATED}: 3 in 1 s"}


def test_both_limits_together(site: Site, session: Session) -> None:
    jobs = session.call("taskbus.job.submit_many", [{"uri": BOTH, "args": [1]}] * 10)
    for job in jobs:
        assert session.call("taskbus.job.wait", job) == 11
    times = starts(session, jobs)
    assert all(later - one >= 1.0 for one, later in zip(times, times[4:], strict=False))
    at_a_time = [0]
    for kind in committed(site, jobs):
        at_a_time.append(at_a_time[-1] + {"running": 1, "succeeded": -1}.get(kind, 0))
    assert max(at_a_time) == 1, at_a_time


def committed(site: Site, jobs: list[str]) -> list[str]:
    """What happened to these jobs, in the order of the commits: a time is taken before them."""
    with closing(open_store(f"sqlite:///{site.var}/data/taskbus.db")) as store:
        entries = store.journal(0, 1_000_000)
    return [event.kind for _, event in entries if event.job in jobs]
