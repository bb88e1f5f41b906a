"""What every store's keys have to do; see ``taskbus.port.keys``."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest

from taskbus.core.cancel import cancelled
from taskbus.core.replay import replay
from taskbus.model.errors import KeyTaken
from taskbus.model.job import Job, Key, State
from taskbus.model.policy import Policy
from taskbus.port.keys import Keys
from taskbus.port.store import Store
from taskbus.wire import open_sides
from tests.support.processes import PATIENCE
from tests.support.store_user import in_processes, submit_the_same
from tests.support.values import a_job, added, applied, failed, start, submission, succeeded

UNIQUE = Policy(unique=True).text


def with_key(store: Store, name: str, until: float | None = None, **fields: object) -> Job:
    """A job, accepted with a key."""
    job = a_job(**({"tied": 1} if until is None else {}) | fields)
    store.add([submission(job, [Key(name, job.id, until, "digest", "a label")])])
    return job


def test_a_key_comes_back_as_it_was_given(store: Store, keys: Keys) -> None:
    first, second = with_key(store, "for a time", 2000.5), with_key(store, "till the end")
    assert keys.holders(["for a time", "till the end", "nobody's"], 1000.0) == {
        "for a time": Key("for a time", first.id, 2000.5, "digest", "a label"),
        "till the end": Key("till the end", second.id, None, "digest", "a label"),
    }
    assert keys.holders([], 1000.0) == {}


def test_a_thousand_names(store: Store, keys: Keys) -> None:
    jobs = [a_job() for _ in range(1000)]
    store.add([submission(job, [Key(f"key of {job.id}", job.id, None)]) for job in jobs])
    held = keys.holders([f"key of {job.id}" for job in jobs], 1000.0)
    assert {key.job for key in held.values()} == {job.id for job in jobs}


def test_a_key_has_one_holder(store: Store, keys: Keys) -> None:
    first = with_key(store, "key", 2000.0)
    other = a_job()
    with pytest.raises(KeyTaken):
        store.add([submission(other, [Key("free", other.id, None), Key("key", other.id, None)])])
    assert store.job(other.id) is None
    assert keys.holders(["free", "key"], 1000.0).keys() == {"key"}
    assert keys.holders(["key"], 1000.0)["key"].job == first.id


def test_two_jobs_of_one_add_do_not_get_the_same_key(store: Store, keys: Keys) -> None:
    with pytest.raises(KeyTaken):
        store.add([submission(job, [Key("key", job.id, None)]) for job in (a_job(), a_job())])
    assert store.jobs() == []
    assert keys.holders(["key"], 1000.0) == {}


def test_a_key_whose_time_is_over_is_free(store: Store, keys: Keys) -> None:
    with_key(store, "key", 2000.0, created=1000.0)
    assert keys.holders(["key"], 1999.9)
    assert keys.holders(["key"], 2000.0) == {}
    with pytest.raises(KeyTaken):
        with_key(store, "key", 3000.0, created=1999.9)
    second = with_key(store, "key", 3000.0, created=2000.0)
    assert keys.holders(["key"], 2000.0)["key"].job == second.id


def test_a_unique_key_is_free_once_its_job_has_ended(store: Store, keys: Keys) -> None:
    job = with_key(store, "unique", policy=UNIQUE)
    job = applied(store, start(job))
    assert keys.holders(["unique"], 1e12)
    applied(store, succeeded(job))
    assert keys.holders(["unique"], 1000.0) == {}
    with_key(store, "unique")
    job = with_key(store, "of another")
    applied(store, cancelled(job, "ann", 1001.0))
    assert keys.holders(["unique", "of another"], 1000.0).keys() == {"unique"}


def test_an_idempotency_key_outlives_its_job(store: Store, keys: Keys) -> None:
    job = with_key(store, "key", 2000.0, tied=1)
    applied(store, succeeded(applied(store, start(job))))
    assert keys.holders(["key"], 1999.0)["key"].job == job.id


def test_a_removed_job_has_no_keys(store: Store, keys: Keys) -> None:
    job = with_key(store, "key", 2000.0)
    applied(store, cancelled(job, "ann", 1001.0))
    store.remove([job.id])
    assert keys.holders(["key"], 1000.0) == {}


def test_keys_can_be_given_later(store: Store, keys: Keys) -> None:
    job = added(store)
    keys.hold([Key("one", job.id, 2000.0), Key("two", job.id, 2000.0)], 1000.0)
    assert keys.holders(["one", "two"], 1000.0).keys() == {"one", "two"}
    with pytest.raises(KeyTaken):
        keys.hold([Key("three", job.id, 2000.0), Key("two", job.id, 2000.0)], 1000.0)
    assert keys.holders(["three"], 1000.0) == {}
    keys.hold([Key("two", job.id, 3000.0)], 2000.0)
    assert keys.holders(["two"], 2500.0)


def test_keys_are_forgotten_after_their_time(store: Store, keys: Keys) -> None:
    for nth in range(5):
        with_key(store, f"key {nth}", 2000.0 + nth)
    with_key(store, "for good")
    assert keys.expire(1999.0, 10) == 0
    assert keys.expire(2002.0, 2) == 2
    assert keys.expire(2002.0, 2) == 1
    assert keys.expire(2002.0, 2) == 0
    everybody = [*(f"key {nth}" for nth in range(5)), "for good"]
    assert keys.holders(everybody, 0.0).keys() == {"key 3", "key 4", "for good"}


def test_a_replayed_job_takes_its_key_again(store: Store, keys: Keys) -> None:
    job = a_job(policy=UNIQUE, tied=1)
    job = applied(store, failed(applied(store, start(added(store, **job._asdict())))))
    change = replay(job, "ann", 1003.0)
    [key] = change.keys
    applied(store, change)
    assert keys.holders([key.name], 1e12) == {key.name: key}
    assert store.advance([change]) == [False]
    ended = applied(store, cancelled(change.after, "ann", 1004.0))
    assert keys.holders([key.name], 0.0) == {}
    # Where nothing is tied to it any more, too.
    assert replay(ended._replace(tied=0), "ann", 1005.0).after.tied == 1


def test_a_job_is_not_replayed_while_another_one_has_its_key(store: Store, keys: Keys) -> None:
    jobs = [
        applied(store, failed(applied(store, start(added(store, policy=UNIQUE, tied=1)))))
        for _ in range(2)
    ]
    # In one call, too.
    assert store.advance([replay(job, "ann", 1003.0) for job in jobs]) == [True, False]
    assert store.advance([replay(jobs[1], "ann", 1003.0)]) == [False]
    now = store.job(jobs[1].id)
    assert now == jobs[1]
    other = replay(jobs[1], "ann", 1003.0, args='["other"]')
    assert store.advance([other]) == [True]
    assert store.counts() == {State.QUEUED: 2}


def test_a_replay_that_comes_too_late_takes_no_key(store: Store, keys: Keys) -> None:
    job = applied(store, failed(applied(store, start(added(store, policy=UNIQUE, tied=1)))))
    change = replay(job, "ann", 1003.0)
    store.remove([job.id])
    assert store.advance([change]) == [False]
    assert keys.holders([change.keys[0].name], 1003.0) == {}


def test_threads_do_not_get_the_same_key(store: Store, keys: Keys) -> None:
    begin = Barrier(4, timeout=PATIENCE)

    def take(_nth: int) -> int:
        got = 0
        begin.wait()
        for nth in range(50):
            try:
                with_key(store, f"key {nth}")
                got += 1
            except KeyTaken:
                pass
        return got

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 50
    assert store.counts() == {State.QUEUED: 50}


def test_processes_that_submit_the_same_get_the_same_jobs(shared_url: str) -> None:
    with closing(open_sides(shared_url).store) as store:
        first, *others = in_processes(6, "submit_the_same", shared_url)
        assert len(set(first)) == 100
        assert all(other == first for other in others)
        assert dict(store.counts()) == {State.QUEUED: 100}


def test_processes_take_keys_whose_time_is_over_once(shared_url: str) -> None:
    sides = open_sides(shared_url)
    with closing(sides.store) as store:
        submit_the_same(sides, lambda: 1000.0)
        first, *others = in_processes(6, "submit_the_same", shared_url)
        assert all(other == first for other in others)
        # The unique ones still wait.
        assert dict(store.counts()) == {State.QUEUED: 150}
