"""PHP jobs on a running bus: forked from a warm PHP, and each in a PHP that starts cold."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from tests.support.processes import REPOSITORY
from tests.support.router import Session
from tests.support.site import Site, alive, children, descendants, eventually, running_site

pytestmark = pytest.mark.acceptance

DOES, TIGHT, CHANGING = (f"com.example.php.{name}" for name in ("does", "tight", "changing"))
ENTRIES = f"""
[api."{DOES}"]
php = "Jobs\\\\Does"
mode = "background"
retries = 1
retry_on = ["taskbus.error.killed"]
backoff = {{first = 0}}
[api."{TIGHT}"]
php = "Jobs\\\\Does"
mode = "background"
memory = 100
[api."{CHANGING}"]
php = "Jobs\\\\Changing"
mode = "background"
"""
CHANGED = """<?php
namespace Jobs;
class Changing implements \\Taskbus\\TaskInterface {
    public function run(\\Taskbus\\TaskInput $task): mixed { return VERSION; }
}
"""
BOTH = ("warm", "cold")


def settings(folder: Path, variant: str) -> str:
    return f"""
[php]
client = "{REPOSITORY}/clients/php"
tasks = "{folder}/classes"
warm = {"true" if variant == "warm" else "false"}
"""


@pytest.fixture(scope="module")
def up() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        folder = Path(name)
        shutil.copytree(REPOSITORY / "tests/support/php/Jobs", folder / "classes/Jobs")
        write_version(folder, 1)
        with running_site(folder, settings(folder, BOTH[0]), ENTRIES) as site:
            yield site


@pytest.fixture(scope="module", params=BOTH)
def site(up: Site, request: pytest.FixtureRequest) -> Site:
    if request.param != BOTH[0]:
        text = up.settings.read_text()
        was, becomes = (settings(up.folder, variant) for variant in (BOTH[0], request.param))
        assert was in text
        up.settings.write_text(text.replace(was, becomes))
        assert up.supervisorctl("restart", "worker:*").returncode == 0
        up.await_ready()
    assert bool(warm(up)) is (request.param == "warm")
    return up


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


def write_version(folder: Path, version: int) -> None:
    (folder / "classes/Jobs/Changing.php").write_text(CHANGED.replace("VERSION", str(version)))


def workers(site: Site) -> list[int]:
    return [
        int(one["pid"]) for one in site.status()["programs"] if one["name"].startswith("worker-")
    ]


def forkers(site: Site) -> set[int]:
    """What forks the processes of PHP jobs: a warm PHP of each worker, or Python."""
    return warm(site) or programs(site, b"taskbus.worker.forker")


def warm(site: Site) -> set[int]:
    return programs(site, b"warm.php")


def programs(site: Site, name: bytes) -> set[int]:
    """Children of workers, and not what these have forked."""
    return {pid for worker in workers(site) for pid in children(worker) if name in line_of(pid)}


def line_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def submit(session: Session, *args: Any, uri: str = DOES, **options: Any) -> str:
    return str(session.call("taskbus.job.submit", uri, list(args), **options))


def failure(session: Session, job: str) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        session.call("taskbus.job.wait", job)
    error: ApplicationError = caught.value
    return error


def said(session: Session, job: str, stream: str) -> str:
    return "".join(
        event["data"]["text"]
        for event in session.call("taskbus.job.events", job)
        if event["kind"] == "output" and event["data"]["stream"] == stream
    )


def printed_pid(session: Session, job: str) -> int:
    return int(eventually(lambda: said(session, job, "stdout")))


def test_results(session: Session) -> None:
    odd = [{}, [], {"a": {}, "b": []}, "zażółć 🚀", 1.5, None]
    job = submit(session, "echo", *odd)
    blob = submit(session, "blob", 1_000_000)
    told = session.call("taskbus.job.wait", job)
    assert list(told.results) == [DOES, *odd]
    assert told.kwresults["details"]["job"] == job
    assert told.kwresults["details"]["caller_authid"] == "operator"
    assert session.call("taskbus.job.wait", blob) == "é" * 500_000


def test_failures(session: Session) -> None:
    asked, thrown, left, exhausted = (
        submit(session, *words) for words in (["fail"], ["crash"], ["leave", 3], ["exhaust"])
    )
    error = failure(session, asked)
    assert (error.error, error.args[0]) == ("com.example.error.asked", "as asked")
    assert error.kwargs == {"value": "x", "remedy": "do not ask"}
    error = failure(session, thrown)
    assert (error.error, error.args[0]) == (
        "taskbus.error.task_failed",
        "DomainException: of all things",
    )
    told = session.call("taskbus.job.get", thrown)["error"]
    assert "Does.php" in told["traceback"]
    assert failure(session, left).args[0] == "the task called exit()"
    assert failure(session, exhausted).args[0].startswith("Allowed memory size")


def test_output_and_progress(session: Session) -> None:
    spoken, told = submit(session, "say"), submit(session, "progress")
    session.call("taskbus.job.wait", spoken)
    assert said(session, spoken, "stdout").startswith("echoed\nwritten\n")
    assert said(session, spoken, "stderr").startswith("complained\n")
    session.call("taskbus.job.wait", told)
    [event] = [one for one in session.call("taskbus.job.events", told) if one["kind"] == "progress"]
    assert event["data"] == {"fraction": 1.0, "message": "zażółć"}


def test_a_job_over_its_time_or_its_memory(session: Session) -> None:
    late = submit(session, "sleep", timeout=1)
    large = submit(session, "hoard", 200, uri=TIGHT)
    assert failure(session, late).error == "taskbus.error.timeout"
    assert failure(session, large).error == "taskbus.error.memory_exceeded"


@pytest.mark.parametrize("what", ["sleep", "wait"])
def test_a_cancelled_job_ends_with_its_programs(session: Session, what: str) -> None:
    job = submit(session, what)
    pid = printed_pid(session, job)
    session.call("taskbus.job.cancel", job)
    assert failure(session, job).error == "taskbus.error.cancelled"
    eventually(lambda: not alive({pid}))


def test_a_killed_process_is_one_attempt(session: Session) -> None:
    job = submit(session, "endless")
    os.kill(printed_pid(session, job), signal.SIGKILL)
    assert session.call("taskbus.job.wait", job) == 2


def test_a_killed_worker_loses_no_job(site: Site, session: Session) -> None:
    job = submit(session, "endless")
    pid = printed_pid(session, job)
    [worker] = [one for one in workers(site) if pid in descendants(one)]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not alive({pid}))
    assert session.call("taskbus.job.wait", job) == 2


def test_a_killed_forker_is_replaced(site: Site, session: Session) -> None:
    found = forkers(site)
    job = submit(session, "endless")
    pid = printed_pid(session, job)
    for forker in found:
        os.kill(forker, signal.SIGKILL)
    eventually(lambda: not alive({pid}))
    assert session.call("taskbus.job.wait", job) == 2
    assert len(eventually(lambda: forkers(site) - found)) > 0


def test_workers_load_classes_anew(site: Site, session: Session) -> None:
    before = session.call("taskbus.job.wait", submit(session, uri=CHANGING))
    write_version(site.folder, before + 1)
    site.supervisorctl("signal", "HUP", "worker:*")
    # Until each of them has done so, one that has not may take the job.
    eventually(
        lambda: (
            {session.call("taskbus.job.wait", submit(session, uri=CHANGING)) for _ in range(8)}
            == {before + 1}
        )
    )
