"""The bus in the foreground, as ``make run`` starts it: what it tells, and every way to end it."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from taskbus.adapter.sql import SqlStore
from taskbus.wire import read_settings
from tests.support.gate import GATED, Gate, a_gate
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.site import Site, alive, descendants, eventually, make_site
from tests.support.terminal import CTRL_C, Terminal, at_terminal

pytestmark = pytest.mark.acceptance

UP = [str(REPOSITORY / ".venv/bin/taskbus"), "up"]
IS_UP = "Ctrl-C\n\n"
STOPPING = "stopping; jobs in hand finish first"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as gate:
        yield gate


@pytest.fixture
def site(folder: Path, gate: Gate) -> Site:
    return make_site(folder, entries=gate.entry)


@contextmanager
def coming_up(site: Site, command: list[str]) -> Iterator[Terminal]:
    """The bus, started by a command that finds its settings in the environment."""
    # Where make runs the tests, its own variables would tell the inner make what to do.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment["TASKBUS_SETTINGS"] = str(site.settings)
    with at_terminal(command, environment) as terminal:
        try:
            yield terminal
        finally:
            site.kill()


def in_hand(site: Site, gate: Gate) -> str:
    """A job that runs, and will until the gate lets it pass."""
    job = site.taskbus("submit", GATED).stdout.strip()
    eventually(gate.is_reached)
    return job


def everything(terminal: Terminal) -> set[int]:
    return {terminal.process.pid, *descendants(terminal.process.pid)}


def state(site: Site, job: str) -> str | None:
    with closing(SqlStore(read_settings(site.settings).database)) as store:
        found = store.job(job)
    return found and found.state


def shell(line: str) -> "subprocess.CompletedProcess[str]":
    """Run a line as it is, in the project's folder, where a newcomer's second terminal is."""
    return subprocess.run(
        ["sh", "-c", line],
        cwd=REPOSITORY,
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


def test_what_make_run_tells_works_as_it_stands(site: Site, gate: Gate) -> None:
    with coming_up(site, ["make", "run"]) as terminal:
        terminal.read_until(IS_UP)
        told = dict(re.findall(r"^  (\w+) +(.+)$", terminal.shown, re.MULTILINE))
        assert set(told) == {"page", "call", "curl", "queue", "watch", "stop"}
        assert told["page"].endswith(f"#token={site.ticket('browser')}")
        with urlopen(told["page"]) as page:
            assert b"<title>" in page.read()
        done = {name: shell(told[name]) for name in ("call", "curl", "queue", "watch")}
        assert [one for one in done.values() if one.returncode != 0] == []
        assert done["queue"].stdout.strip() in done["watch"].stdout

        job = in_hand(site, gate)
        started = everything(terminal)
        assert told["stop"] == "Ctrl-C"
        terminal.type(CTRL_C)
        terminal.read_until(STOPPING)
        gate.let_one_pass()
        terminal.process.wait(PATIENCE)
        eventually(lambda: not alive(started))
    assert state(site, job) == "succeeded"


def terminate(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGTERM)
    terminal.read_until(STOPPING)


def close_the_window(terminal: Terminal) -> None:
    terminal.hang_up()


@pytest.mark.parametrize("end", [terminate, close_the_window])
def test_however_it_is_told_to_end_it_lets_the_job_finish_and_leaves_nothing(
    site: Site, gate: Gate, end: Callable[[Terminal], None]
) -> None:
    with coming_up(site, UP) as terminal:
        terminal.read_until(IS_UP)
        job = in_hand(site, gate)
        started = everything(terminal)
        end(terminal)
        gate.let_one_pass()
        terminal.process.wait(PATIENCE)
        eventually(lambda: not alive(started))
    assert state(site, job) == "succeeded"


def test_a_second_ctrl_c_ends_it_at_once(site: Site, gate: Gate) -> None:
    with coming_up(site, UP) as terminal:
        terminal.read_until(IS_UP)
        job = in_hand(site, gate)
        started = everything(terminal)
        terminal.type(CTRL_C)
        terminal.read_until(STOPPING)
        terminal.type(CTRL_C)
        terminal.process.wait(PATIENCE)
        eventually(lambda: not alive(started))
    assert state(site, job) == "running"
