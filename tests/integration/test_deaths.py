"""``kill -9`` at every step: of workers, of who accepts jobs, of chores, children and forkers.

Real programs, beanstalkd, stores and children. What died left something half done; what comes next
brings every job to one end, runs none twice that was settled, and the journal tells all of it.
"""

import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskbus.adapter.doorbell import Doorbell
from taskbus.core.intake import Intake, prepare
from taskbus.launch import prepare as prepare_site
from taskbus.model.job import FINAL, Job, State
from taskbus.port.store import existing
from taskbus.wire import make_sides, read_settings
from tests.support.beanstalkd import running_beanstalkd
from tests.support.deadly import a_queue, hurrying_chores
from tests.support.deadly_task import RELEASED, runs
from tests.support.processes import PATIENCE, line, python
from tests.support.site import Site, eventually, make_site

pytestmark = pytest.mark.integration

RECORD = "com.example.deaths.record"
_ENTRY = f"""
[api."{RECORD}"]
python = "tests.support.deadly_task:record"
mode = "background"
timeout = {PATIENCE:g}
retries = 2
"""
STATES = {state.value for state in State}


class Deaths:
    """A site without programs, but for those that a test starts."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.settings = read_settings(site.settings)
        self.api = prepare_site(self.settings)
        self.sides = make_sides(self.settings)
        self.store = self.sides.store

    @contextmanager
    def dying(self, step: str, *words: object, nth: int = 1) -> Iterator[Any]:
        """A program that has to die at this step before the block is over."""
        with python("-m", "tests.support.deadly", step, nth, *words) as process:
            yield process
            assert process.wait(PATIENCE) == -signal.SIGKILL

    def worker_dies(self, step: str, nth: int = 1) -> int:
        """A worker of the site comes, and dies; its pid."""
        words = ("taskbus", "--settings", self.site.settings, "worker")
        with self.dying(step, *words, nth=nth) as worker:
            return int(worker.pid)

    def chores_die(self, step: str) -> None:
        """Somebody begins with the chores, and dies."""
        with self.dying(step, "chores", self.site.settings):
            pass

    def intake_dies(self, step: str, count: int, delay: float = 0.0) -> list[Job]:
        """Somebody accepts jobs, and dies before telling; those that there are."""
        request = json.dumps(self.request(delay))
        with self.dying(step, "intake", self.site.settings, request, count) as intake:
            ids = [line(intake) for _ in range(count)]
            assert line(intake) == ""
        return [job for job in map(self.store.job, ids) if job is not None]

    def submit(self, count: int, delay: float = 0.0, **kwargs: Any) -> list[Job]:
        """Jobs, accepted as they should be; ``kwargs`` are the task's."""
        request = self.request(delay, **kwargs)
        made = [prepare(self.api, time.time, request, {}) for _ in range(count)]
        with (
            closing(a_queue(self.settings)) as queue,
            closing(Doorbell(self.settings.doorbell)) as bell,
        ):
            intake = Intake(self.store, self.sides.keys, queue, bell)
            intake.accept([made])
            intake.flush()
        return [one.job for one in made]

    def request(self, delay: float, **kwargs: Any) -> dict[str, Any]:
        args = [str(self.site.folder)]
        return {"uri": RECORD, "args": args, "kwargs": kwargs, "delay": delay}

    def finish(self, jobs: Sequence[Job]) -> None:
        """A worker and chores in good health bring them to their ends, and empty the queue."""
        (self.site.folder / RELEASED).touch()
        with (
            python("-m", "taskbus", "--settings", self.site.settings, "worker"),
            closing(a_queue(self.settings)) as queue,
        ):
            chores = hurrying_chores(self.store, queue)

            def is_done() -> bool:
                chores.run()
                ended = all(self.now(job).state in FINAL for job in jobs)
                return ended and sum(queue.stats()) == 0

            eventually(is_done)

    def now(self, job: Job) -> Job:
        return existing(self.store, job.id)

    def states(self, job: Job) -> list[tuple[str, dict[str, Any]]]:
        """What the journal says of its states."""
        events = self.store.events(job.id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [(event.kind, json.loads(event.data)) for event in events if event.kind in STATES]

    def ran(self, job: Job) -> list[int]:
        """Its attempts, as the task itself has written them down."""
        return [attempt for one, attempt in runs(self.site.folder) if one == job.id]

    def check(self, job: Job) -> None:
        """One end; no attempt ran twice; none ran after one that was settled; all of it told."""
        now, states, ran = self.now(job), self.states(job), self.ran(job)
        kinds = Counter(kind for kind, _ in states)
        assert now.state is State.SUCCEEDED
        assert [kind for kind, _ in states if kind in FINAL] == ["succeeded"] == [states[-1][0]]
        assert now.attempt == kinds["running"] == states[-1][1]["attempt"]
        result = json.loads(self.store.result(job.id) or "")
        assert result["args"] == [now.attempt]
        assert len(ran) == len(set(ran))
        assert ran[-1] == now.attempt
        lost = [told for _, told in states if "lost" in told["reason"]]
        assert now.attempt == 1 + len(lost) + kinds["retrying"]
        assert now.losses == len(lost)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def deaths(request: pytest.FixtureRequest, folder: Path) -> Iterator[Deaths]:
    """``request.param``: the kind of its store and its worker's slots."""
    kind, slots = getattr(request, "param", ("sqlite", 1))
    url = "" if kind == "sqlite" else request.getfixturevalue(kind).database()
    site = make_site(folder, f'[store]\nurl = "{url}"\n' if url else "", _ENTRY)
    text = site.settings.read_text()
    assert "slots = 2\n" in text
    site.settings.write_text(text.replace("slots = 2\n", f"slots = {slots}\n"))
    made = Deaths(site)
    with closing(made.store), running_beanstalkd(made.settings.run):
        yield made


# A worker. For each step: how many attempts its job has in the end, and whether the one that was
# under way when the worker died has come to run (None: that is chance).
WORKERS_STEPS = {
    "reserved": (1, None),
    "claiming": (1, None),
    "claimed": (2, False),
    "handed over": (2, None),
    "words came": (2, True),
    "words stored": (2, True),
    "renewed": (2, True),
    "result came": (2, True),
    "settled": (1, True),
    "deleting": (1, True),
    "deleted": (1, True),
}
# At these the task must not end before the worker does.
HELD = {"words came", "words stored", "renewed"}


@pytest.mark.parametrize("step", WORKERS_STEPS)
def test_a_worker_dies(deaths: Deaths, step: str) -> None:
    [job] = deaths.submit(1, holds=step in HELD)
    dead = deaths.worker_dies(step)
    deaths.finish([job])
    deaths.check(job)
    attempts, has_run = WORKERS_STEPS[step]
    assert deaths.now(job).attempt == attempts
    if attempts == 2:
        assert has_run is None or (1 in deaths.ran(job)) == has_run
        [lost] = [told["reason"] for _, told in deaths.states(job) if "lost" in told["reason"]]
        assert f"/{dead}/" in lost


@pytest.mark.parametrize(
    ("deaths", "step"),
    [
        *((("sqlite", 3), step) for step in WORKERS_STEPS),
        *(
            ((kind, 3), step)
            for kind in ("mariadb", "mongo")
            for step in ("claimed", "words stored", "result came", "settled")
        ),
    ],
    indirect=["deaths"],
    ids=str,
)
def test_a_worker_dies_with_several_jobs_in_hand(deaths: Deaths, step: str) -> None:
    jobs = deaths.submit(5, holds=step in HELD)
    deaths.worker_dies(step, nth=2)
    deaths.finish(jobs)
    for job in jobs:
        deaths.check(job)
        assert deaths.now(job).losses <= 1
    assert sum(deaths.now(job).losses for job in jobs) <= 3


def test_a_job_whose_workers_all_die_is_dead(deaths: Deaths) -> None:
    [job] = deaths.submit(1)
    for _ in range(3):
        deaths.worker_dies("claimed")
    deaths.finish([job])
    now = deaths.now(job)
    assert (now.state, now.losses, now.attempt) == (State.DEAD, 3, 3)
    assert deaths.ran(job) == []


# Who accepts jobs, and the chores: nothing is accepted, or all of it, and runs once.


@pytest.mark.parametrize(
    ("step", "delay", "accepted"),
    [("adding", 0, 0), ("added", 0, 3), ("added", 60, 3), ("offered", 0, 3)],
)
def test_who_accepts_jobs_dies(deaths: Deaths, step: str, delay: float, accepted: int) -> None:
    jobs = deaths.intake_dies(step, 3, delay)
    assert len(jobs) == accepted
    deaths.finish(jobs)
    for job in jobs:
        deaths.check(job)
        assert deaths.ran(job) == [1]


@pytest.mark.parametrize("step", ["due", "put", "placed"])
def test_chores_die_while_they_queue_what_is_due(deaths: Deaths, step: str) -> None:
    jobs = deaths.submit(3, delay=60)
    deaths.chores_die(step)
    deaths.finish(jobs)
    for job in jobs:
        deaths.check(job)
        assert deaths.ran(job) == [1]


@pytest.mark.parametrize("step", ["put", "placed"])
def test_chores_die_while_they_queue_what_was_forgotten(deaths: Deaths, step: str) -> None:
    jobs = deaths.intake_dies("added", 3)
    deaths.chores_die(step)
    deaths.finish(jobs)
    for job in jobs:
        deaths.check(job)
        assert deaths.ran(job) == [1]


# Children and forkers: their worker lives.


@pytest.mark.parametrize(
    ("dies", "ran"),
    [
        ("received", [2]),
        ("running", [1, 2]),
        ("returned", [1, 2]),
        ("reported", [1]),
        ("forker", [1, 2]),
    ],
)
def test_a_child_or_its_forker_dies(deaths: Deaths, dies: str, ran: list[int]) -> None:
    [job] = deaths.submit(1, dies=dies)
    deaths.finish([job])
    deaths.check(job)
    assert deaths.ran(job) == ran
    if ran != [1]:
        [error] = [told["error"] for kind, told in deaths.states(job) if kind == "retrying"]
        assert error == "taskbus.error.killed"


def test_a_forker_dies_as_it_forks(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    died = deaths.site.folder / "died"
    monkeypatch.setenv("DIES_AT_FORK", str(died))
    [job] = deaths.submit(1)
    deaths.finish([job])
    deaths.check(job)
    assert died.exists()
    assert deaths.ran(job) == [1]
