"""Following on a running bus: every event once and in order, whatever breaks meanwhile."""

import contextlib
import http.client
import os
import queue
import random
import resource
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.error import ConnectError

from taskbus.adapter.doorbell import Doorbell
from taskbus.model.job import Change, State, move, note
from taskbus.wire import open_store
from tests.support.access_keys import new_key
from tests.support.processes import PATIENCE
from tests.support.quick import quick_folder
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site
from tests.support.sse import EventStream, Refused
from tests.support.values import a_job, add
from tests.support.web import Client

pytestmark = pytest.mark.acceptance

FOLLOW, JOURNAL = "taskbus.job.follow", "taskbus.journal.follow"
EVALUATE, TALK = "com.example.test.evaluate", "com.example.test.talk"
ENTRIES = f"""
[api."{TALK}"]
python = "tests.support.tasks:talk"
mode = "background"
[api."{EVALUATE}"]
python = "tests.support.tasks:evaluate"
mode = "background"
"""
MOST_FILES = 9000
# How a session ends that has lost its router, or finds none.
BROKEN = (ApplicationError, TransportLost, ConnectError, OSError, TimeoutError)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    shell = ("prlimit", f"--nofile=1024:{MOST_FILES}")
    with quick_folder() as folder, running_site(folder, entries=ENTRIES, within=shell) as up:
        yield up


@pytest.fixture(scope="module")
def key(site: Site) -> str:
    return new_key(site, "*").token


class Log:
    """A job that nobody runs: the test itself writes its journal, at full speed."""

    def __init__(self, site: Site) -> None:
        self._store = open_store(f"sqlite:///{site.var}/data/taskbus.db")
        self._bell = Doorbell(site.var / "run/doorbell.sock")
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


def streamed(site: Site, key: str, job: str, after: int, cut: bool) -> list[int]:
    """The same over HTTP."""
    seqs: list[int] = []
    while True:
        last = seqs[-1] if seqs else after
        try:
            with EventStream(site, f"/v1/jobs/{job}/stream", key, last) as events:
                assert events.headers["content-type"] == "text/event-stream"
                for event in events:
                    if event.name == "end":
                        assert event.data == {"seq": seqs[-1]}
                        return seqs
                    if event.name == "problem":
                        break
                    assert event.id == str(event.data["seq"])
                    seqs.append(event.data["seq"])
                    if cut and random.random() < 0.002:
                        break
        except Refused as refused:
            if refused.status == 204:
                return seqs
            if refused.told.get("status", 503) not in (401, 502, 503):
                raise
        except (OSError, http.client.HTTPException):
            pass


def test_ten_thousand_lines_through_cuts_and_a_router_restart(site: Site, key: str) -> None:
    log = Log(site)
    with ThreadPoolExecutor(20) as pool:
        begun: list[tuple[int, Future[list[int]]]] = []

        def join(nth: int) -> None:
            at, cut = log.seq, nth % 4 < 2
            if nth % 2:
                begun.append((at, pool.submit(followed, site, log.id, at, cut)))
            else:
                begun.append((at, pool.submit(streamed, site, key, log.id, at, cut)))

        for nth in range(16):
            join(nth)
            log.write(random.randint(1, 600))
        router = site.pid("router")
        os.kill(router, signal.SIGKILL)
        log.write(10_000 - log.seq)
        site.await_ready()
        join(2)
        join(3)
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


def test_a_client_that_hangs_up_is_forgotten_and_those_of_one_key_share(
    site: Site, key: str
) -> None:
    log = Log(site)
    log.write(3)
    with site.joined() as session:
        assert eventually(lambda: followers(session) == 0)
        target = f"/v1/jobs/{log.id}/stream"
        with EventStream(site, target, key) as one, EventStream(site, target, key, 2) as other:
            assert [event.data["seq"] for event in islice(one, 4)] == [
                1,
                2,
                3,
                4,
            ]
            assert [event.id for event in islice(other, 2)] == ["3", "4"]
            assert eventually(lambda: followers(session) == 1)
            one.hang_up()
            log.write(1)
            assert next(iter(other)).id == "5"
            assert followers(session) == 1
        assert eventually(lambda: followers(session) == 0)
    log.end()


def test_a_reader_that_stalls_slows_nobody(site: Site, key: str) -> None:
    log = Log(site)
    target = f"/v1/jobs/{log.id}/stream"
    with EventStream(site, target, key) as stalled, EventStream(site, target, key) as reading:
        log.write(20_000)
        last = log.end()
        assert [event.id for event in reading if event.name == "message"][-1] == str(last)
        # What it did not take waits for it in the store.
        assert [int(event.id) for event in stalled if event.name == "message"] == list(
            range(1, last + 1)
        )
    # A browser that comes back is told to stay away.
    with pytest.raises(Refused) as refused:
        EventStream(site, target, key, last)
    assert refused.value.status == 204


