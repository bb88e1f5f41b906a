"""What every backlog has to do; see ``taskbus.port.backlog``."""

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.memory_backlog import MemoryBacklog
from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_backlog import SqlBacklog
from taskbus.model.job import State
from taskbus.port.backlog import Backlog
from taskbus.port.store import Store
from tests.support.values import added, applied, running, start, succeeded


@pytest.fixture
def backlog(store: Store) -> Backlog:
    if isinstance(store, MemoryStore):
        return MemoryBacklog(store)
    assert isinstance(store, SqlStore)
    return SqlBacklog(store)


def test_queued_jobs_in_their_order(store: Store, backlog: Backlog) -> None:
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
