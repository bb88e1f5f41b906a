"""Foreground calls that take long become jobs, on a running bus."""

import fcntl
import os
import queue
import tempfile
import termios
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult

from tests.support.bridge import post
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE
from tests.support.router import Session
from tests.support.site import Site, alive, eventually, running_site

pytestmark = pytest.mark.acceptance

TEST = "com.example.test"
BACKEND = f"backend-{TEST}"
MARCH, PHP, SH, STUBBORN, HTTP, BRIEF = (
    f"{TEST}.{name}" for name in ("march", "php", "sh", "stubborn", "http", "brief")
)
PHP_STEPS = """
$told = fopen('php://fd/3', 'w'); $go_on = fopen($argv[1], 'r+'); stream_set_read_buffer($go_on, 0);
foreach (['one', 'two'] as $n => $step) {
    fwrite($told, json_encode(['progress' => ($n + 1) / 2, 'message' => $step]) . PHP_EOL);
    fread($go_on, 1);
}
echo json_encode(['args' => [2]]);
"""
SH_WAITS = "echo $$ >$0; (sleep 601) & wait"
SH_STAYS = "trap '' TERM; echo $$ >$0; while :; do sleep 1; done"


class Bus:
    """A site, and a FIFO from which its calls take a byte for each step."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.go_on = folder / "go_on"
        # For reading, too: it stays open between two readers.
        self.fifo = os.open(self.go_on, os.O_RDWR)

    def go(self, steps: int = 1) -> None:
        os.write(self.fifo, b"x" * steps)

    def free(self) -> None:
        """Let one go whose end nobody is told of: it must not take the next one's step."""
        self.go()
        eventually(lambda: not any(fcntl.ioctl(self.fifo, termios.FIONREAD, bytes(4))))

    def pids(self, name: str) -> set[int]:
        return {int(word) for word in (self.folder / name).read_text().split()}


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tb", dir="/tmp")))
        url, _ = stack.enter_context(serving(hang))
        os.mkfifo(folder / "go_on")
        (folder / "steps.php").write_text(f"<?php {PHP_STEPS}")
        entries = f"""
[api."{MARCH}"]
python = "tests.support.tasks:march"
promote_after = 0.2
[api."{PHP}"]
exec = ["php", "{folder}/steps.php", "{folder}/go_on"]
promote_after = 0.2
[api."{SH}"]
exec = ["sh", "-c", "{SH_WAITS}", "{folder}/sh"]
promote_after = 0.2
[api."{SH}.foreground"]
exec = ["sh", "-c", "{SH_WAITS}", "{folder}/forsaken"]
[api."{STUBBORN}"]
exec = ["sh", "-c", "{SH_STAYS}", "{folder}/stubborn"]
promote_after = 0.2
[api."{HTTP}"]
http = "{url}"
promote_after = 0.2
[api."{BRIEF}"]
python = "tests.support.tasks:march"
promote_after = 0.2
timeout = 1
"""
        site = stack.enter_context(running_site(folder, entries=entries))
        made = Bus(folder, site)
        stack.callback(os.close, made.fifo)
        yield made


def hang(request: Request) -> None:
    """Until the other side has had enough."""
    request.close_connection = True
    request.rfile.read(1)


@pytest.fixture
def session(bus: Bus) -> Iterator[Session]:
    with bus.site.joined() as joined:
        yield joined


def promoted(answer: Any) -> str:
    """The job that a call has become."""
    assert isinstance(answer, CallResult)
    assert answer.kwresults == {"promoted": True}
    [job] = answer.results
    return str(job)


def get(session: Session, job: str) -> dict[str, Any]:
    found: dict[str, Any] = session.call("taskbus.job.get", job)
    return found


def kinds(session: Session, job: str) -> list[str]:
    return [one["kind"] for one in session.call("taskbus.job.events", job)]


def error_of(session: Session, job: str) -> str:
    with pytest.raises(ApplicationError) as caught:
        session.call("taskbus.job.wait", job)
    return str(caught.value.error)


def test_a_short_call_stays_one(bus: Bus, session: Session) -> None:
    assert session.call(MARCH, str(bus.go_on)) == 0


