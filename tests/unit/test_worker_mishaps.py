"""What goes wrong between two lines of the worker's sentence."""

import json
from collections.abc import Callable, Iterator

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.core.cancel import cancel
from taskbus.core.chores import place
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import ConfigError, TaskbusError
from taskbus.model.job import FINAL, Job, State
from tests.support.links import waiting_for
from tests.support.mishaps import Died
from tests.support.toy_bus import TTR, URI, Bus, Toy, ToyWorker
from tests.support.values import added, applied, start, succeeded


class Site:
    """A bus with one worker."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.begun: list[Toy] = []
        bus.on_begin = self.begun.append

    def submit(self, retries: int = 0) -> Job:
        """A queued job."""
        job = added(self.bus.store, uri=URI, retries=retries)
        place(self.bus.store, self.bus.queue(), [job.placement])
        return job

    def work(self, worker: ToyWorker, until: Callable[[], object]) -> None:
        """Until then."""
        for _ in range(20):
            if until():
                return
            self.bus.step(worker)
            # What rests after a failure has rested enough.
            self.bus.now += 0.2
        raise AssertionError("it did not come so far")

    def run(self, worker: ToyWorker, ok: bool = True) -> None:
        """One job, to the end that the worker knows of."""
        before = len(self.begun)
        self.work(worker, lambda: len(self.begun) > before)
        self.begun[-1].report(ok)
        self.work(worker, lambda: all(slot.asked for slot in worker._slots))

    def now(self, job: Job) -> Job:
        found = self.bus.store.job(job.id)
        assert found is not None
        return found

    def kinds(self, job: Job) -> list[str]:
        return [event.kind for event in self.bus.store.events(job.id)]


@pytest.fixture
def site() -> Iterator[Site]:
    store = MemoryStore()
    bus = Bus(store)
    with bus.stage():
        yield Site(bus)


@pytest.mark.parametrize("kind", ["refused", "unheard"])
@pytest.mark.parametrize("commit", ["claim", "end"])
def test_a_commit_of_which_the_store_said_nothing(site: Site, commit: str, kind: str) -> None:
    worker = site.bus.hire(1)
    job = site.submit()
    site.bus.mishaps.arm(("claim", "end").index(commit), kind, "advance")
    site.run(worker)
    assert site.kinds(job) == ["queued", "running", "succeeded"]
    assert site.now(job).losses == 0
    assert len(site.begun) == 1
    assert site.bus.broker.entries() == []


@pytest.mark.parametrize("kind", ["refused", "unheard"])
def test_words_of_which_the_store_said_nothing_are_stored_once(site: Site, kind: str) -> None:
    worker = site.bus.hire(1)
    job = site.submit()
    site.work(worker, lambda: site.begun)
    [toy] = site.begun
    site.bus.mishaps.arm(0, kind, "advance")
    for words in ("one", "two", "three"):
        toy.say(words)
        for _ in range(4):
            site.bus.step(worker)
            site.bus.now += 0.2
    toy.report(ok=True)
    site.work(worker, lambda: site.now(job).state is State.SUCCEEDED)
    said = [json.loads(event.data) for event in site.bus.store.events(job.id)]
    assert [one["text"] for one in said if "text" in one] in (
        ["one", "two", "three"], ["onetwo", "three"],
    )  # fmt: skip
    assert site.now(job).attempt == 1


def test_a_job_that_two_slots_were_given_is_run_once_whatever_the_store_says(site: Site) -> None:
    worker = site.bus.hire(2)
    job = site.submit()
    site.bus.queue().put([job.placement])
    site.bus.mishaps.arm(0, "unheard", "advance")
    site.work(worker, lambda: site.begun)
    for _ in range(5):
        site.bus.step(worker)
    assert len(site.begun) == 1
    site.begun[0].report(ok=True)
    site.work(worker, lambda: site.now(job).state is State.SUCCEEDED)
    assert site.kinds(job) == ["queued", "running", "succeeded"]


def test_a_job_cancelled_in_the_moment_in_which_it_fails_is_cancelled(site: Site) -> None:
    worker = site.bus.hire(1)
    job = site.submit(retries=5)
    site.work(worker, lambda: site.begun)

    def somebody_cancels() -> None:
        assert cancel(site.bus.store, site.bus.clock, site.now(job), "ann") is State.RUNNING

    site.bus.mishaps.arm(0, "meanwhile", "advance", somebody_cancels)
    site.begun[0].report(ok=False)
    site.work(worker, lambda: worker._slots[0].asked)
    assert site.now(job).state is State.CANCELLED
    assert site.bus.broker.entries() == []


def test_a_job_cancelled_in_the_moment_in_which_it_succeeds_has_succeeded(site: Site) -> None:
    worker = site.bus.hire(1)
    job = site.submit()
    site.work(worker, lambda: site.begun)
    cancel(site.bus.store, site.bus.clock, site.now(job), "ann")
    site.begun[0].report(ok=True)
    site.work(worker, lambda: worker._slots[0].asked)
    assert site.now(job).state is State.SUCCEEDED


def waiting_for_a_child(site: Site) -> tuple[ToyWorker, Job]:
    """A claimed job whose forker has no child for it."""
    worker = site.bus.hire(1)
    worker.spares()[0].is_dry = True
    job = site.submit()
    site.work(worker, lambda: site.now(job).state is State.RUNNING)
    return worker, job


def test_a_job_that_waits_for_a_child_is_kept(site: Site) -> None:
    worker, job = waiting_for_a_child(site)
    for _ in range(10):
        site.bus.now += TTR / 2
        site.bus.broker.pass_time()
        site.bus.step(worker)
        assert (site.now(job).lease or 0.0) > site.bus.now
    worker.spares()[0].is_dry = False
    site.run(worker)
    assert site.kinds(job) == ["queued", "running", "succeeded"]
    assert site.bus.broker.entries() == []


def test_a_job_taken_away_while_it_waited_for_a_child_is_not_run(site: Site) -> None:
    worker, job = waiting_for_a_child(site)
    site.bus.now += TTR + 1
    [number] = site.bus.broker.reserved
    site.bus.broker.lose_reservation(number)
    site.run(site.bus.hire(1))
    assert site.now(job).attempt == 2
    worker.spares()[0].is_dry = False
    for _ in range(3):
        site.bus.step(worker)
    assert len(site.begun) == 1


def test_without_the_store_a_job_whose_lease_is_over_waits(site: Site) -> None:
    worker, _ = waiting_for_a_child(site)
    site.bus.now += TTR + 1
    worker.spares()[0].is_dry = False
    site.bus.mishaps.arm(0, "refused", "renew")
    site.bus.step(worker)
    assert not site.begun
    site.run(worker)
    assert len(site.begun) == 1


def test_a_takeover_that_somebody_else_was_quicker_with_leaves_no_entry(site: Site) -> None:
    """The job would have been dead: its third worker is lost."""
    worker = site.bus.hire(1)
    job = applied(site.bus.store, start(added(site.bus.store, uri=URI, losses=2), at=0.0))
    site.bus.queue().put([job.placement])

    def somebody_ends_it() -> None:
        applied(site.bus.store, succeeded(site.now(job)))

    site.bus.mishaps.arm(0, "meanwhile", "advance", somebody_ends_it)
    site.bus.now += TTR
    for _ in range(3):
        site.bus.step(worker)
    assert site.now(job).state is State.SUCCEEDED
    assert site.bus.broker.entries() == []


def test_a_result_that_came_before_the_forker_died_counts(site: Site) -> None:
    worker = site.bus.hire(1)
    job = site.submit()
    site.work(worker, lambda: site.begun)
    site.begun[0].report(ok=True)
    worker.spares()[0].die()
    site.work(worker, lambda: site.now(job).state in (State.SUCCEEDED, State.FAILED))
    assert site.now(job).state is State.SUCCEEDED


def go_on(site: Site, jobs: list[Job]) -> None:
    """A second of everybody's life: one worker at least, the chores, children that do their job."""
    bus = site.bus
    bus.now += 1.0
    bus.broker.pass_time()
    if not bus.workers:
        bus.hire(1)
    bus.step(bus.workers[0])
    for toy in bus.toys:
        if toy.job and not toy.is_over:
            toy.report(ok=toy.job != jobs[0].id)
    try:
        bus.chores.run()
    except TaskbusError:
        bus.restart_servants()
    except Died:
        bus.restart_servants()


