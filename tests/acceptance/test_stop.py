"""Programs on the bus stop without losing a call, and come back after the router did."""

import os
import re
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost

from taskbus.adapter.process import Presence
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site
from tests.support.tasks import read_file

pytestmark = pytest.mark.acceptance

NAMESPACE = "com.example.test"
BACKEND = f"backend-{NAMESPACE}"
MEET, BRIEF, PROGRAM, PID, LATER = (
    f"{NAMESPACE}.{name}" for name in ("meet", "brief", "program", "pid", "later")
)
SCRIPT = 'echo begun >"$0.begun"; cat "$0.go" >&2; echo \'{"args": ["done"]}\''
TASKBUS = REPOSITORY / ".venv/bin/taskbus"
BURST, CALLERS = 50, 8
GONE = "wamp.error.no_such_procedure"
SERVING = "serving "


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    entries = f"""
[api."{MEET}"]
python = "tests.support.tasks:meet"
timeout = 60
[api."{BRIEF}"]
python = "tests.support.tasks:meet"
timeout = 1
[api."{PROGRAM}"]
exec = ["sh", "-c", '''{SCRIPT}''', "{folder}/program"]
[api."{PID}"]
python = "tests.support.tasks:pid"
[api."{LATER}"]
python = "tests.support.tasks:pid"
mode = "background"
"""
    with running_site(folder, entries=entries) as up:
        yield up


@pytest.fixture
def caller(site: Site) -> Iterator[Session]:
    site.supervisorctl("start", "all")
    site.await_ready()
    with site.joined() as session:
        yield session


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * CALLERS) as threads:
        yield threads


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        os.mkfifo(path)
        return path

    return make


def error_of(call: Callable[..., Any], *args: Any) -> str:
    """The URI of the error that a call ends with."""
    with pytest.raises(ApplicationError) as caught:
        call(*args)
    return str(caught.value.error)


def is_gone(session: Session, uri: str) -> bool:
    return next(until_gone(session, uri), None) is None


def until_gone(session: Session, uri: str, *args: Any) -> Iterator[Any]:
    """The results of one call after another, until nobody serves the URI."""
    while True:
        try:
            yield session.call(uri, *args)
        except ApplicationError as error:
            if error.error != GONE:
                raise
            return


class Burst:
    """Calls from many callers at once, until nobody serves the URI; ``results`` of all of them."""

    def __init__(self, site: Site, pool: ThreadPoolExecutor, uri: str, *args: Any) -> None:
        self.results: list[Any] = []
        self._over = threading.Event()
        self._ends = [pool.submit(self._run, site, uri, *args) for _ in range(CALLERS)]

    def __enter__(self) -> "Burst":
        eventually(lambda: len(self.results) > BURST)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def wait(self) -> None:
        for end in self._ends:
            end.result(PATIENCE)

    def _run(self, site: Site, uri: str, *args: Any) -> None:
        with site.joined() as session:
            for result in until_gone(session, uri, *args):
                self.results.append(result)
                if self._over.is_set():
                    return


