"""The worker's loop: reserve, claim, run, settle, delete."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_limits import MemoryLimits
from taskbus.adapter.memory_links import MemoryLinks
from taskbus.adapter.sql import SqlStore
from taskbus.core.cancel import cancel
from taskbus.core.chores import Chores
from taskbus.core.follow import Ends, FollowUps
from taskbus.core.lease import MOST_LOSSES
from taskbus.core.tally import Tally, tallied
from taskbus.core.untraced import NO_SPANS, Untraced
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import StoreUnavailable, TaskFailure
from taskbus.model.job import Change, Job, State
from taskbus.model.json import dump
from taskbus.model.policy import Policy
from taskbus.model.trace import Trace
from taskbus.model.webhook import DELIVER
from taskbus.port.queue import Delivery, QueueStats
from taskbus.port.spans import Spans
from taskbus.worker import attempt as attempt_module
from taskbus.worker.output import MOST_OUTPUT
from taskbus.worker.parent import Worker
from taskbus.worker.spares import Child, Spares
from tests.support.attempts import HANDLERS, PATH, Watch, children_of
from tests.support.links import waiting_for
from tests.support.processes import PATIENCE, line, python, say
from tests.support.values import added, applied, start, succeeded

pytestmark = pytest.mark.usefixtures("own_signals")


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The worker takes the process' signals: give them back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    wakeup = signal.set_wakeup_fd(-1)
    yield
    signal.set_wakeup_fd(wakeup)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


class Bell:
    """Counts its rings, and wakes who waits for the journal to grow."""

    def __init__(self) -> None:
        self.rings = 0
        self._rung = threading.Condition()

    def ring(self) -> None:
        with self._rung:
            self.rings += 1
            self._rung.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._rung:
            assert self._rung.wait_for(condition, PATIENCE)


class Names:
    """Liveness by name."""

    def __init__(self, *dead: str) -> None:
        self._dead = dead

    def identity(self) -> str:
        return "me"

    def is_dead(self, identity: str) -> bool:
        return identity in self._dead


class Site:
    """Store and queue, and workers for them."""

    def __init__(self) -> None:
        self.store, self.broker, self.bell = MemoryStore(), MemoryBroker(), Bell()
        self.queue = MemoryQueue(self.broker)
        self.follow_ups = FollowUps(self.store, MemoryLinks(self.store), time.time)
        self.api = ApiMap(
            Entry(uri, "python", spec["target"], "background") for uri, spec in HANDLERS.items()
        )
        self.shift = 0.0
        self.loaded = threading.Event()
        self.liveness = Names()
        self.readiness = 0
        self.on_ready: Callable[[], object] = lambda: None
        self.enclose: Callable[[Job], Any] = lambda _: None
        self.spans: Spans = NO_SPANS
        self.tally: Tally | None = None

    def submit(self, name: str, *args: Any, **fields: Any) -> Job:
        """A queued job that calls a task of ``tests.support.tasks``."""
        fields = {"uri": f"com.t.{name}", "args": dump(args), "created": time.time()} | fields
        job = added(self.store, **fields)
        self.place(job)
        return job

    def place(self, job: Job) -> None:
        self.queue.put([job.placement])
        self.store.placed([job.placement])

    def work(self, most: int, slots: int = 1, ttr: float = 60.0) -> None:
        """Serve until so many jobs are done."""

        def on_ready() -> None:
            self.readiness += 1
            self.on_ready()

        worker = Worker(
            store=self.store,
            limits=MemoryLimits(self.store),
            queues=[MemoryQueue(self.broker) for _ in range(slots)],
            liveness=self.liveness,
            bell=self.bell,
            clock=self.clock,
            timer=time.monotonic,
            follow_ups=self.follow_ups,
            load_map=self.load_map,
            task_path=PATH,
            ttr=ttr,
            on_ready=on_ready,
            enclose=self.enclose,
            spans=self.spans,
            tally=self.tally,
        )
        hang_guard = threading.Timer(PATIENCE, os.kill, (os.getpid(), signal.SIGTERM))
        hang_guard.start()
        with closing(worker._woken), closing(worker._wakeup):
            worker.serve(most)
        hang_guard.cancel()

    def clock(self) -> float:
        """As somebody has set it."""
        return time.time() + self.shift

    def load_map(self) -> ApiMap:
        self.loaded.set()
        return self.api

    def reload(self) -> None:
        """Returns when the worker has heard of it."""
        self.loaded.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        assert self.loaded.wait(PATIENCE)

    def now(self, job: Job) -> Job:
        found = self.store.job(job.id)
        assert found is not None
        return found

    def kinds(self, job: Job) -> list[str]:
        return [event.kind for event in self.store.events(job.id)]

    def said(self, job: Job) -> list[Any]:
        """What its events tell but for its states."""
        return [
            json.loads(event.data)
            for event in self.store.events(job.id)
            if event.kind in ("output", "progress")
        ]

    def outputs(self, job: Job) -> list[Any]:
        return [data for data in self.said(job) if "stream" in data]

    def failure(self, job: Job) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.now(job).error or "")
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.queue.close()


@contextmanager
def when_logged(text: str, then: Callable[[], object]) -> Iterator[threading.Event]:
    """Do something at the first line of the worker's log that contains this text."""
    happened = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage() and not happened.is_set():
                happened.set()
                then()

    listener, worker_log = Listener(), logging.getLogger("taskbus.worker")
    worker_log.addHandler(listener)
    try:
        yield happened
    finally:
        worker_log.removeHandler(listener)
    assert happened.is_set(), f"nobody logged {text!r}"