@pytest.mark.parametrize("kind", ["refused", "unheard", "died", "died after"])
def test_whatever_goes_wrong_after_an_end_is_followed_once(kind: str) -> None:
    """At each call in turn that a worker makes of store and queue, until there is none left."""
    calls = 0
    while True:
        store = MemoryStore()
        bus = Bus(store)
        with bus.stage():
            site = Site(bus)
            first, second = (added(store, uri=URI, tied=1) for _ in range(2))
            place(store, bus.queue(), [first.placement, second.placement])
            dropped = waiting_for(store, [first], "success", uri=URI, tied=1)
            after_it = waiting_for(store, [dropped], "end", uri=URI)
            both = waiting_for(store, [first, second], "end", uri=URI)
            jobs = [first, second, dropped, after_it, both]
            bus.mishaps.arm(calls, kind)
            for _ in range(300):
                go_on(site, jobs)
                if all(site.now(job).state in FINAL for job in jobs):
                    break
            is_over = bus.mishaps._kind == kind
            assert [site.now(job).state for job in jobs] == [
                State.FAILED, State.SUCCEEDED, State.CANCELLED, State.SUCCEEDED, State.SUCCEEDED,
            ]  # fmt: skip
            assert site.kinds(dropped) == ["waiting", "cancelled"]
            for job in (after_it, both):
                assert site.kinds(job)[:2] == ["waiting", "queued"]
                # Queued once more only for a worker that was lost.
                assert site.kinds(job).count("queued") == 1 + site.now(job).losses
        if is_over:
            break
        calls += 1
    assert calls > 50


@pytest.mark.parametrize("is_reading", [True, False])
def test_a_hup_while_a_broken_map_is_read_or_after_it_is_obeyed_at_once(
    site: Site, is_reading: bool
) -> None:
    worker = site.bus.hire(1)
    good, reads = worker._load_map, 0

    def read() -> ApiMap:
        nonlocal reads
        reads += 1
        if reads > 1:
            return good()
        if is_reading:
            worker._on_reload()
        raise ConfigError("api.toml", 1, "not TOML", "mend the syntax")

    worker._load_map = read
    worker._on_reload()
    before = worker.spares()
    site.work(worker, lambda: reads == 1)
    if not is_reading:
        worker._on_reload()
    site.work(worker, lambda: worker.spares() != before)
