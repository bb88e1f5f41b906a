"""The running bus, through its commands, its bridge and its sessions; and what kill -9 does."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.error import ConnectError

from tests.support.processes import REPOSITORY
from tests.support.site import Site, children, eventually, running_site

pytestmark = pytest.mark.acceptance

DANTE = "com.example.dante"
BURST = 500
BEFORE_THE_BLOW = 20
BURST_SECONDS = 120.0
SCRIPTS = {
    "sh": ["sh", str(REPOSITORY / "cron/call.sh")],
    "php": ["php", str(REPOSITORY / "cron/call.php")],
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder)) as running,
    ):
        yield running


def call_script(
    script: str, site: Site, secrets: Path, *words: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*SCRIPTS[script], "-u", site.bridge, "-s", str(secrets), "-t", "30", *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_status_tells_that_every_part_is_ready(site: Site) -> None:
    shown = site.taskbus("status")
    assert shown.returncode == 0
    assert "not ready" not in shown.stdout
    told = site.status()
    assert told["ready"]
    names = {one["name"] for one in told["programs"]}
    assert names == {
        "beanstalkd", "router", "control", f"backend-{DANTE}", "gateway", "worker-00", "worker-01",
        "php-com.example.widget-00", "php-com.example.widget-01",
    }  # fmt: skip
    assert "succeeded" in told["bus"]["jobs"]


def test_supervisorctl_tells_the_pids_of_status(site: Site) -> None:
    for program in ("router", f"backend-{DANTE}"):
        assert int(site.supervisorctl("pid", program).stdout) == site.pid(program)


def test_a_foreground_call_prints_its_result(site: Site) -> None:
    done = site.taskbus("call", "--json", f"{DANTE}.get_free_space", "/")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 0 < told["args"][0] < told["kwargs"]["total"]


def test_a_program_in_another_language_is_called(site: Site) -> None:
    done = site.taskbus("call", f"{DANTE}.word_count", "one two three")
    assert done.returncode == 0, done.stderr
    assert "3" in done.stdout


@pytest.mark.parametrize("uri", [f"{DANTE}.nothing", "com.example.unknown.x"])
def test_calling_what_no_backend_serves_says_how_to_add_it(site: Site, uri: str) -> None:
    done = site.taskbus("call", uri)
    assert done.returncode == 2
    assert "taskbus check" in done.stderr
    assert "taskbus up" in done.stderr


@pytest.mark.parametrize("command", ["job", "logs"])
def test_what_is_no_job_id_is_the_callers_mistake(site: Site, command: str) -> None:
    done = site.taskbus(command, "123")
    assert done.returncode == 2
    assert done.stderr.startswith("error taskbus.error.invalid_argument: job:")


def test_a_background_call_returns_an_id_whose_job_has_the_result(site: Site) -> None:
    queued = site.taskbus("call", f"{DANTE}.sleeper", "0.25")
    assert queued.returncode == 0, queued.stderr
    waited = site.taskbus("job", "--wait", "--json", queued.stdout.strip())
    assert waited.returncode == 0, waited.stderr
    assert json.loads(waited.stdout) == 0.25


def test_a_task_gives_the_same_result_now_and_later(site: Site) -> None:
    now = site.taskbus("call", "--json", f"{DANTE}.get_free_space", "/")
    queued = site.taskbus("submit", f"{DANTE}.get_free_space", "/")
    later = site.taskbus("job", "--wait", "--json", queued.stdout.strip())
    assert later.returncode == 0, later.stderr
    total = json.loads(now.stdout)["kwargs"]["total"]
    assert json.loads(later.stdout)["kwargs"]["total"] == total


def test_logs_follow_progress_and_output_until_the_end(site: Site) -> None:
    counting = site.taskbus("call", f"{DANTE}.countdown", "3", "0.05").stdout.strip()
    told = site.taskbus("logs", "-f", "--json", counting)
    events = [json.loads(line) for line in told.stdout.splitlines()]
    progress = [event["data"]["message"] for event in events if event["kind"] == "progress"]
    # What was said within a moment is told once, as its last state.
    assert progress[-1] == "0 to go"
    assert events[-1]["kind"] == "succeeded"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))

    chatting = site.taskbus("call", f"{DANTE}.chatty", "3").stdout.strip()
    heard = site.taskbus("logs", "-f", chatting)
    assert heard.stdout == "line 1\nline 2\nline 3\n"
    assert "done\n" in heard.stderr


def test_a_failing_task_is_told_with_its_own_uri(site: Site) -> None:
    failing = site.taskbus("call", f"{DANTE}.fail", "no luck").stdout.strip()
    waited = site.taskbus("job", "--wait", failing)
    assert waited.returncode == 1
    assert f"{DANTE}.error.asked" in waited.stderr
    assert "no luck" in waited.stderr


@pytest.mark.parametrize("command", ["call", "submit"])
def test_an_unknown_uri_is_the_callers_mistake(site: Site, command: str) -> None:
    done = site.taskbus(command, f"{DANTE}.nothing_here")
    assert done.returncode == 2
    assert f"{DANTE}.nothing_here" in done.stderr


def test_a_wrong_option_is_refused_by_its_name(site: Site) -> None:
    done = site.taskbus("submit", "--json", "--retries", "many", f"{DANTE}.sleeper", "0")
    assert done.returncode == 2
    assert json.loads(done.stderr)["field"] == "retries"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signed_call_comes_through_the_bridge(site: Site, script: str) -> None:
    uri = f"{DANTE}.get_free_space"
    done = call_script(script, site, site.var / "secrets/bridge", uri, '["/"]')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kwargs"]["total"] > 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_call_with_a_wrong_secret_is_refused(site: Site, script: str, tmp_path: Path) -> None:
    wrong = tmp_path / "bridge"
    wrong.write_text("key=cron\nsecret=not this one\n")
    wrong.chmod(0o600)
    done = call_script(script, site, wrong, f"{DANTE}.get_free_space")
    assert done.returncode == 3
    assert "HTTP 4" in done.stderr


@pytest.mark.parametrize("principal", ["browser", "operator"])
def test_the_notify_topic_hears_of_every_new_job(site: Site, principal: str) -> None:
    with site.joined(principal) as session:
        heard = session.subscribe("com.example.queue.notify")
        # The relay learns of a subscription by an event of its own: the first jobs may be early.
        added = set()

        def told() -> bool:
            job = session.call(f"{DANTE}.sleeper", 0)
            added.add(job)
            while not heard.empty():
                (body,), _ = heard.get()
                assert body["type"] == "add"
                if body["job"] in added:
                    return True
            return False

        assert eventually(told)


def one_of(name: str) -> Callable[[Site], Callable[[], list[int]]]:
    def found(site: Site) -> Callable[[], list[int]]:
        pid = site.pid(name)
        return lambda: [pid]

    return found


def task_children(site: Site) -> Callable[[], list[int]]:
    """All that one worker's forkers have forked, whether it runs a task now or is about to."""
    worker = site.pid("worker-00")

    def of_each() -> list[list[int]]:
        found = [children(forker) for forker in children(worker)]
        return found if all(found) else []

    return lambda: [pid for pids in eventually(of_each) for pid in pids]


