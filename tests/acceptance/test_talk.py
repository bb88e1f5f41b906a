"""What programs say while they run, in jobs and in foreground calls, on a running bus."""

import base64
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

DANTE = "com.example.dante"
PHP, SH, LIVE, ODD = (f"{DANTE}.{name}" for name in ("steps", "steps_sh", "live", "odd"))
# It says something at a time, and waits in between.
SPEAK = """
echo one >&2; echo '{"progress": 0.5}' >&3; read line <$0
printf '\\377\\0\\303' >&2; read line <$0
printf '\\251' >&2; echo '{}'
"""
COMPLAIN = """echo 'no progress' >&3; echo '{"args": [1]}'"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    os.mkfifo(folder / "go_on")
    entries = f"""
[api."{LIVE}"]
exec = ["sh", "-c", '''{SPEAK}''', "{folder}/go_on"]
mode = "background"
[api."{ODD}"]
exec = ["sh", "-c", '''{COMPLAIN}''']
"""
    with running_site(folder, entries=entries) as up:
        yield up


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


def written(events: list[dict[str, Any]], stream: str = "stderr") -> bytes:
    chunks = [one["data"] for one in events if one["kind"] == "output"]
    return b"".join(
        base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
        for data in chunks
        if data["stream"] == stream
    )


@pytest.mark.parametrize("uri", [PHP, SH])
def test_a_programs_progress_and_log_are_in_the_jobs_journal(session: Session, uri: str) -> None:
    job = session.call("taskbus.job.submit", uri)
    assert session.call("taskbus.job.wait", job) == 3
    events = session.call("taskbus.job.events", job)
    said = [one["data"]["message"] for one in events if one["kind"] == "progress"]
    # What was said within a moment is told once, as its last state.
    assert said[-1] == "step 3"
    assert written(events) == b"did step 1\ndid step 2\ndid step 3\n"
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))


def test_a_foreground_program_tells_its_progress_to_the_caller(session: Session) -> None:
    heard: list[Any] = []
    assert session.begin(PHP, 4, 0.01, on_progress=heard.append)() == 4
    assert heard[-1] == {"fraction": 1.0, "message": "step 4"}
    fractions = [one["fraction"] for one in heard]
    assert fractions == sorted(fractions)


def test_the_command_shows_progress(site: Site) -> None:
    called = site.taskbus("call", PHP, "2")
    assert called.stdout == "2\n"
    assert "100% step 2" in called.stderr


@pytest.fixture
def go_on(folder: Path) -> Iterator[int]:
    # For reading, too: a reader that comes later would otherwise meet the end of what one wrote.
    fd = os.open(folder / "go_on", os.O_RDWR)
    yield fd
    os.close(fd)


def test_what_a_job_says_is_heard_while_it_runs(go_on: int, session: Session) -> None:
    """Byte for byte, where it is no text, and where a character comes in two pieces."""
    job = session.call("taskbus.job.submit", LIVE)

    def said() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = session.call("taskbus.job.events", job)
        return found

    def is_written(output: bytes) -> bool:
        return written(said()) == output

    # It goes on when it is told to, and is heard before.
    for output in (b"one\n", b"one\n\xff\0\xc3"):
        eventually(partial(is_written, output))
        os.write(go_on, b"go\n")
    session.call("taskbus.job.wait", job)
    assert written(said()) == b"one\n\xff\0\xc3\xa9"
    assert [one["data"]["fraction"] for one in said() if one["kind"] == "progress"] == [0.5]


def test_a_line_that_tells_no_progress_is_noted(site: Site, session: Session) -> None:
    job = session.call("taskbus.job.submit", ODD)
    assert session.call("taskbus.job.wait", job) == 1
    events = session.call("taskbus.job.events", job)
    [warning] = [one["data"]["reason"] for one in events if one["kind"] == "warning"]
    assert warning.endswith("is not JSON: no progress")
    assert "no progress" in site.taskbus("logs", job).stderr

    assert session.call(ODD) == 1
    log = site.var / f"log/backend-{DANTE}.log"
    assert "is not JSON: no progress" in log.read_text()
