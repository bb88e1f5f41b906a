"""What is done from time to time."""

from collections.abc import Iterator

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.core.chores import Chore, Chores
from taskbus.model.errors import QueueUnavailable
from taskbus.model.job import State
from tests.support.values import a_job, add, added, applied, failed, running, start


class Site:
    """A store, a queue, and a clock that the test moves."""

    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.queue = MemoryQueue(self.broker)
        self.now = 1000.0
        self.chores = self.another()

    def another(self) -> Chores:
        return Chores(self.store, self.queue, lambda: self.now)

    def ready(self) -> int:
        return self.queue.stats().ready


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.queue.close()


def test_nothing_to_do(site: Site) -> None:
    assert 0 < site.chores.run() <= 10
    assert site.ready() == 0


def test_a_scheduled_job_is_queued_when_it_is_due(site: Site) -> None:
    job = added(site.store, state=State.SCHEDULED, due=1000.3)
    # It wakes for the job, before its own rhythm would have it.
    assert site.chores.run() == pytest.approx(0.3)
    assert site.ready() == 0
    site.now = 1000.3
    site.chores.run()
    assert site.ready() == 1
    assert site.store.unplaced(1e9, 9) == []
    assert [event.kind for event in site.store.events(job.id)] == ["scheduled", "queued"]


def test_a_retrying_job_is_queued_when_it_is_due(site: Site) -> None:
    job = applied(site.store, failed(running(site.store, retries=1)))
    site.store.placed([job.placement])
    site.now = job.due - 0.01
    site.chores.run()
    assert site.ready() == 0
    site.now = job.due
    site.chores.run()
    assert site.ready() == 1
    assert site.store.counts() == {State.QUEUED: 1}


def test_the_earliest_come_first(site: Site) -> None:
    late = added(site.store, state=State.SCHEDULED, due=1200.0)
    early = added(site.store, state=State.SCHEDULED, due=1100.0)
    site.now = 2000.0
    site.chores.run()
    site.queue.request()
    first = site.queue.take()
    site.queue.request()
    second = site.queue.take()
    assert first is not None
    assert second is not None
    assert [first.job, second.job] == [early.id, late.id]


def test_more_than_a_bite_is_done_without_a_rest(site: Site) -> None:
    add(site.store, *[a_job(state=State.SCHEDULED, due=1000.0) for _ in range(1100)])
    rests = [site.chores.run() for _ in range(3)]
    assert rests[:2] == [0.0, 0.0]
    assert rests[2] > 0
    assert site.ready() == 1100


def test_a_forgotten_job_is_queued_after_a_while(site: Site) -> None:
    added(site.store, created=1000.0)
    site.chores.run()
    assert site.ready() == 0  # Whoever accepted it may be about to put it there.
    site.now = 1000.0 + 60
    site.chores.run()
    assert site.ready() == 1
    site.now += 60
    site.chores.run()
    assert site.ready() == 1


def test_a_due_job_that_the_queue_did_not_take_is_not_lost(site: Site) -> None:
    added(site.store, state=State.SCHEDULED, due=1000.0)
    site.broker.stop()
    with pytest.raises(QueueUnavailable):
        site.chores.run()
    site.broker.start()
    site.now += 60
    site.chores.run()
    assert site.ready() == 1


def test_one_that_cannot_be_done_keeps_no_other_from_being_done(site: Site) -> None:
    done: list[float] = []

    def other() -> int:
        done.append(site.now)
        return 0

    chores = Chores(site.store, site.queue, lambda: site.now, Chore("another", 5.0, other))
    added(site.store, state=State.SCHEDULED, due=1000.0)
    site.broker.stop()
    with pytest.raises(QueueUnavailable):
        chores.run()
    assert done == [1000.0]


def test_a_clock_that_is_set_back_keeps_nobody_waiting(site: Site) -> None:
    site.chores.run()
    site.now -= 3600
    added(site.store, created=site.now)
    # Whatever may come meanwhile is due soon.
    assert site.chores.run() <= 10
    site.now += 10
    site.chores.run()
    assert site.ready() == 1


def test_two_of_them_do_no_harm(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = added(site.store, state=State.SCHEDULED, due=1000.0)
    taken = added(site.store, state=State.SCHEDULED, due=1000.0)
    seen_by_both = site.store.due(1000.0, 9)
    site.chores.run()
    assert site.ready() == 2
    applied(site.store, start(site.store.jobs(uri=job.uri, before=taken.id)[0]))
    # The other one looked at the same moment.
    monkeypatch.setattr(site.store, "due", lambda _now, _limit: seen_by_both)
    site.another().run()
    assert site.ready() == 2
    assert site.store.counts() == {State.RUNNING: 1, State.QUEUED: 1}