@pytest.mark.parametrize("uri", [MARCH, PHP])
def test_a_long_call_is_a_job_that_can_be_watched(bus: Bus, session: Session, uri: str) -> None:
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    args = [str(bus.go_on), "one", "two"] if uri == MARCH else []
    job = promoted(session.begin(uri, *args, on_progress=heard.put)())
    assert heard.get(timeout=PATIENCE)["message"] == "one"

    now = get(session, job)
    assert (now["state"], now["attempt"], now["uri"], now["args"]) == ("running", 1, uri, args)
    [first] = session.call("taskbus.job.events", job)
    assert (first["kind"], first["data"]["reason"]) == ("running", "promoted")

    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    end = session.begin("taskbus.job.wait", job, on_progress=events.put)
    session.call("taskbus.job.list", limit=1)  # Answered after the wait has begun.
    bus.go()
    while events.get(timeout=PATIENCE)["data"].get("message") != "two":
        pass
    bus.go()
    assert end() == 2
    assert kinds(session, job) == ["running", "progress", "succeeded"]
    assert get(session, job)["attempt"] == 1


def test_every_door_tells_that_it_is_a_job_now(bus: Bus, session: Session) -> None:
    shown = bus.site.taskbus("call", "--json", MARCH, str(bus.go_on), "one")
    assert '"promoted": true' in shown.stdout
    request = {"procedure": MARCH, "args": [str(bus.go_on), "one"]}
    _, answered = post(bus.site, "/call", request, **bus.site.bridge_secret())
    assert answered["kwargs"] == {"promoted": True}
    bus.go(2)
    assert session.call("taskbus.job.wait", answered["args"][0]) == 1


def test_a_call_that_fails_is_a_failed_job(bus: Bus, session: Session) -> None:
    job = promoted(session.call(BRIEF, str(bus.go_on), "one"))
    assert error_of(session, job) == "taskbus.error.timeout"
    assert get(session, job)["state"] == "failed"
    bus.free()


@pytest.mark.parametrize(("uri", "file"), [(SH, "sh"), (STUBBORN, "stubborn"), (HTTP, "")])
def test_programs_and_connections_are_ended_when_it_is_cancelled(
    bus: Bus, session: Session, uri: str, file: str
) -> None:
    job = promoted(session.call(uri))
    assert session.call("taskbus.job.cancel", job) == "running"
    assert error_of(session, job) == "taskbus.error.cancelled"
    assert kinds(session, job) == ["running", "cancelling", "cancelled"]
    if file:
        assert not alive(bus.pids(file))


def test_python_code_runs_on_when_it_is_cancelled(bus: Bus, session: Session) -> None:
    job = promoted(session.call(MARCH, str(bus.go_on), "one"))
    session.call("taskbus.job.cancel", job)
    assert error_of(session, job) == "taskbus.error.cancelled"
    reasons = [one["data"]["reason"] for one in session.call("taskbus.job.events", job)]
    assert any("runs on to its end" in reason for reason in reasons)
    bus.free()


def test_a_stop_waits_for_it(bus: Bus, session: Session) -> None:
    job = promoted(session.call(MARCH, str(bus.go_on), "one"))
    os.kill(bus.site.pid(BACKEND), 15)
    eventually(lambda: is_gone(session))
    assert get(session, job)["state"] == "running"
    bus.go()
    assert session.call("taskbus.job.wait", job) == 1
    assert get(session, job)["attempt"] == 1
    bus.site.await_ready()


def is_gone(session: Session) -> bool:
    try:
        session.call(MARCH, "")
    except ApplicationError as error:
        return bool(error.error == "wamp.error.no_such_procedure")
    return False


def test_what_was_no_job_yet_ends_with_the_router_and_a_job_goes_on(
    bus: Bus, session: Session
) -> None:
    job = promoted(session.call(MARCH, str(bus.go_on), "one"))
    session.begin(f"{SH}.foreground", on_progress=lambda _: None)
    eventually((bus.folder / "forsaken").exists)
    eventually(lambda: bus.pids("forsaken") != set())
    pids = bus.pids("forsaken")
    os.kill(bus.site.pid("router"), 9)
    eventually(lambda: not alive(pids))
    bus.site.await_ready()
    bus.go()
    with bus.site.joined() as again:
        assert again.call("taskbus.job.wait", job) == 1
        assert get(again, job)["attempt"] == 1
    assert "Traceback" not in (bus.site.folder / f"var/log/{BACKEND}.log").read_text()


def test_a_worker_takes_over_where_the_backend_dies(bus: Bus, session: Session) -> None:
    job = promoted(session.call(MARCH, str(bus.go_on), "one"))
    os.kill(bus.site.pid(BACKEND), 9)
    eventually(lambda: get(session, job)["attempt"] == 2)
    bus.go()
    assert session.call("taskbus.job.wait", job) == 1
    assert [kind for kind in kinds(session, job) if kind != "progress"] == [
        "running", "queued", "running", "succeeded",
    ]  # fmt: skip
    bus.site.await_ready()
