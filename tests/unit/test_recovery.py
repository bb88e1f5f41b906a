"""What is done about jobs that the queue has lost."""

from collections.abc import Iterator

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_backlog import MemoryBacklog
from taskbus.core.chores import BITE
from taskbus.core.lease import MOST_LOSSES
from taskbus.core.recovery import Recovery
from taskbus.model.errors import QueueUnavailable, StoreUnavailable
from taskbus.model.job import Job, State
from tests.support.values import a_job, add, added, applied, running, start, succeeded

TTR = 60.0


class Hosts:
    """Liveness: those named are dead."""

    def __init__(self) -> None:
        self.dead: set[str] = set()

    def identity(self) -> str:
        return "me"

    def is_dead(self, identity: str) -> bool:
        return identity in self.dead


class Site:
    """A store, a queue, and a clock that the test moves."""

    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.queue, self.worker = MemoryQueue(self.broker), MemoryQueue(self.broker)
        self.liveness = Hosts()
        self.now = 10_000.0
        self.recovery = self.another()

    def another(self) -> Recovery:
        return Recovery(
            self.store, MemoryBacklog(self.store), self.queue, self.liveness, lambda: self.now, TTR
        )

    def accept(self, *jobs: Job) -> list[Job]:
        """As intake does."""
        add(self.store, *jobs)
        self.queue.put([job.placement for job in jobs])
        self.store.placed([job.placement for job in jobs])
        return list(jobs)

    def restart_empty(self) -> None:
        self.broker.stop()
        self.broker.wipe()
        self.broker.start()
        with pytest.raises(QueueUnavailable):
            self.queue.stats()

    def look(self, seconds: float = 2.0) -> int:
        """Both chores, some time after the last look; how many jobs were queued again."""
        self.now += seconds
        moved = self.recovery.take_over() + (bite := self.recovery.refill())
        while bite == BITE:
            moved += (bite := self.recovery.refill())
        return moved

    def drained(self) -> list[str]:
        """What the queue delivers."""
        found = []
        while self.queue.stats().ready:
            self.worker.request()
            delivery = self.worker.take()
            assert delivery is not None
            found.append(delivery.job)
            self.worker.delete(delivery)
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.queue.close()
    made.worker.close()


def test_what_is_in_the_queue_is_left_there(site: Site) -> None:
    jobs = site.accept(*[a_job() for _ in range(30)])
    for _ in range(5):
        assert site.look() == 0
    site.broker.stop()
    site.broker.start()
    with pytest.raises(QueueUnavailable):
        site.queue.stats()
    assert site.look() == 0
    assert site.drained() == [job.id for job in jobs]


def test_a_queue_that_comes_back_empty_is_filled_in_order(site: Site) -> None:
    jobs = site.accept(*[a_job() for _ in range(1203)])
    site.accept(*[a_job(state=State.SCHEDULED, due=20_000.0)])
    site.look()
    site.restart_empty()
    later = site.accept(a_job())
    site.look()
    found = site.drained()
    # What was there first is the new one's entry; it may have a second one.
    assert found[0] == later[0].id
    assert [job for job in found if job != later[0].id] == [job.id for job in jobs]


def test_a_recovery_that_has_just_begun_compares_too(site: Site) -> None:
    [job] = site.accept(a_job())
    site.broker.wipe()
    site.accept(a_job())
    site.recovery = site.another()
    site.look()
    assert job.id in site.drained()


def test_what_is_accepted_while_the_queue_is_filled_has_one_entry(site: Site) -> None:
    site.accept(*[a_job() for _ in range(700)])
    site.restart_empty()
    assert site.recovery.refill() == 500
    [fresh] = site.accept(a_job())
    while site.recovery.refill():
        pass
    found = site.drained()
    assert found.count(fresh.id) == 1
    assert len(found) == 701


def test_jobs_whose_placing_is_under_way_are_not_counted_as_lost(site: Site) -> None:
    site.accept(*[a_job() for _ in range(3)])
    forgotten = added(site.store)
    site.restart_empty()
    site.accept(*[a_job() for _ in range(3)])
    assert site.look() == 0
    # Another chore's work.
    site.queue.put([forgotten.placement])
    site.store.placed([forgotten.placement])
    assert site.look() > 0