class Meeting:
    """A task that tells when it runs, and waits until it may go on; see ``tasks.meet``."""

    def __init__(self, folder: Path) -> None:
        self.started, self.go_on = str(folder / "started"), str(folder / "go_on")
        os.mkfifo(self.started)
        os.mkfifo(self.go_on)

    @property
    def paths(self) -> tuple[str, str]:
        return self.started, self.go_on

    def join(self) -> int:
        """Wait until it runs; its pid."""
        return int(Path(self.started).read_text(encoding="ascii"))

    def release(self) -> None:
        Path(self.go_on).write_text("go", encoding="ascii")

    @contextmanager
    def meanwhile(self, deed: Callable[[int], object], release: bool = True) -> Iterator[None]:
        """Do something in another thread while the task runs, then let it go on."""
        errors: list[BaseException] = []

        def meet() -> None:
            try:
                deed(self.join())
            except BaseException as error:
                errors.append(error)
                raise
            finally:
                if release:
                    self.release()

        thread = threading.Thread(target=meet, daemon=True)
        thread.start()
        yield
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not errors


@pytest.fixture
def meeting(tmp_path: Path) -> Meeting:
    return Meeting(tmp_path)


# One job


def test_a_job_succeeds(site: Site) -> None:
    job = site.submit("add", 1, 2)
    site.work(most=1)
    assert site.now(job).state is State.SUCCEEDED
    assert site.now(job).attempt == 1
    assert json.loads(site.store.result(job.id) or "") == {"args": [3], "kwargs": {}}
    assert site.kinds(job) == ["queued", "running", "succeeded"]
    assert site.queue.stats() == QueueStats(0, 0, 0)
    assert site.bell.rings >= 2
    assert site.readiness >= 1


def test_a_job_fails(site: Site) -> None:
    job = site.submit("fail")
    site.work(most=1)
    assert site.now(job).state is State.FAILED
    assert site.failure(job)["error"] == "com.example.error.asked"
    assert site.kinds(job) == ["queued", "running", "failed"]
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_a_failed_job_is_tried_again_when_its_time_has_come(site: Site) -> None:
    job = site.submit("crash", retries=1)
    site.work(most=1)
    waiting = site.now(job)
    assert waiting.state is State.RETRYING
    assert waiting.due > time.time() - 1
    assert site.queue.stats() == QueueStats(0, 0, 0)
    Chores(site.store, site.queue, lambda: waiting.due).run()
    site.work(most=1)
    assert site.now(job).state is State.FAILED
    assert site.kinds(job) == ["queued", "running", "retrying", "queued", "running", "failed"]


def test_what_a_job_says_comes_before_its_end(site: Site) -> None:
    talking, going_on = site.submit("talk", "00ff"), site.submit("progress", 0.5)
    site.work(most=2)
    assert site.kinds(talking)[2:][-1] == "succeeded"
    assert set(site.kinds(talking)[2:-1]) == {"output"}
    assert {data["stream"] for data in site.said(talking)} == {"stdout", "stderr"}
    assert site.kinds(going_on) == ["queued", "running", "progress", "succeeded"]
    assert site.said(going_on) == [{"fraction": 0.5, "message": "at 0.5"}]


def test_what_a_job_says_is_stored_while_it_runs_and_a_lost_claim_ends_it(site: Site) -> None:
    """It hangs after it wrote; when that is heard, somebody takes the job away."""
    job = site.submit("hang")

    def take_it_away() -> None:
        site.bell.wait_for(lambda: "output" in site.kinds(job))
        applied(site.store, succeeded(site.now(job), '"mine"'))

    taking = threading.Thread(target=take_it_away, daemon=True)
    taking.start()
    with when_logged("the claim was lost", lambda: None):
        site.work(most=1, ttr=0.3)
    taking.join(PATIENCE)
    assert site.kinds(job) == ["queued", "running", "output", "succeeded"]
    assert site.store.result(job.id) == '"mine"'


