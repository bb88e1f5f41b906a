"""What every backlog has to do; see ``taskbus.port.backlog``."""

from taskbus.model.job import State
from taskbus.port.sides import Sides
from tests.support.values import added, applied, running, start, succeeded


def test_queued_jobs_in_their_order(sides: Sides) -> None:
    store, backlog = sides.store, sides.backlog
    assert list(backlog.queued("", 10)) == []
    jobs = [added(store, priority=number, queue=f"q{number}") for number in range(5)]
    running(store)
    applied(store, succeeded(running(store)))
    added(store, state=State.SCHEDULED)
    expected = [job.placement for job in jobs]
    assert list(backlog.queued("", 10)) == expected
    assert list(backlog.queued("", 2)) == expected[:2]
    assert list(backlog.queued(jobs[1].id, 2)) == expected[2:4]
    assert list(backlog.queued(jobs[4].id, 2)) == []
    applied(store, start(jobs[0]))
    assert list(backlog.queued("", 1)) == expected[1:2]