# What is slow to find is found before the burst, which may be over otherwise.
VICTIMS: dict[str, Callable[[Site], Callable[[], list[int]]]] = {
    "worker": one_of("worker-00"),
    "task child": task_children,
    "beanstalkd": one_of("beanstalkd"),
    "router": one_of("router"),
    "backend": one_of(f"backend-{DANTE}"),
}


def ask(site: Site, procedure: str, *args: Any) -> Any:
    """A call in a session of its own, again until the bus can answer it."""

    def attempt() -> tuple[Any] | None:
        try:
            with site.joined() as session:
                return (session.call(procedure, *args),)
        except (ApplicationError, TransportLost, ConnectError, OSError, TimeoutError):
            return None

    answered = eventually(attempt)
    assert answered is not None
    return answered[0]


def ended(call: Callable[..., Any], ids: set[str]) -> int:
    """How many of these jobs have ended, by calls of this kind."""
    listed = call("taskbus.job.list", None, f"{DANTE}.sleeper", None, 1000)
    found = [job["state"] for job in listed if job["id"] in ids]
    assert len(found) == len(ids)
    return sum(state in ("succeeded", "failed") for state in found)


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_accepted_is_lost_by_kill_9(site: Site, victim: str) -> None:
    site.await_ready()
    look = VICTIMS[victim](site)
    request = {"uri": f"{DANTE}.sleeper", "args": [0.05]}
    with site.joined() as session:
        ids = set(session.call("taskbus.job.submit_many", [request] * BURST))
        assert len(ids) == BURST
        eventually(lambda: ended(session.call, ids) >= BEFORE_THE_BLOW)
        pids = look()
        assert ended(session.call, ids) < BURST, "the burst was over before the blow"
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            assert victim == "task child"  # It had just ended.

    eventually(lambda: ended(partial(ask, site), ids) == BURST, BURST_SECONDS)
    site.await_ready()  # The burst may have ended before the victim was replaced.
    with site.joined() as session:
        for job in ids:
            events = session.call("taskbus.job.events", job)
            kinds = [event["kind"] for event in events]
            assert [kind for kind in kinds if kind in ("succeeded", "failed")] == kinds[-1:]
            if kinds[-1] == "failed":
                assert session.call("taskbus.job.get", job)["error"]["error"]


def test_down_leaves_no_process() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder)) as brief,
    ):
        assert brief.processes()
        assert brief.taskbus("call", f"{DANTE}.sleeper", "0").returncode == 0
        assert brief.taskbus("down").returncode == 0
        assert brief.processes() == []
        assert brief.taskbus("status").returncode == 3