def test_what_a_job_said_is_stored_once(site: Site, meeting: Meeting) -> None:
    job = site.submit("meet", *meeting.paths, "what it said")

    def wait_for_its_words(_pid: int) -> None:
        site.bell.wait_for(lambda: "output" in site.kinds(job))

    with meeting.meanwhile(wait_for_its_words):
        site.work(most=1)
    assert site.kinds(job) == ["queued", "running", "output", "succeeded"]


@pytest.mark.parametrize("name", ["hang", "hang_stubbornly", "with_grandchild"])
def test_a_job_that_somebody_wants_to_end(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to end first, and killed where it does not."""
    monkeypatch.setattr(attempt_module, "_GRACE", 0.1)
    job = site.submit(name, retries=5)

    def cancel() -> None:
        site.bell.wait_for(lambda: "output" in site.kinds(job))
        assert site.store.ask_to_end(site.now(job), "ann")

    cancelling = threading.Thread(target=cancel, daemon=True)
    cancelling.start()
    site.work(most=1)
    cancelling.join(PATIENCE)
    assert site.now(job).state is State.CANCELLED
    assert site.failure(job)["error"] == "taskbus.error.cancelled"
    kinds = [kind for kind in site.kinds(job) if kind != "output"]
    assert kinds == ["queued", "running", "cancelling", "cancelled"]
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_a_timeout(site: Site) -> None:
    job = site.submit("hang", timeout=0.2)
    site.work(most=1)
    assert site.failure(job)["error"] == "taskbus.error.timeout"
    assert site.said(job) == [{"stream": "stdout", "text": "hanging\n"}]


def test_a_job_that_uses_too_much_is_killed_and_tried_again(site: Site) -> None:
    """By the worker's own clock; as any failure where only other errors are tried again."""
    policy = Policy(memory=100)
    job = site.submit("hog", 200 * 1024 * 1024, policy=policy.text, retries=1)
    other = policy._replace(retry_on=("com.example.*",))
    once = site.submit("hog", 200 * 1024 * 1024, policy=other.text, retries=1)
    site.work(most=2)
    assert site.now(job).state is State.RETRYING
    assert site.now(once).state is State.FAILED
    for one in (job, once):
        assert site.failure(one)["error"] == "taskbus.error.memory_exceeded"


@pytest.mark.parametrize(("ttr", "own"), [(0.3, 600.0), (600.0, 0.3)])
def test_a_claim_lasts_as_long_as_the_job_says(
    site: Site, meeting: Meeting, monkeypatch: pytest.MonkeyPatch, ttr: float, own: float
) -> None:
    """It is kept as often as the shorter of its own time and the queue's needs."""
    renew, touch = site.store.renew, MemoryQueue.touch
    leases: list[float] = []
    touched: list[bool] = []

    def renewing(job: Job, lease: float) -> bool:
        leases.append(lease - time.time())
        site.bell.ring()
        return renew(job, lease)

    def touching(queue: MemoryQueue, delivery: Delivery) -> bool:
        # A queue that hangs keeps the worker here: the claim itself is kept before.
        assert len(leases) > len(touched)
        touched.append(touch(queue, delivery))
        return touched[-1]

    monkeypatch.setattr(site.store, "renew", renewing)
    monkeypatch.setattr(MemoryQueue, "touch", touching)
    job = site.submit("meet", *meeting.paths, policy=Policy(ttr=own).text)
    with meeting.meanwhile(lambda _: site.bell.wait_for(lambda: len(leases) > 1)):
        site.work(most=1, ttr=ttr)
    assert site.now(job).state is State.SUCCEEDED
    assert all(abs(lease - own) < 100 for lease in leases)
    assert touched[:2] == [True, True]


def test_a_killed_child(site: Site) -> None:
    job = site.submit("kill_myself", 9)
    site.work(most=1)
    assert site.failure(job)["error"] == "taskbus.error.killed"


def test_a_uri_that_the_map_does_not_have_any_more(site: Site) -> None:
    job = site.submit("add", uri="com.t.gone")
    site.work(most=1)
    assert site.failure(job)["error"] == "taskbus.error.unknown_uri"
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_who_waits_for_a_jobs_end_goes_on_at_once_and_is_told_of_it(site: Site) -> None:
    first, bad = site.submit("add", 1, 2, tied=1), site.submit("fail", tied=1)
    then = waiting_for(site.store, [first, bad], uri="com.t.whoami")
    site.work(most=3)
    assert site.kinds(then) == ["waiting", "queued", "running", "succeeded"]
    assert site.queue.stats() == QueueStats(0, 0, 0)
    assert site.store.unplaced(1e12, 9) == []
    result = json.loads(site.store.result(then.id) or "")
    good, failed = result["args"][0]["after"]
    assert (good["job"], good["state"], good["result"]) == (
        first.id, "succeeded", {"args": [3], "kwargs": {}},
    )  # fmt: skip
    assert (failed["job"], failed["state"]) == (bad.id, "failed")
    assert failed["error"]["error"] == "com.example.error.asked"
    assert "after" not in json.loads(site.store.job(first.id).details)  # type: ignore[union-attr]


def test_it_is_told_the_same_when_it_is_tried_again(site: Site) -> None:
    first = site.submit("add", 1, 2, tied=1)
    then = waiting_for(site.store, [first], uri="com.t.fail_with_details", retries=1)
    site.work(most=2)
    waiting = site.now(then)
    assert waiting.state is State.RETRYING
    once = site.failure(then)["about"]
    Chores(site.store, site.queue, lambda: waiting.due).run()
    site.work(most=1)
    twice = site.failure(then)["about"]
    assert (once["attempt"], twice["attempt"]) == (1, 2)
    assert once["after"] == twice["after"]
    assert once["after"][0]["result"] == {"args": [3], "kwargs": {}}


def test_who_waits_for_a_job_that_kills_its_workers_is_told_of_that(site: Site) -> None:
    site.liveness = Names("dead")
    doomed = site.submit("add", tied=1)
    doomed = applied(site.store, start(doomed, worker="dead"))
    with site.store._locked():
        site.store._jobs[doomed.id] = doomed = doomed._replace(losses=MOST_LOSSES - 1)
    then = waiting_for(site.store, [doomed], "failure", uri="com.t.whoami")
    site.work(most=1)
    assert site.now(doomed).state is State.DEAD
    result = json.loads(site.store.result(then.id) or "")
    [told] = result["args"][0]["after"]
    assert (told["state"], told["error"]["error"]) == ("dead", "taskbus.error.worker_lost")


def test_the_store_is_away_after_a_job_has_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome is stored and nothing else: the chore goes on."""
    first = site.submit("add", 1, 2, tied=1)
    then = waiting_for(site.store, [first], uri="com.t.whoami")

    def fail(_jobs: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(site.follow_ups._links, "of", fail)
    with when_logged("go on later", lambda: None):
        site.work(most=1)
    assert (site.now(first).state, site.now(then).state) == (State.SUCCEEDED, State.WAITING)
    monkeypatch.undo()
    later = FollowUps(site.store, MemoryLinks(site.store), lambda: time.time() + 60)
    Ends(later, site.store, site.queue).follow()
    site.work(most=1)
    assert site.now(then).state is State.SUCCEEDED


def test_jobs_are_done_by_priority(site: Site) -> None:
    jobs = [site.submit("add", 1, priority=priority) for priority in (0, 500, 1000)]
    site.work(most=3)
    finished = [site.now(job).finished or 0.0 for job in jobs]
    assert finished == sorted(finished, reverse=True)


def test_most_is_the_most(site: Site) -> None:
    jobs = [site.submit("add", 1) for _ in range(3)]
    site.work(most=2)
    assert [site.now(job).state for job in jobs] == [State.SUCCEEDED, State.SUCCEEDED, State.QUEUED]
    assert site.queue.stats() == QueueStats(1, 0, 0)


def test_slots_run_jobs_at_the_same_time(site: Site, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path)
    first = site.submit("meet", *meeting.paths, timeout=PATIENCE)
    second = site.submit("answer", *meeting.paths, timeout=PATIENCE)
    site.work(most=2, slots=2)
    assert site.now(first).state is State.SUCCEEDED
    assert site.now(second).state is State.SUCCEEDED


def test_a_flood_of_output_starves_nobody(site: Site, meeting: Meeting) -> None:
    """While one job writes without end, many others go through the other slot; and little of what
    it writes is kept.
    """
    flood = site.submit("flood_for_ever")
    others = [site.submit("add", number) for number in range(50)]
    # A worker that does so many jobs and no more begins the last one when it is the only one.
    last = site.submit("add", 50)

    def end_the_flood() -> None:
        site.bell.wait_for(lambda: all(site.now(job).state is State.SUCCEEDED for job in others))
        assert site.now(flood).state is State.RUNNING
        assert site.store.ask_to_end(site.now(flood), "ann")

    ending = threading.Thread(target=end_the_flood, daemon=True)
    ending.start()
    site.work(most=52, slots=2)
    ending.join(PATIENCE)
    assert site.now(last).state is State.SUCCEEDED
    assert site.now(flood).state is State.CANCELLED
    chunks = site.outputs(flood)
    assert sum(len(data["text"]) for data in chunks) == MOST_OUTPUT
    assert len([data for data in chunks if "dropped" in data]) == 2


def test_a_thousand_lines_are_in_order_and_few_events(site: Site) -> None:
    job = site.submit("lines", 1000)
    site.work(most=1)
    chunks = site.outputs(job)
    assert "".join(data["text"] for data in chunks) == "".join(f"line {n}\n" for n in range(1000))
    assert len(chunks) < 100
    seqs = [event.seq for event in site.store.events(job.id)]
    assert seqs == list(range(1, len(seqs) + 1))


def test_many_jobs_over_several_slots(site: Site) -> None:
    jobs = [site.submit("add", number) for number in range(100)]
    site.work(most=100, slots=3)
    results = [json.loads(site.store.result(job.id) or "")["args"] for job in jobs]
    assert results == [[number + 10] for number in range(100)]
    assert site.queue.stats() == QueueStats(0, 0, 0)


# What the queue delivers is a hint


def test_entries_without_a_job_to_run_are_deleted(site: Site) -> None:
    done = applied(site.store, succeeded(applied(site.store, start(added(site.store)))))
    waiting = added(site.store, state=State.SCHEDULED)
    for known in (done, waiting):
        site.place(known)
    site.queue.put([done.placement._replace(job="unknown")])
    job = site.submit("add", 1)
    twice = site.now(job)
    site.place(twice)
    other = site.submit("add", 2)
    site.work(most=2)
    assert site.kinds(job) == ["queued", "running", "succeeded"]
    assert site.now(other).state is State.SUCCEEDED
    assert site.now(done) == done
    assert site.now(waiting) == waiting
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_a_job_in_other_hands_is_looked_at_later(site: Site) -> None:
    busy = applied(site.store, start(added(site.store), at=time.time(), worker="other"))
    site.place(busy)
    site.submit("add", 1)
    site.work(most=1)
    assert site.now(busy) == busy
    assert site.queue.stats().delayed + site.queue.stats().ready == 1


def test_a_dead_workers_job_runs_again(site: Site) -> None:
    job = site.submit("whoami")
    applied(site.store, start(job, at=time.time(), worker="other"))
    site.liveness = Names("other")
    site.work(most=1)
    assert site.kinds(job) == ["queued", "running", "queued", "running", "succeeded"]
    assert (site.now(job).attempt, site.now(job).losses) == (2, 1)
    assert json.loads(site.store.result(job.id) or "")["args"][0]["attempt"] == 2


def test_a_job_that_kills_its_workers_ends(site: Site) -> None:
    job = site.submit("add", attempt=MOST_LOSSES - 1, losses=MOST_LOSSES - 1)
    applied(site.store, start(job, at=time.time(), worker="other"))
    site.liveness = Names("other")
    other = site.submit("add", 1)
    site.work(most=1)
    assert site.failure(job)["error"] == "taskbus.error.worker_lost"
    assert site.now(other).state is State.SUCCEEDED
    assert site.queue.stats() == QueueStats(0, 0, 0)


# Limits


def test_slots_that_want_the_same_place_take_it_one_after_the_other(site: Site) -> None:
    site.api = ApiMap([replace(site.api.entry("com.t.pid"), concurrency=1)])
    jobs = [site.submit("pid") for _ in range(6)]
    site.work(most=6, slots=3)
    assert {site.now(job).state for job in jobs} == {State.SUCCEEDED}
    assert any("waiting" in site.kinds(job) for job in jobs)
    kinds = [entry.event.kind for entry in site.store.journal(0, 100)]
    begun_or_ended = [kind for kind in kinds if kind in ("running", "succeeded")]
    assert begun_or_ended == ["running", "succeeded"] * 6
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_a_job_that_is_cancelled_before_it_could_wait_is_no_longer_delivered(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its change is refused: the worker looks again, and finds nothing to do."""
    entries = [site.api.entry(f"com.t.{name}") for name in ("pid", "add")]
    site.api = ApiMap(replace(entry, concurrency=1) for entry in entries)
    first, other = site.submit("pid"), site.submit("pid")
    advance = site.store.advance

    def slowly(changes: Sequence[Change], durable: bool = True) -> list[bool]:
        if any(change.after.state is State.WAITING for change in changes):
            monkeypatch.setattr(site.store, "advance", advance)
            cancel(site.store, time.time, site.now(other), "ann")
        return advance(changes, durable)

    monkeypatch.setattr(site.store, "advance", slowly)
    third = site.submit("add", 1)
    site.work(most=2, slots=2)
    assert {site.now(job).state for job in (first, third)} == {State.SUCCEEDED}
    assert site.kinds(other) == ["queued", "cancelled"]
    assert site.queue.stats() == QueueStats(0, 0, 0)


# What breaks meanwhile


def test_a_clock_that_is_set_ends_no_job(
    site: Site, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = site.submit("meet", *meeting.paths, timeout=PATIENCE)
    killed: list[Child] = []
    monkeypatch.setattr(Spares, "kill", lambda _self, child, _number: killed.append(child))

    def set_it(_pid: int) -> None:
        site.shift = 24 * 3600
        # By the time that it reads the map it has looked at its jobs.
        site.reload()

    with meeting.meanwhile(set_it):
        site.work(most=1)
    assert killed == []
    assert site.now(job).state is State.SUCCEEDED
    assert site.store.events(job.id)[-1].at > time.time() + 3600


def test_a_clock_that_is_set_back_keeps_nobody_waiting(site: Site, meeting: Meeting) -> None:
    job = site.submit("meet", *meeting.paths)

    def set_back_and_cancel(_pid: int) -> None:
        site.shift = -24 * 3600
        site.reload()
        assert site.store.ask_to_end(site.now(job), "ann")
        try:
            site.bell.wait_for(lambda: "cancelling" in site.kinds(job))
        except AssertionError:
            meeting.release()
            raise

    with meeting.meanwhile(set_back_and_cancel, release=False):
        site.work(most=1)
    assert site.now(job).state is State.CANCELLED


def test_the_store_is_away_when_a_job_ends(site: Site, meeting: Meeting) -> None:
    job = site.submit("meet", *meeting.paths, "what it said")

    def leave(_pid: int) -> None:
        site.store.available = False

    def come_back() -> None:
        site.store.available = True

    with when_logged("made unavailable", come_back), meeting.meanwhile(leave):
        site.work(most=1)
    assert site.kinds(job) == ["queued", "running", "output", "succeeded"]
    assert site.said(job) == [{"stream": "stdout", "text": "what it said"}]
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_every_outcome_is_brought_to_the_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [site.submit("add", nth) for nth in range(4)]
    safe: list[set[str]] = []

    def sync() -> None:
        safe.append({job.id for job in jobs if site.now(job).state is State.SUCCEEDED})

    monkeypatch.setattr(site.store, "sync", sync)
    site.work(most=4, slots=2)
    assert safe[-1] == {job.id for job in jobs}


def test_the_store_is_away_when_an_outcome_is_brought_to_the_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def sync() -> None:
        tries.append(site.now(job).state)
        if len(tries) == 1:
            raise StoreUnavailable("the disk is away")

    monkeypatch.setattr(site.store, "sync", sync)
    job = site.submit("add", 1)
    with when_logged("the disk is away; trying again", lambda: site.submit("add", 2)):
        site.work(most=2)
    assert tries[:2] == [State.SUCCEEDED] * 2


def test_the_store_is_away_when_a_job_comes(site: Site) -> None:
    job = site.submit("add", 1)
    site.store.available = False

    def come_back() -> None:
        site.store.available = True

    with when_logged("made unavailable", come_back):
        site.work(most=1)
    assert site.kinds(job) == ["queued", "running", "succeeded"]


def test_the_queue_is_away_when_a_job_ends(site: Site, meeting: Meeting) -> None:
    job = site.submit("meet", *meeting.paths)
    other = site.submit("add", 1)
    with (
        when_logged("broker does not answer", site.broker.start),
        meeting.meanwhile(lambda _: site.broker.stop()),
    ):
        site.work(most=2)
    # Its entry could not be deleted, and was only a hint.
    assert site.kinds(job) == ["queued", "running", "succeeded"]
    assert site.now(other).state is State.SUCCEEDED
    site.queue.close()
    assert site.queue.stats() == QueueStats(0, 0, 0)


def test_the_queue_is_away_when_the_worker_asks(site: Site) -> None:
    job = site.submit("add", 1)
    site.broker.stop()
    with when_logged("broker does not answer", site.broker.start):
        site.work(most=1)
    assert site.now(job).state is State.SUCCEEDED


def parent_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return int(text.rpartition(")")[2].split()[1])


def test_a_killed_forker_costs_the_job_in_hand_only(site: Site, meeting: Meeting) -> None:
    job = site.submit("meet", *meeting.paths)
    other = site.submit("add", 1)

    def kill_the_forker(pid: int) -> None:
        os.kill(parent_of(pid), signal.SIGKILL)

    with meeting.meanwhile(kill_the_forker, release=False):
        site.work(most=2)
    assert site.failure(job)["error"] == "taskbus.error.killed"
    assert site.now(other).state is State.SUCCEEDED


def test_a_forker_killed_while_there_is_no_job_is_replaced(site: Site) -> None:
    """Somebody sees the worker's only child, the forker, and kills it; then comes a job."""
    before = set(children_of(os.getpid()))
    jobs: list[Job] = []

    def kill_and_submit() -> None:
        [forker] = set(children_of(os.getpid())) - before
        os.kill(forker, signal.SIGKILL)

    site.on_ready = once(kill_and_submit)
    with when_logged("forker is gone", lambda: jobs.append(site.submit("add", 1))):
        site.work(most=1)
    assert site.now(jobs[0]).state is State.SUCCEEDED


def once(deed: Callable[[], object]) -> Callable[[], None]:
    done: list[object] = []

    def call() -> None:
        if not done:
            done.append(deed())

    return call


# New code, and the end


class Program:
    """A worker's process, its store and its task code."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.code, self.map = folder / "changing.py", folder / "api.toml"
        self.version("1")
        self.map.write_text(
            '[api."com.t.version"]\npython = "changing:version"\n'
            '[api."com.t.meet"]\npython = "changing:meet"\n'
        )
        url = f"sqlite:///{folder / 'taskbus.db'}"
        self.store = stack.enter_context(closing(SqlStore(url)))
        self.arguments = ("-m", "tests.support.worker_process", url, self.map, folder)
        self.stack = stack
        self.process = self.another()

    def another(self) -> Any:
        process = self.stack.enter_context(python(*self.arguments))
        self.until("ready", process)
        return process

    def version(self, text: str) -> None:
        """The task code says this."""
        self.code.write_text(
            "from tests.support import tasks\n"
            f"def version():\n    return {text!r}\n"
            f"def meet(*args):\n    tasks.meet(*args)\n    return {text!r}\n"
        )

    def until(self, text: str, process: Any = None) -> None:
        """Read what the worker says up to a line that contains this."""
        while text not in (said := line(process or self.process)):
            assert said, f"it ended and never said {text!r}"

    def submit(self, name: str, *args: Any) -> Job:
        job = added(self.store, uri=f"com.t.{name}", args=dump(args), created=time.time())
        self.place(job)
        return job

    def place(self, job: Job) -> None:
        say(self.process, job.id)
        self.until("queued")

    def result(self, job: Job) -> Any:
        """Positional, of a job that has ended."""
        return json.loads(self.store.result(job.id) or '{"args": null}')["args"]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with ExitStack() as stack:
        yield Program(tmp_path, stack)


def test_term_lets_the_job_in_hand_finish(program: Program, meeting: Meeting) -> None:
    job = program.submit("meet", *meeting.paths)
    meeting.join()
    later = program.submit("version")
    program.process.send_signal(signal.SIGTERM)
    program.process.send_signal(signal.SIGTERM)
    meeting.release()
    assert program.process.wait(PATIENCE) == 0
    assert program.result(job) == ["1"]
    assert program.store.job(later.id) == later


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(program: Program, number: int) -> None:
    program.process.send_signal(number)
    assert program.process.wait(PATIENCE) == 0


def test_hup_loads_new_code_for_the_jobs_that_start_then(
    program: Program, meeting: Meeting
) -> None:
    old = program.submit("meet", *meeting.paths)
    meeting.join()
    program.version("two")
    program.process.send_signal(signal.SIGHUP)
    program.until("task code loaded")
    new = program.submit("meet", *meeting.paths)
    meeting.release()
    meeting.join()
    program.process.send_signal(signal.SIGTERM)
    meeting.release()
    assert program.process.wait(PATIENCE) == 0
    assert program.result(old) == ["1"]
    assert program.result(new) == ["two"]


def test_hup_with_a_broken_map_keeps_what_is_loaded(program: Program, meeting: Meeting) -> None:
    program.map.write_text("[api")
    program.process.send_signal(signal.SIGHUP)
    program.until("keeping the old task code")
    job = program.submit("meet", *meeting.paths)
    meeting.join()
    program.process.send_signal(signal.SIGTERM)
    meeting.release()
    assert program.process.wait(PATIENCE) == 0
    assert program.result(job) == ["1"]


def test_broken_code_is_told_with_whose_jobs_will_fail(
    program: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    program.code.write_text("def version(:\n")
    program.another()
    problem = "com.t.version will fail: cannot load changing:version: SyntaxError"
    assert problem in capfd.readouterr().err


def test_a_killed_workers_job_is_taken_over_by_the_next(program: Program, meeting: Meeting) -> None:
    job = program.submit("meet", *meeting.paths)
    with Watch(meeting.join()) as child:
        program.process.kill()
        assert child.ended()
    program.process.wait()
    program.process = program.another()
    program.place(job)
    meeting.join()
    program.process.send_signal(signal.SIGTERM)
    meeting.release()
    assert program.process.wait(PATIENCE) == 0
    now = program.store.job(job.id)
    assert now is not None
    assert (now.state, now.attempt, now.losses) == (State.SUCCEEDED, 2, 1)


def test_what_is_enclosed_reaches_the_task_and_is_not_stored(site: Site) -> None:
    site.enclose = lambda job: {"secret": job.uri}
    job = site.submit("whoami")
    site.work(1)
    [[told], _] = json.loads(site.store.result(job.id) or "").values()
    assert told["enclosed"] == {"secret": "com.t.whoami"}
    assert "secret" not in site.now(job).details
    assert all("secret" not in event.data for event in site.store.events(job.id))


def test_an_attempt_may_end_before_it_begins(site: Site) -> None:
    def refuse(_job: Job) -> None:
        raise TaskFailure("nobody is there", error_uri="com.x.gone")

    site.enclose = refuse
    job = site.submit("whoami")
    site.work(1)
    assert site.now(job).state is State.FAILED
    assert json.loads(site.now(job).error or "")["error"] == "com.x.gone"


def test_what_cannot_be_enclosed_now_is_waited_for(site: Site) -> None:
    answers: list[Any] = [StoreUnavailable("away"), "here"]

    def enclose(_job: Job) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    site.enclose = enclose
    job = site.submit("whoami")
    site.work(1, ttr=3.0)
    assert "here" in (site.store.result(job.id) or "")


class Seen:
    """Spans, and when they ended."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, ...]] = []

    def begin(self, kind: str, what: str, trace: Trace | None, **about: str | int) -> Any:
        span = Untraced(trace and trace._replace(span_id="2" * 16))

        def end(failure: str | None = None) -> None:
            error = failure and json.loads(failure)["error"]
            self.found.append((kind, what.rpartition(".")[2], trace, about["attempt"], error))

        return SimpleNamespace(trace=span.trace, end=end)


def test_each_attempt_is_a_span_and_its_task_is_told_which(site: Site) -> None:
    seen = site.spans = Seen()
    trace = Trace("1" * 32, "1" * 16)
    told = site.submit("whoami", details=dump({"trace": trace.told}))
    site.submit("fail")
    site.work(2)
    assert sorted(seen.found) == [
        ("attempt", "fail", None, 1, "com.example.error.asked"),
        ("attempt", "whoami", trace, 1, None),
    ]
    result = json.loads(site.store.result(told.id) or "")["args"][0]
    assert result["trace"] == trace._replace(span_id="2" * 16).told


def test_a_delivery_is_a_span_of_its_own_kind(site: Site) -> None:
    seen = site.spans = Seen()
    spec = HANDLERS["com.t.whoami"]["target"]
    site.api = ApiMap([], built_in=[Entry(DELIVER, "python", spec, "background")])
    site.submit("whoami", uri=DELIVER)
    site.work(1)
    assert [one[0] for one in seen.found] == ["delivery"]


def test_attempts_are_counted_by_how_they_end(site: Site) -> None:
    told: list[Any] = []
    site.tally = Tally(time.time, told.append)
    due = time.time() - 100.0
    site.submit("whoami", due=due)
    for retries in (0, 1):
        site.submit("fail", retries=retries, due=due)
    site.work(3)
    counts = {task: counts for (_, task), counts in tallied(as_saved(told[-1])).items()}
    assert counts["com.t.whoami"].outcomes == {"succeeded": 1}
    assert counts["com.t.fail"].outcomes == {"failed": 1, "retrying": 1}
    assert 200.0 <= counts["com.t.fail"].waited.total < 200.0 + PATIENCE
    assert 0.0 < counts["com.t.fail"].took.total < PATIENCE


def as_saved(told: Any) -> Any:
    return json.loads(json.dumps(told))