def test_a_stream_of_all_jobs_that_are_chosen(site: Site, key: str) -> None:
    with site.joined() as session:
        query = "uri=com.example.test.*&tag=theirs&kind=succeeded&kind=failed"
        with EventStream(site, f"/v1/stream?{query}", key) as live:
            jobs = [
                session.call("taskbus.job.submit", EVALUATE, ["1"], tags=["theirs"])
                for _ in range(3)
            ]
            events = list(islice(live, 3))
        assert {event.data["job"] for event in events} == set(jobs)
        assert [event.id for event in events] == [str(one.data["position"]) for one in events]
        with EventStream(site, f"/v1/stream?{query}", key, int(events[0].id)) as again:
            assert list(islice(again, 2)) == events[1:]
        assert eventually(lambda: followers(session) == 0)


def test_a_key_follows_what_it_may_read(site: Site) -> None:
    log = Log(site)
    with site.joined() as session:
        other = new_key(site, "read:com.example.test.*").token
        with pytest.raises(Refused) as refused:
            EventStream(site, f"/v1/jobs/{log.id}/stream", other)
        assert refused.value.told["error"] == "taskbus.error.job_not_found"
        with EventStream(site, "/v1/stream", other) as live:
            log.write(1)
            job = session.call("taskbus.job.submit", EVALUATE, ["1"])
            assert next(iter(live)).data["job"] == job
    log.end()


def test_a_revoked_key_hears_no_more(site: Site) -> None:
    log, revoked = Log(site), new_key(site, "*")
    target = f"/v1/jobs/{log.id}/stream"
    with EventStream(site, target, revoked.token) as stream, site.joined() as operator:
        events = iter(stream)
        assert next(events).id == "1"
        operator.call("taskbus.access.revoke", revoked.id)
        [last] = events
        assert last.name == "problem"
        with pytest.raises(Refused) as refused:
            EventStream(site, target, revoked.token, 1)
        assert refused.value.status == 401
        assert eventually(lambda: followers(operator) == 0)
    log.end()


@pytest.mark.parametrize(
    ("target", "last", "field"),
    [
        ("/v1/stream?state=running", None, "state"),
        ("/v1/stream?kind=runing", None, "kind"),
        ("/v1/stream?after=999999999", None, "after"),
        ("/v1/stream?after=x", None, "after"),
        ("/v1/jobs/{job}/stream?kind=output", None, "kind"),
        ("/v1/jobs/{job}/stream", 99, "after"),
        ("/v1/jobs/x/stream", None, "job"),
        ("/v1/jobs/{job}/logs?stream=stdin", None, "stream"),
        ("/v1/jobs/{job}/logs?follow=yes", None, "follow"),
    ],
)
def test_what_is_not_known_is_refused_over_http(
    site: Site, key: str, target: str, last: int | None, field: str
) -> None:
    with site.joined() as session:
        job = session.call("taskbus.job.submit", EVALUATE, ["1"])
    with pytest.raises(Refused) as refused:
        EventStream(site, target.format(job=job), key, last)
    assert (refused.value.status, refused.value.told["field"]) == (400, field)


def test_output_as_bytes(site: Site, key: str) -> None:
    ask = Client(site, f"Bearer {key}")
    # The first is no UTF-8.
    out, err = b"hello \xff\n", b"and bye\n"
    with site.joined() as session:
        job = session.call("taskbus.job.submit", TALK, [out.hex(), err.hex()])
        session.call("taskbus.job.wait", job)
    out, err = out + b"printed", err + b"complained"
    target = f"/v1/jobs/{job}/logs"
    assert ask("GET", f"{target}?stream=stdout").body == out
    assert ask("GET", f"{target}?stream=stderr").body == err
    both = ask("GET", target)
    # Their order is that in which they were read.
    assert sorted(both.body) == sorted(out + err)
    assert both.headers["content-type"] == "text/plain; charset=utf-8"
    assert ask("GET", f"{target}?follow=1").body == both.body
    assert ask("GET", f"{target}?follow=1&stream=stderr").body == err
    for sent, status, body, told in (
        ("bytes=0-3", 206, b"hell", f"bytes 0-3/{len(out)}"),
        ("bytes=6-", 206, out[6:], f"bytes 6-{len(out) - 1}/{len(out)}"),
        ("bytes=-2", 206, out[-2:], f"bytes {len(out) - 2}-{len(out) - 1}/{len(out)}"),
        ("bytes=7-999", 206, out[7:], f"bytes 7-{len(out) - 1}/{len(out)}"),
        ("bytes=999-", 416, b"", f"bytes */{len(out)}"),
        ("lines=1-2", 200, out, None),
    ):
        answer = ask("GET", f"{target}?stream=stdout", None, Range=sent)
        assert (answer.status, answer.body) == (status, body)
        assert answer.headers.get("content-range") == told


def test_output_is_followed_until_the_end(site: Site, key: str) -> None:
    log = Log(site)
    log.write(10)
    with EventStream(site, f"/v1/jobs/{log.id}/logs?follow=1", key) as followed:
        log.write(5000)
        last = log.end()
        lines = followed.read().decode().splitlines()
    assert lines == [f"line {seq}" for seq in range(2, last)]


@pytest.mark.parametrize("program", ["router", "gateway"])
def test_there_may_be_more_streams_than_a_shell_allows_files(site: Site, program: str) -> None:
    soft, _ = resource.prlimit(site.pid(program), resource.RLIMIT_NOFILE)
    assert soft == MOST_FILES
