"""What every store has to do with tags."""

import json

from taskbus.core.cancel import cancelled
from taskbus.model.job import Job, State
from taskbus.port.store import Store
from tests.support.values import added, applied


def tagged(store: Store, *tags: str, **fields: object) -> Job:
    return added(store, tags=json.dumps(tags), **fields)


def test_jobs_are_found_by_a_tag(store: Store) -> None:
    both, one, none = tagged(store, "a", "b"), tagged(store, "b"), added(store)
    assert store.jobs(tag="a") == [both]
    assert store.jobs(tag="b") == [one, both]
    assert store.jobs(tag="c") == []
    assert store.jobs() == [none, one, both]


def test_a_tag_is_exactly_that_text(store: Store) -> None:
    texts = ["order 7", "order 7 ", "Order 7", "order%", "ördér", "x" * 100, "\U0001f600", "'"]
    jobs = {text: tagged(store, text) for text in texts}
    for text, job in jobs.items():
        assert store.jobs(tag=text) == [job]
    everything = tagged(store, *texts)
    assert all(store.jobs(tag=text) == [everything, job] for text, job in jobs.items())


def test_tags_and_other_wishes(store: Store) -> None:
    jobs = [tagged(store, "t", uri=f"com.x.a{nth % 2}") for nth in range(6)]
    tagged(store, "other")
    ended = applied(store, cancelled(jobs[0], "ann", 1001.0))
    assert store.jobs(tag="t", limit=2) == jobs[:3:-1]
    assert store.jobs(tag="t", before=jobs[4].id, limit=2) == [jobs[3], jobs[2]]
    assert store.jobs(tag="t", uri="com.x.a1") == jobs[5::-2]
    assert store.jobs([State.CANCELLED], "com.x.*", jobs[1].id, 9, "t") == [ended]


def test_a_removed_job_has_no_tags(store: Store) -> None:
    gone, left = tagged(store, "t"), tagged(store, "t")
    applied(store, cancelled(gone, "ann", 1001.0))
    store.remove([gone.id])
    assert store.jobs(tag="t") == [left]
