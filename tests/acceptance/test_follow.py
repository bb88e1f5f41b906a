"""Following on a running bus: every event once and in order, whatever breaks meanwhile."""

import contextlib
import os
import queue
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.error import ConnectError

from taskbus.adapter.doorbell import Doorbell
from taskbus.model.job import Change, State, move, note
from taskbus.wire import open_store
from tests.support.processes import PATIENCE
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site
from tests.support.values import a_job, add

pytestmark = pytest.mark.acceptance

FOLLOW, JOURNAL = "taskbus.job.follow", "taskbus.journal.follow"
STEPS, EVALUATE = "com.example.test.steps", "com.example.test.evaluate"
ENTRIES = f"""
[api."{STEPS}"]
python = "tests.support.tasks:steps"
mode = "background"
[api."{EVALUATE}"]
python = "tests.support.tasks:evaluate"
mode = "background"
"""
# How a session ends that has lost its router, or finds none.
BROKEN = (ApplicationError, TransportLost, ConnectError, OSError, TimeoutError)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder), entries=ENTRIES) as up,
    ):
        yield up


class Log:
    """A job that nobody runs: the test itself writes its journal, at full speed."""

    def __init__(self, site: Site) -> None:
        self._store = open_store(f"sqlite:///{site.var}/data/taskbus.db")
        self._bell = Doorbell(site.var / "run/doorbell")
        self._job = a_job(state=State.SCHEDULED, due=time.time() + 3600, created=time.time())
        add(self._store, self._job)
        self.id = self._job.id

    def write(self, lines: int) -> None:
        """So many events, several in each commit."""
        while lines > 0:
            count = min(lines, random.randint(1, 20))
            first = self._job.seq + 1
            notes = [
                ("output", {"stream": "stdout", "text": f"line {first + nth}\n"})
                for nth in range(count)
            ]
            self._apply(note(self._job, time.time(), notes))
            lines -= count

    def end(self) -> int:
        """The job has ended; its last number."""
        now = time.time()
        end = move(
            self._job, State.CANCELLED, now, reason="enough", actor="test",
            finished=now, expires=now + 3600,
        )  # fmt: skip
        self._apply(end)
        self._store.close()
        self._bell.close()
        return self._job.seq

    def _apply(self, change: Change) -> None:
        assert self._store.advance([change], durable=False) == [True]
        self._job = change.after
        self._bell.ring()

    @property
    def seq(self) -> int:
        """How far it is."""
        return self._job.seq


def followed(site: Site, job: str, after: int, cut: bool) -> list[int]:
    """The numbers of the events after one, until the job has ended, whatever breaks; ``cut``: so
    does the connection itself, at any moment.
    """
    seqs: list[int] = []

    def hear(events: list[dict[str, Any]]) -> None:
        for event in events:
            seqs.append(event["seq"])
            if event["kind"] == "output":
                assert event["data"]["text"] == f"line {event['seq']}\n"
        if cut and random.random() < 0.05:
            enough.set()

    enough = threading.Event()
    while True:
        enough.clear()
        at = seqs[-1] if seqs else after
        with contextlib.suppress(*BROKEN), site.joined() as session:
            limit = random.randint(1, 2000)
            end = session.begin(FOLLOW, job, after=at, limit=limit, on_progress=hear)
            if cut:
                enough.wait(0.5)
                session.leave()
            told = end()
            assert told["seq"] == (seqs or [after])[-1]
            if told["ended"]:
                return seqs


def test_ten_thousand_lines_through_cuts_and_a_router_restart(site: Site) -> None:
    log = Log(site)
    with ThreadPoolExecutor(20) as pool:
        begun: list[tuple[int, Future[list[int]]]] = []

        def join(cut: bool) -> None:
            begun.append((log.seq, pool.submit(followed, site, log.id, log.seq, cut)))

        for nth in range(16):
            join(cut=nth % 2 == 0)
            log.write(random.randint(1, 600))
        router = site.pid("router")
        os.kill(router, signal.SIGKILL)
        log.write(10_000 - log.seq)
        site.await_ready()
        join(cut=False)
        last = log.end()
        assert last > 10_000
        for after, following in begun:
            assert following.result(PATIENCE) == list(range(after + 1, last + 1))


def followers(session: Session) -> int:
    """How many follow, as control knows."""
    count: int = session.call("taskbus.bus.status")["followers"]
    return count


def test_the_bus_forgets_who_leaves_or_cancels(site: Site) -> None:
    log = Log(site)
    with site.joined() as session:
        assert eventually(lambda: followers(session) == 0)
        with site.joined() as leaving, site.joined("browser") as browser:
            heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
            leaving.begin(FOLLOW, log.id, on_progress=heard.put)
            leaving.begin(JOURNAL, on_progress=heard.put)
            browser.begin(FOLLOW, log.id, on_progress=heard.put)
            assert eventually(lambda: followers(session) == 3)
            browser.leave()
            assert eventually(lambda: followers(session) == 2)
        assert eventually(lambda: followers(session) == 0)
        last = log.end()
        got: queue.SimpleQueue[Any] = queue.SimpleQueue()
        told = session.begin(FOLLOW, log.id, on_progress=got.put)()
        assert told == {"seq": last, "ended": True}


def test_entries_of_all_jobs_that_are_asked_for(site: Site) -> None:
    with site.joined() as session, site.joined("browser") as browser:
        heard: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        chosen = {"uri": "com.example.test.*", "tag": "mine", "kind": ["succeeded", "failed"]}
        browser.begin(JOURNAL, **chosen, on_progress=heard.put)
        assert eventually(lambda: followers(session) == 1)
        jobs = [
            session.call("taskbus.job.submit", EVALUATE, [words], tags=["mine"])
            for words in ("1", "fail('no')", "3")
        ]
        session.call("taskbus.job.wait", session.call("taskbus.job.submit", EVALUATE, ["4"]))
        entries: list[dict[str, Any]] = []
        while len(entries) < 3:
            entries += heard.get(timeout=PATIENCE)
        assert {one["job"]: one["kind"] for one in entries} == dict(
            zip(jobs, ("succeeded", "failed", "succeeded"), strict=True)
        )
        # From the first of them on, they are the same when they are read later.
        later: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        after = entries[0]["position"]
        told = session.begin(JOURNAL, after, **chosen, limit=2, on_progress=later.put)()
        assert told["position"] >= entries[2]["position"]
        assert later.get() == entries[1:]


@pytest.mark.parametrize(
    ("procedure", "options", "field"),
    [
        (JOURNAL, {"state": "running"}, "state"),
        (JOURNAL, {"kind": "runing"}, "kind"),
        (JOURNAL, {"after": 2**40}, "after"),
        (FOLLOW, {"job": "x"}, "job"),
    ],
)
def test_what_is_not_known_is_refused(
    site: Site, procedure: str, options: dict[str, Any], field: str
) -> None:
    with site.joined() as session, pytest.raises(ApplicationError) as caught:
        session.begin(procedure, **options, on_progress=list)()
    assert caught.value.error == "taskbus.error.invalid_argument"
    assert caught.value.kwargs["field"] == field