def ended(pid: int) -> None:
    """Wait until a process is gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([watched], [], [], PATIENCE)[0], "it does not end"
    finally:
        os.close(watched)


def exits(site: Site, program: str) -> list[str]:
    """With which statuses, or by which signals, its processes ended."""
    log = (site.var / "log/supervisord.log").read_text()
    return re.findall(rf"(?:stopped|exited): {program} \((exit status \d+|terminated by \w+)", log)


def stored(session: Session) -> int:
    return sum(session.call("taskbus.bus.status")["jobs"].values())


def meeting(
    pool: ThreadPoolExecutor, session: Session, fifo: Callable[[str], Path], uri: str = MEET
) -> tuple["Future[Any]", Path]:
    """A call that runs until somebody writes to the FIFO."""
    begun, go_on = fifo("begun"), fifo("go_on")
    call = pool.submit(session.call, uri, str(begun), str(go_on))
    read_file(str(begun))
    return call, go_on


def test_a_backend_told_to_stop_answers_every_call(
    site: Site, folder: Path, caller: Session, pool: ThreadPoolExecutor, fifo: Any
) -> None:
    program = folder / "program"
    for end in (".begun", ".go"):
        os.mkfifo(f"{program}{end}")
    called = pool.submit(caller.call, PROGRAM)
    read_file(f"{program}.begun")
    met, go_on = meeting(pool, caller, fifo)
    before = stored(caller)
    pid = site.pid(BACKEND)
    with Burst(site, pool, LATER) as burst:
        stopping = pool.submit(site.supervisorctl, "stop", BACKEND)
        burst.wait()
    accepted = burst.results
    assert error_of(caller.call, PID) == GONE
    assert not met.done()
    assert not called.done()

    go_on.write_text("go")
    Path(f"{program}.go").write_text("go")
    assert met.result(PATIENCE) == pid
    assert called.result(PATIENCE) == "done"
    assert stopping.result(PATIENCE).returncode == 0
    assert exits(site, BACKEND)[-1] == "exit status 0"
    # Each was accepted once, and none behind its caller's back.
    assert stored(caller) - before == len(accepted) == len(set(accepted))
    for job in accepted:
        assert caller.call("taskbus.job.get", job)["uri"] == LATER

    assert site.supervisorctl("start", BACKEND).returncode == 0
    assert eventually(lambda: not is_gone(caller, PID))


def test_a_second_signal_does_not_wait(
    site: Site, caller: Session, pool: ThreadPoolExecutor, fifo: Any
) -> None:
    met, _ = meeting(pool, caller, fifo)
    pid, before = site.pid(BACKEND), len(exits(site, BACKEND))
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: is_gone(caller, PID))
    assert not met.done()
    os.kill(pid, signal.SIGTERM)
    assert error_of(met.result, PATIENCE) == "taskbus.error.stopped"
    ended(pid)
    assert eventually(lambda: exits(site, BACKEND)[before:]) == ["exit status 0"]


def test_a_call_that_does_not_end_is_answered_and_left(
    site: Site, caller: Session, pool: ThreadPoolExecutor, fifo: Any
) -> None:
    met, _ = meeting(pool, caller, fifo, BRIEF)
    assert site.supervisorctl("stop", BACKEND).returncode == 0
    assert error_of(met.result, PATIENCE) == "taskbus.error.timeout"
    assert exits(site, BACKEND)[-1] == "exit status 0"


def test_another_backend_takes_over_until_supervisord_has_its_own_again(
    site: Site, caller: Session, pool: ThreadPoolExecutor, fifo: Any
) -> None:
    met, go_on = meeting(pool, caller, fifo)
    old = site.pid(BACKEND)
    with by_hand(site, "backend", NAMESPACE) as other:
        eventually(lambda: caller.call(PID) == other.pid)
        go_on.write_text("go")
        assert met.result(PATIENCE) == old
        assert other.wait(PATIENCE) == 0
    eventually(lambda: not is_gone(caller, PID))
    assert caller.call(PID) == site.pid(BACKEND) != old


def test_another_control_leaves_when_supervisord_has_its_own_again(site: Site) -> None:
    old = site.pid("control")
    with by_hand(site, "control") as other:
        assert other.wait(PATIENCE) == 0
    site.await_ready()
    assert site.pid("control") != old


@pytest.mark.parametrize("program", ["control", BACKEND])
def test_a_program_is_ready_as_soon_as_one_that_leaves_has_gone(
    site: Site, caller: Session, program: str
) -> None:
    assert site.supervisorctl("stop", program).returncode == 0
    leaving = Presence(site.var / "run", program)
    assert leaving.hold()
    log = site.var / "log" / f"{program}.log"
    served = log.read_text().count(SERVING)
    assert site.supervisorctl("start", program).returncode == 0
    eventually(lambda: log.read_text().count(SERVING) > served)
    leaving.drop()
    site.await_ready()


def test_another_gateway_is_refused(site: Site) -> None:
    pid = site.pid("gateway")
    done = site.taskbus("gateway")
    assert done.returncode == 3
    assert f"the gateway runs already, as process {pid}" in done.stderr
    site.await_ready()
    assert site.pid("gateway") == pid


@contextmanager
def by_hand(site: Site, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that supervisord runs already, started once more."""
    command = [str(TASKBUS), "--settings", str(site.settings), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as other:
        try:
            yield other
        finally:
            other.kill()


def test_control_told_to_stop_answers_every_call(
    site: Site, caller: Session, pool: ThreadPoolExecutor, fifo: Any
) -> None:
    begun, go_on = fifo("begun"), fifo("go_on")
    job = caller.call("taskbus.job.submit", MEET, [str(begun), str(go_on)])
    read_file(str(begun))
    waiting = pool.submit(caller.call, "taskbus.job.wait", job)
    with Burst(site, pool, "taskbus.job.submit", LATER) as burst:
        assert site.supervisorctl("stop", "control").returncode == 0
        burst.wait()
    assert error_of(waiting.result, PATIENCE) == "taskbus.error.stopped"
    assert exits(site, "control")[-1] == "exit status 0"
    assert site.supervisorctl("start", "control").returncode == 0
    site.await_ready()

    for one in burst.results:
        assert caller.call("taskbus.job.get", one)["uri"] == LATER
    waiting = pool.submit(caller.call, "taskbus.job.wait", job)
    go_on.write_text("go")
    assert isinstance(waiting.result(PATIENCE), int)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_serves_again_after_the_router_was_gone(
    site: Site, caller: Session, pool: ThreadPoolExecutor, fifo: Any, number: int
) -> None:
    met, go_on = meeting(pool, caller, fifo)
    late = pool.submit(caller.call, BRIEF, str(fifo("late")), "")
    job = caller.call("taskbus.job.submit", LATER, delay=3600)
    waiting = pool.submit(caller.call, "taskbus.job.wait", job)
    parts = (BACKEND, "control", "worker-00")
    before = [site.pid(part) for part in parts]
    router = site.pid("router")
    os.kill(router, number)
    ended(router)
    for call in (met, late, waiting):
        with pytest.raises((ApplicationError, TransportLost)):
            call.result(PATIENCE)
    go_on.write_text("go")

    site.await_ready()
    with site.joined() as again:
        heard = again.subscribe("com.example.queue.notify")
        assert again.call(PID) == before[0]
        job = again.call(LATER)
        assert isinstance(again.call("taskbus.job.wait", job), int)
        assert eventually(lambda: not heard.empty() or not again.call(LATER))
    assert [site.pid(part) for part in parts] == before
    for part in (BACKEND, "control"):
        assert "Traceback" not in (site.var / "log" / f"{part}.log").read_text()