def test_single_entries_that_are_missing_are_found_once_the_queue_is_empty(site: Site) -> None:
    lost = site.accept(*[a_job() for _ in range(3)])
    site.look()
    site.broker.wipe()
    site.accept(a_job())
    for _ in range(3):
        assert site.look() == 0
    [rest] = site.drained()
    applied(site.store, start(site.store.jobs()[0]))
    assert rest == site.store.jobs()[0].id
    assert site.look() == 0
    assert site.look() == 3
    assert site.drained() == [job.id for job in lost]


def test_many_entries_that_are_missing_come_back_without_a_pause(site: Site) -> None:
    lost = site.accept(*[a_job() for _ in range(1700)])
    site.look()
    site.broker.wipe()
    site.look()
    site.look()
    assert site.drained() == [job.id for job in lost]


def test_a_job_on_its_way_from_queue_to_worker_is_not_lost(site: Site) -> None:
    site.look()
    for _ in range(5):
        [job] = site.accept(a_job())
        site.worker.request()
        delivery = site.worker.take()
        assert delivery is not None
        assert site.look() == 0
        applied(site.store, succeeded(applied(site.store, start(job))))
        site.worker.delete(delivery)
        assert site.look() == 0
    assert site.drained() == []


def test_a_dead_workers_job_is_queued_again_after_a_while(site: Site) -> None:
    job = running(site.store)
    site.store.renew(job, site.now + 1000)
    site.liveness.dead.add(str(job.worker))
    assert site.look() == 0
    # Time for whoever the queue delivers it to.
    assert site.look() == 0
    assert site.look() == 0
    assert site.look() == 1
    assert site.drained() == [job.id]
    found = site.store.job(job.id)
    assert found is not None
    assert (found.state, found.losses, found.worker) == (State.QUEUED, 1, None)
    assert [event.kind for event in site.store.events(job.id)] == ["queued", "running", "queued"]
    assert '"actor":"chores"' in site.store.events(job.id)[-1].data
    assert site.store.unplaced(1e9, 9) == []


def test_a_claim_that_is_over_is_given_time_to_be_renewed(site: Site) -> None:
    job = running(site.store)
    site.store.renew(job, site.now - 1)
    assert site.look() == 0
    assert site.look(TTR - 1) == 0
    site.store.renew(job, site.now - 0.5)  # The store was away, and the worker has come back.
    assert site.look() == 0
    assert site.look(TTR - 1) == 0
    assert site.look() == 1
    assert site.drained() == [job.id]


def test_one_among_more_than_a_look_takes_is_found(site: Site) -> None:
    job = running(site.store)
    site.store.renew(job, site.now - 1)
    for _ in range(2 * BITE):
        site.store.renew(running(site.store), site.now + 1000)
    for _ in range(3):
        assert site.look() == 0
    site.now += TTR
    assert sum(site.look() for _ in range(3)) == 1
    assert site.drained() == [job.id]


def test_another_worker_that_has_taken_it_over_keeps_it(site: Site) -> None:
    job = running(site.store)
    site.liveness.dead.add(str(job.worker))
    site.store.renew(job, site.now + 1000)
    site.look()
    site.look(4)
    ended = applied(site.store, succeeded(job))
    assert site.look() == 0
    assert site.store.job(job.id) == ended


def test_the_last_worker_that_it_may_cost_leaves_it_dead(site: Site) -> None:
    job = running(site.store, losses=MOST_LOSSES - 1)
    site.liveness.dead.add(str(job.worker))
    site.look()
    site.look(10)
    assert site.store.counts() == {State.DEAD: 1}
    assert site.drained() == []


def test_what_the_queue_did_not_take_is_not_lost(site: Site) -> None:
    job = running(site.store)
    site.liveness.dead.add(str(job.worker))
    site.look()
    site.now += 10
    site.broker.stop()
    with pytest.raises(QueueUnavailable):
        site.recovery.take_over()
    site.broker.start()
    assert [one.job for one in site.store.unplaced(site.now + 60, 9)] == [job.id]


def test_a_store_that_is_down_is_told_and_nothing_forgotten(site: Site) -> None:
    jobs = site.accept(*[a_job() for _ in range(3)])
    site.restart_empty()
    site.store.available = False
    with pytest.raises(StoreUnavailable):
        site.look()
    site.store.available = True
    site.look()
    assert site.drained() == [job.id for job in jobs]
