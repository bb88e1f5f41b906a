"""Limits of memory and CPU time on a running bus, for programs in any language."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from autobahn.wamp.exception import ApplicationError

from tests.support.router import Session
from tests.support.site import alive, eventually, running_site

pytestmark = pytest.mark.acceptance

TEST = "com.example.test"
PHP_HOG, PHP_BURN, SH_BURN, HOG = (
    f"{TEST}.{name}" for name in ("php_hog", "php_burn", "sh_burn", "hog")
)
ENTRIES = f"""
[api."{PHP_HOG}"]
exec = ["php", "-d", "memory_limit=-1", "-r", "$x = str_repeat('x', 200 << 20); sleep(601);"]
memory = 100
[api."{PHP_BURN}"]
exec = ["php", "-r", "while (true);"]
cpu = 0.3
[api."{SH_BURN}"]
exec = ["sh", "-c", "echo $$ >&2; (while :; do :; done) & wait"]
cpu = 0.3
retries = 1
backoff = {{first = 0}}
[api."{HOG}"]
python = "tests.support.tasks:hog"
"""


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder), entries=ENTRIES) as site,
        site.joined() as joined,
    ):
        yield joined


def error_of(session: Session, job: str) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        session.call("taskbus.job.wait", job)
    error: ApplicationError = caught.value
    return error


@pytest.mark.parametrize(
    ("uri", "what", "limit"),
    [(PHP_HOG, "memory", 100), (PHP_BURN, "cpu", 0.3), (SH_BURN, "cpu", 0.3)],
)
def test_a_program_over_its_limit(session: Session, uri: str, what: str, limit: float) -> None:
    job = session.call("taskbus.job.submit", uri)
    error = error_of(session, job)
    assert error.error == f"taskbus.error.{what}_exceeded"
    assert error.kwargs["limit"] == limit
    assert error.kwargs["used"] > limit
    events = session.call("taskbus.job.events", job)
    kinds = [one["kind"] for one in events if one["kind"] != "output"]
    again = ["retrying", "queued", "running"] if uri == SH_BURN else []
    assert kinds == ["queued", "running", *again, "failed"]
    said = "".join(one["data"]["text"] for one in events if one["kind"] == "output")
    eventually(lambda: not alive({int(pid) for pid in said.split()}))


def test_a_call_has_limits_of_its_own(session: Session) -> None:
    size = 200 << 20
    job = session.call("taskbus.job.submit", HOG, [size], memory=100)
    assert error_of(session, job).error == "taskbus.error.memory_exceeded"
    job = session.call("taskbus.job.submit", HOG, [size, "return"], memory=400, cpu=60)
    assert session.call("taskbus.job.wait", job) is None
