"""The running bus on each store, and what it does while the store is away."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest
from autobahn.wamp.exception import ApplicationError

from tests.support.mariadb import running_mariadb
from tests.support.mongo import running_mongo
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

SLEEPER = "com.example.dante.sleeper"
FINAL = ("succeeded", "failed", "dead", "cancelled")
BURST = 200
BEFORE_THE_BLOW = 20
BURST_SECONDS = 120.0


class Server(Protocol):
    """A database server."""

    def database(self) -> str:
        """The URL of a new database."""

    def start(self) -> None:
        """Returns when it answers."""

    def stop(self) -> None:
        """As a crash would."""

    def cut(self) -> int:
        """Break every connection."""


SERVERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "mariadb": running_mariadb,
    "mongo": running_mongo,
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture(scope="module")
def site(server: Server) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder:
        secret = Path(folder) / "url"
        secret.touch(0o600)
        secret.write_text(server.database() + "\n")
        with running_site(Path(folder), '[store]\nurl_file = "url"\n') as running:
            yield running


def submit(session: Session, count: int, seconds: float) -> set[str]:
    request = {"uri": SLEEPER, "args": [seconds]}
    return set(session.call("taskbus.job.submit_many", [request] * count))


def ended(session: Session, jobs: set[str]) -> int:
    found = session.call("taskbus.job.list", "succeeded", SLEEPER, None, 1000)
    return sum(job["id"] in jobs for job in found)


def check_journals(session: Session, jobs: set[str]) -> None:
    """One outcome each, and no attempt that the journal does not explain."""
    for job in jobs:
        events = session.call("taskbus.job.events", job)
        kinds = [event["kind"] for event in events]
        assert [kind for kind in kinds if kind in FINAL] == kinds[-1:] == ["succeeded"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        lost = sum(event["data"].get("reason", "").endswith("lost") for event in events)
        assert kinds.count("running") == 1 + lost


def refusal(session: Session, procedure: str, *args: Any) -> str | None:
    """The error that a caller gets now."""
    try:
        session.call(procedure, *args)
    except ApplicationError as error:
        return str(error.error)
    return None


def test_nothing_accepted_is_lost_by_kill_9(site: Site) -> None:
    worker = site.pid("worker-00")
    with site.joined() as session:
        # On four slots these take five seconds at least: to look and to strike takes less.
        jobs = submit(session, BURST, 0.1)
        assert len(jobs) == BURST
        eventually(lambda: ended(session, jobs) >= BEFORE_THE_BLOW)
        os.kill(worker, signal.SIGKILL)
        assert ended(session, jobs) < BURST, "the burst was over before the blow"
        eventually(lambda: ended(session, jobs) == BURST, BURST_SECONDS)
        check_journals(session, jobs)
    site.await_ready()


def test_connections_that_break_are_noticed_by_nobody(site: Site, server: Server) -> None:
    with site.joined() as session:
        jobs = submit(session, BURST, 0.02)
        for _ in range(5):
            assert server.cut() > 0
            jobs |= submit(session, 10, 0)
        eventually(lambda: ended(session, jobs) == len(jobs), BURST_SECONDS)
        check_journals(session, jobs)


def test_a_store_that_is_away_for_a_while_loses_nothing(site: Site, server: Server) -> None:
    with site.joined() as session:
        jobs = submit(session, BURST, 0.02)
        eventually(lambda: ended(session, jobs) >= BEFORE_THE_BLOW)
        server.stop()
        try:
            for call in (["taskbus.job.submit", SLEEPER, [0]], ["taskbus.job.list"]):
                assert refusal(session, *call) == "taskbus.error.store_unavailable"
        finally:
            server.start()
        jobs |= submit(session, 10, 0)
        eventually(lambda: ended(session, jobs) == len(jobs), BURST_SECONDS)
        check_journals(session, jobs)
    assert {one["state"] for one in site.status()["programs"]} == {"RUNNING"}
