"""What somebody does about a job: cancel it, replay it, forget it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from autobahn.wamp.exception import ApplicationError

from tests.support.gate import GATED, Gate, a_gate
from tests.support.router import Session
from tests.support.site import Site, command_lines, eventually, running_site

pytestmark = pytest.mark.acceptance

DANTE = "com.example.dante"
PHP, NAP = f"{DANTE}.php_sleeps", "sleep(601);"
ENTRIES = f"""
[api."{PHP}"]
exec = ["php", "-r", "{NAP}"]
mode = "background"
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as made:
        yield made


@pytest.fixture(scope="module")
def site(folder: Path, gate: Gate) -> Iterator[Site]:
    with running_site(folder, entries=gate.entry + ENTRIES) as running:
        yield running


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


def state(session: Session, job: str) -> str:
    return str(session.call("taskbus.job.get", job)["state"])


def programs(words: str) -> list[int]:
    """Processes with these words in their command line."""
    return [pid for pid, line in command_lines() if words in line]


def test_a_job_that_waits_is_cancelled_at_once(site: Site, session: Session) -> None:
    job = session.call("taskbus.job.submit", f"{DANTE}.sleeper", [0], delay=3600)
    done = site.taskbus("cancel", job)
    assert (done.returncode, done.stdout) == (0, "cancelled\n")
    with pytest.raises(ApplicationError, match="cancelled by operator") as caught:
        session.call("taskbus.job.wait", job)
    assert caught.value.error == "taskbus.error.cancelled"
    assert site.taskbus("cancel", job).stdout == "cancelled\n"


@pytest.mark.parametrize("kind", ["python", "sh", "php"])
def test_a_job_that_runs_is_killed_with_all_its_processes(
    site: Site, session: Session, folder: Path, kind: str
) -> None:
    uri, args, words = {
        "python": (f"{DANTE}.sleeper", [50], "no such words"),
        "sh": (GATED, [], f"{folder}/gate-reached"),
        "php": (PHP, [], NAP),
    }[kind]
    job = session.call("taskbus.job.submit", uri, args)
    eventually(lambda: state(session, job) == "running" and (kind == "python" or programs(words)))
    assert site.taskbus("cancel", job).stdout == "running\n"
    with pytest.raises(ApplicationError) as caught:
        session.call("taskbus.job.wait", job)
    assert caught.value.error == "taskbus.error.cancelled"
    kinds = [event["kind"] for event in session.call("taskbus.job.events", job)]
    assert kinds == ["queued", "running", "cancelling", "cancelled"]
    eventually(lambda: not programs(words))


def test_a_job_that_has_ended_is_not_cancelled(site: Site, session: Session) -> None:
    job = session.call("taskbus.job.submit", f"{DANTE}.sleeper", [0])
    session.call("taskbus.job.wait", job)
    done = site.taskbus("cancel", job)
    assert done.returncode == 2
    assert "job_ended" in done.stderr
    assert "succeeded" in done.stderr


def test_a_failed_job_is_replayed_with_other_arguments(site: Site, session: Session) -> None:
    job = session.call("taskbus.job.submit", f"{DANTE}.sleeper", ["no number"], retries=0)
    with pytest.raises(ApplicationError):
        session.call("taskbus.job.wait", job)
    assert site.taskbus("replay", job, "0").stdout == f"{job}\n"
    session.call("taskbus.job.wait", job)
    told = session.call("taskbus.job.get", job)
    assert (told["state"], told["args"], told["attempt"]) == ("succeeded", [0], 2)
    assert site.taskbus("replay", job).returncode == 2


def test_dead_letters_are_replayed_and_discarded_by_choice(site: Site, session: Session) -> None:
    uri = f"{DANTE}.fail"
    jobs = {session.call("taskbus.job.submit", uri, [], retries=0) for _ in range(3)}
    for job in jobs:
        with pytest.raises(ApplicationError):
            session.call("taskbus.job.wait", job)
    other = session.call("taskbus.job.submit", f"{DANTE}.sleeper", [0])
    session.call("taskbus.job.wait", other)

    assert set(site.taskbus("replay", "--uri", uri, "--dry-run").stdout.split()) == jobs
    assert {session.call("taskbus.job.get", job)["attempt"] for job in jobs} == {1}
    assert set(site.taskbus("replay", "--uri", uri).stdout.split()) == jobs
    eventually(
        lambda: (
            all(session.call("taskbus.job.get", job)["attempt"] == 2 for job in jobs)
            and all(state(session, job) == "failed" for job in jobs)
        )
    )
    assert set(site.taskbus("discard", "--uri", uri, "--dry-run").stdout.split()) == jobs
    assert set(site.taskbus("discard", "--uri", uri).stdout.split()) == jobs
    assert site.taskbus("job", *sorted(jobs)[:1]).returncode == 2
    assert state(session, other) == "succeeded"


def test_nothing_is_replayed_or_discarded_unless_chosen(site: Site) -> None:
    for command in ("replay", "discard"):
        done = site.taskbus(command)
        assert done.returncode == 2
        assert "--all" in done.stderr


@pytest.mark.parametrize(
    "asked",
    [{"state": "succeeded"}, {"state": ["running"]}, {"dry_run": 1}, {"limit": 0}, {"a": 1}],
)
def test_a_wrong_choice_is_refused(session: Session, asked: dict[str, object]) -> None:
    for procedure in ("replay_many", "discard_many"):
        with pytest.raises(ApplicationError) as caught:
            session.call(f"taskbus.job.{procedure}", **asked)
        assert caught.value.error == "taskbus.error.invalid_argument"
        assert caught.value.kwargs["field"] == next(iter(asked))


def test_a_browser_may_cancel_and_replay_and_not_discard(site: Site) -> None:
    with site.joined("browser") as browser:
        job = browser.call("taskbus.job.submit", f"{DANTE}.sleeper", [0], delay=3600)
        assert browser.call("taskbus.job.cancel", job) == "cancelled"
        assert browser.call("taskbus.job.replay", job) == job
        browser.call("taskbus.job.wait", job)
        with pytest.raises(ApplicationError) as caught:
            browser.call("taskbus.job.discard_many", state="cancelled")
        assert caught.value.error == "wamp.error.not_authorized"


def test_who_waits_for_a_replayed_job_hears_of_its_new_end(session: Session) -> None:
    """Its earlier end is still on its way to whoever watches."""
    for _ in range(10):
        job = session.call("taskbus.job.submit", f"{DANTE}.sleeper", [0], delay=3600)
        assert session.call("taskbus.job.cancel", job) == "cancelled"
        assert session.call("taskbus.job.replay", job) == job
        assert session.call("taskbus.job.wait", job) == 0
