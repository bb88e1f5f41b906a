"""A worker that runs one chosen job."""

from collections.abc import Callable, Iterator

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.memory_sides import memory_sides
from taskbus.core.chores import place
from taskbus.core.pick import pick
from taskbus.model.errors import NotRunnable
from taskbus.model.job import Job, State
from taskbus.port.store import existing
from taskbus.worker.chosen import ChosenJob
from tests.support.toy_bus import ONE_AT_A_TIME, URI, Bus, ToyWorker
from tests.support.values import added


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus(MemoryStore())
    with made.stage():
        yield made


def hired(bus: Bus, job: Job) -> ToyWorker:
    """A worker for this job alone."""
    queue = bus.queue()

    def prepare() -> None:
        keys = memory_sides(bus.store).keys  # type: ignore[arg-type]
        pick(bus.store, keys, bus.clock, job.id, "ann", again=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus, "queue", lambda: ChosenJob(job.id, prepare, queue))
        worker = bus.hire(1)
    worker._most = 1
    return worker


def work(bus: Bus, worker: ToyWorker, until: Callable[[], object]) -> None:
    for _ in range(20):
        if until():
            return
        bus.step(worker)
    assert until()


def state(bus: Bus, job: Job) -> State:
    return existing(bus.store, job.id).state


def test_it_runs_this_job_and_no_other(bus: Bus) -> None:
    other = added(bus.store, uri=URI)
    place(bus.store, bus.queue(), [other.placement])
    job = added(bus.store, uri=URI, state=State.SCHEDULED, due=bus.now + 3600)
    worker = hired(bus, job)
    work(bus, worker, lambda: bus.toys)
    [toy] = bus.toys
    assert toy.job == job.id
    toy.report(True)
    work(bus, worker, lambda: state(bus, job) is State.SUCCEEDED)
    for _ in range(5):
        bus.step(worker)
    assert state(bus, other) is State.QUEUED


def test_what_another_worker_has_is_let_alone(bus: Bus) -> None:
    job = added(bus.store, uri=URI)
    place(bus.store, bus.queue(), [job.placement])
    first = bus.hire(1)
    work(bus, first, lambda: bus.toys)
    second = hired(bus, job)
    with pytest.raises(NotRunnable, match="another worker has it"):
        work(bus, second, lambda: False)
    assert existing(bus.store, job.id).worker == first.name


def test_a_limit_holds_for_it_as_well(bus: Bus) -> None:
    running = added(bus.store, uri=ONE_AT_A_TIME)
    place(bus.store, bus.queue(), [running.placement])
    first = bus.hire(1)
    work(bus, first, lambda: bus.toys)
    job = added(bus.store, uri=ONE_AT_A_TIME)
    second = hired(bus, job)
    with pytest.raises(NotRunnable, match="reached a limit"):
        work(bus, second, lambda: False)
    assert state(bus, job) is State.WAITING
    # It goes on as any other that waits for room.
    bus.toys[0].report(True)
    work(bus, first, lambda: bus.toys and bus.toys[0].job == job.id)
