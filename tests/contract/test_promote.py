"""A job that runs when it is stored: a promoted call, on every store."""

import pytest

from taskbus.model.job import State
from taskbus.port.store import Store
from tests.support.values import a_job, add, applied, start, succeeded


@pytest.mark.parametrize("ending", ["settle", "renew"])
def test_a_job_may_be_running_when_it_is_added(store: Store, ending: str) -> None:
    # It has never been queued.
    job = start(a_job()).after._replace(seq=1)
    add(store, job)
    assert store.job(job.id) == job
    assert store.counts() == {State.RUNNING: 1}
    assert store.unplaced(job.created + 1000, 10) == []
    assert store.next_due() is None
    if ending == "renew":
        assert store.renew(job, 5000.0)
        assert store.ask_to_end(job, "ann")
        assert store.asked_to_end([job.id]) == {job.id: "ann"}
    ended = applied(store, succeeded(job))
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.worker, found.lease) == (State.SUCCEEDED, None, None)
    assert [event.seq for event in store.events(job.id)] == [1, ended.seq]
