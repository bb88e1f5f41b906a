"""What every store has to do with jobs that are kept for a time; see ``taskbus.port.expiry``."""

from taskbus.core.cancel import cancelled
from taskbus.core.replay import replay
from taskbus.core.retention import Retention
from taskbus.model.job import Job, Key, Link, State, move
from taskbus.port.expiry import Expiry
from taskbus.port.store import Store
from tests.support.values import a_job, added, applied, running, submission, succeeded


def ended(store: Store, seconds: float, job: Job | None = None) -> Job:
    """A job that is kept for so many seconds from 1000 on."""
    kept = Retention(seconds, seconds)
    return applied(store, cancelled(job or added(store), "ann", 1000.0, kept))


def test_what_has_ended_expires_the_earliest_first(store: Store, expiry: Expiry) -> None:
    late, early, middle = ended(store, 30), ended(store, 10), ended(store, 20)
    added(store, created=1.0)
    running(store, created=1.0)
    assert expiry.expired(1009.9, 9) == []
    assert expiry.expired(1020.0, 9) == [early.id, middle.id]
    assert expiry.expired(9999.0, 2) == [early.id, middle.id]
    assert set(store.remove(expiry.expired(9999.0, 9))) == {early.id, middle.id, late.id}
    assert expiry.expired(9999.0, 9) == []


def test_a_replayed_job_does_not_expire(store: Store, expiry: Expiry) -> None:
    job = ended(store, 10)
    again = applied(store, replay(job, "ann", 1001.0))
    assert again.expires is None
    assert expiry.expired(9999.0, 9) == []
    assert expiry.expired(2000.0, 9) == []


def test_a_job_that_another_one_waits_for_or_looks_back_on_is_kept(
    store: Store, expiry: Expiry
) -> None:
    first, second = a_job(), a_job()
    last = a_job(state=State.WAITING)
    links = [Link(first.id, last.id, "end"), Link(second.id, last.id, "end")]
    store.add([submission(first), submission(second), submission(last, links=links)])
    ended(store, 10, first)
    assert expiry.expired(9999.0, 9) == []
    last = applied(store, move(last, State.QUEUED, 1001.0, reason="free", actor="test"))
    assert expiry.expired(9999.0, 9) == []
    ended(store, 20, last)
    assert expiry.expired(9999.0, 9) == [first.id, last.id]


def test_nothing_of_a_removed_job_is_left(store: Store, expiry: Expiry) -> None:
    """Not its keys and tags either, nor what belongs to others."""
    job, other = a_job(tags='["t"]'), a_job(tags='["t"]')
    store.add([submission(one, [Key(f"of {one.id}", one.id, 9999.0)]) for one in (job, other)])
    ended(store, 10, job)
    done = applied(store, succeeded(running(store)))
    assert store.remove(expiry.expired(1010.0, 9)) == [job.id]
    assert store.job(job.id) is None
    assert store.events(job.id) == []
    assert store.jobs(tag="t") == [other]
    assert store.result(done.id) is not None
    store.add([submission(a_job(), [Key(f"of {job.id}", "anybody", 9999.0)])])
