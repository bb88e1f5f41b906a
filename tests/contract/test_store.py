"""What every store has to do; see ``taskbus.port.store``."""

import json
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_schema import VERSION
from taskbus.core.replay import replay
from taskbus.core.retention import STANDARD_RETENTION
from taskbus.model.errors import KeyTaken, StoreUnavailable
from taskbus.model.identity import new_job_id
from taskbus.model.job import Change, Event, Job, Key, State, move, note
from taskbus.port.store import Entry, Store
from taskbus.wire import open_store
from tests.support.processes import PATIENCE, python
from tests.support.store_user import in_processes
from tests.support.values import (
    a_job,
    add,
    added,
    applied,
    failed,
    running,
    start,
    submission,
    succeeded,
)


@pytest.fixture
def sqlite(url: str) -> Iterator[SqlStore]:
    with closing(SqlStore(url)) as made:
        yield made


# Accepting


def test_a_job_comes_back_as_it_was_added(store: Store) -> None:
    job = added(
        store,
        state=State.SCHEDULED,
        priority=0,
        timeout=0.01,
        retries=100,
        args=json.dumps(
            ["na\u00efve \U0001f600 \0 'quoted' \\", "x" * 5_000_000], ensure_ascii=False
        ),
        kwargs='{"\u00fc":null}',
        details="{}",
        created=1234567890.123456,
        due=1234567999.5,
    )
    assert store.job(job.id) == job
    found = store.job(job.id)
    assert found is not None
    assert found.state is State.SCHEDULED


def test_an_unknown_job_is_none(store: Store) -> None:
    unknown = new_job_id()
    assert store.job(unknown) is None
    assert store.result(unknown) is None
    assert store.events(unknown) == []
    assert store.advance([start(a_job())]) == [False]
    assert not store.renew(a_job(state=State.RUNNING, attempt=1), 1.0)


def test_add_takes_all_or_nothing(store: Store) -> None:
    known = added(store)
    fresh = a_job()
    with pytest.raises(StoreUnavailable):
        add(store, fresh, known)
    assert store.job(fresh.id) is None
    assert store.events(fresh.id) == []
    assert len(store.journal(0, 100)) == 1
    assert [one.job for one in store.unplaced(1e12, 100)] == [known.id]
    add(store, fresh)  # The store goes on.
    assert store.job(fresh.id) == fresh


def test_what_came_with_a_refused_add_is_not_taken_either(store: Store) -> None:
    known = added(store)
    with pytest.raises(StoreUnavailable):
        store.add([submission(known)], placed=[known.placement])
    assert [one.job for one in store.unplaced(1e12, 100)] == [known.id]


def test_more_in_one_add_than_a_server_takes_in_one_packet(store: Store) -> None:
    text = json.dumps(["\\'\u00e9" * 300_000], ensure_ascii=False)
    jobs = [a_job(args=text) for _ in range(24)]
    add(store, *jobs)
    assert [store.job(job.id) for job in jobs] == jobs


def test_a_thousand_jobs_in_one_add(store: Store) -> None:
    jobs = [a_job() for _ in range(1000)]
    add(store, *jobs)
    assert store.counts() == {State.QUEUED: 1000}
    assert [entry.event.job for entry in store.journal(0, 2000)] == [job.id for job in jobs]


# Changes


def test_events_are_in_order_and_count_up(store: Store) -> None:
    job = running(store)
    other = running(store)
    job = applied(
        store, note(job, 1001.5, [("output", {"text": "a"}), ("progress", {"fraction": 1})])
    )
    applied(store, succeeded(other))
    job = applied(store, succeeded(job))
    events = store.events(job.id)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.kind for event in events] == [
        "queued",
        "running",
        "output",
        "progress",
        "succeeded",
    ]
    assert {event.job for event in events} == {job.id}
    assert json.loads(events[2].data) == {"text": "a"}
    assert [event.at for event in events] == [1000.0, 1001.0, 1001.5, 1001.5, 1002.0]
    assert store.job(job.id) == job


def test_events_can_be_read_from_any_number_on(store: Store) -> None:
    job = running(store)
    job = applied(store, note(job, 1001.0, [("output", {"text": str(n)}) for n in range(8)]))
    everything = store.events(job.id)
    assert len(everything) == 10
    assert store.events(job.id, after=4) == everything[4:]
    assert store.events(job.id, after=4, limit=3) == everything[4:7]
    assert store.events(job.id, after=10) == []


def test_a_stale_change_is_refused_with_its_events(store: Store) -> None:
    job = added(store)
    first, second = start(job, worker="host/1/1"), start(job, worker="host/2/2")
    assert store.advance([first]) == [True]
    assert store.advance([second]) == [False]
    assert store.job(job.id) == first.after
    assert store.events(job.id)[1:] == list(first.events)
    assert len(store.journal(0, 100)) == 2


def test_a_stale_change_leaves_the_others_of_its_call(store: Store) -> None:
    stale, fresh = added(store), added(store)
    applied(store, start(stale))
    assert store.advance([start(stale), start(fresh)]) == [False, True]
    assert store.job(fresh.id) == start(fresh).after


def test_a_stale_note_is_refused(store: Store) -> None:
    job = running(store)
    applied(store, succeeded(job))
    assert store.advance([note(job, 1003.0, [("output", {"text": "late"})])]) == [False]
    assert [event.kind for event in store.events(job.id)] == ["queued", "running", "succeeded"]


def test_a_refused_settlement_writes_no_result(store: Store) -> None:
    job = running(store)
    applied(store, failed(job))
    assert store.advance([succeeded(job)]) == [False]
    assert store.result(job.id) is None


def test_changes_of_one_job_in_one_call_apply_in_order(store: Store) -> None:
    job = running(store)
    said = note(job, 1001.5, [("output", {"text": "a"})])
    ended = succeeded(said.after)
    assert store.advance([said, ended]) == [True, True]
    assert store.job(job.id) == ended.after
    assert [event.kind for event in store.events(job.id)] == [
        "queued",
        "running",
        "output",
        "succeeded",
    ]


def test_the_second_of_two_chained_changes_falls_with_the_first(store: Store) -> None:
    job = running(store)
    applied(store, failed(job))
    said = note(job, 1001.5, [("output", {"text": "a"})])
    assert store.advance([said, succeeded(said.after)]) == [False, False]


def test_the_result_is_stored_with_the_success(store: Store) -> None:
    job = running(store)
    body = json.dumps({"args": ["\u00e9" * 2_000_000], "kwargs": {}}, ensure_ascii=False)
    assert store.result(job.id) is None
    applied(store, succeeded(job, body))
    assert store.result(job.id) == body
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.finished, found.worker, found.lease) == (
        State.SUCCEEDED, 1002.0, None, None,
    )  # fmt: skip


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 16_000_000])
def test_a_result_of_any_size_comes_back_as_it_was(store: Store, size: int) -> None:
    body = ("0123456789\u00e9" * (size // 11 + 1))[:size]
    job = applied(store, succeeded(running(store), body))
    assert store.result(job.id) == body
    assert store.remove([job.id]) == [job.id]
    assert store.result(job.id) is None


def test_a_replay_forgets_a_large_result_wholly(store: Store) -> None:
    # Only failed jobs are replayed; a store does not rely on it.
    job = applied(store, succeeded(running(store), "x" * 3_000_000))
    again = job._replace(state=State.QUEUED, seq=job.seq + 1)
    told = Event(job.id, again.seq, 1003.0, "queued", "{}")
    applied(store, succeeded(applied(store, start(applied(store, Change(job, again, (told,)))))))
    assert store.result(job.id) == '{"args":[1],"kwargs":{}}'


def test_a_failure_keeps_its_error(store: Store) -> None:
    job = running(store)
    applied(store, failed(job, "no luck"))
    found = store.job(job.id)
    assert found is not None
    assert found.state is State.FAILED
    assert json.loads(found.error or "")["message"] == "no luck"


def test_no_changes_is_a_call_too(store: Store) -> None:
    assert store.advance([]) == []


def test_a_sync_changes_nothing_that_can_be_seen(store: Store) -> None:
    job = added(store)
    assert store.advance([start(job)], durable=False) == [True]
    for _ in range(2):
        store.sync()
    assert store.job(job.id) == start(job).after


def test_changes_that_need_not_be_durable_are_there_all_the_same(store: Store) -> None:
    job = added(store)
    assert store.advance([start(job)], durable=False) == [True]
    assert store.job(job.id) == start(job).after


# Leases


def test_renew_extends_the_lease_and_nothing_else(store: Store) -> None:
    job = running(store)
    assert store.renew(job, 5000.0)
    assert store.job(job.id) == job._replace(lease=5000.0)


def test_renew_is_for_the_running_attempt_only(store: Store) -> None:
    waiting = added(store)
    assert not store.renew(waiting, 5000.0)
    first = running(store)
    lost = applied(
        store, move(first, State.QUEUED, 1003.0, reason="lost", actor="x", worker=None, lease=None)
    )
    second = applied(store, start(lost))
    assert not store.renew(first, 5000.0)
    assert store.job(second.id) == second
    assert store.renew(second, 5000.0)
    ended = applied(store, succeeded(second))
    assert not store.renew(second, 6000.0)
    assert store.job(ended.id) == ended


# Lists


def test_a_running_attempt_can_be_asked_to_end(store: Store) -> None:
    job, other = running(store), running(store)
    assert store.asked_to_end([job.id, other.id]) == {}
    assert store.ask_to_end(job, "ann")
    assert store.ask_to_end(job, "bob")
    assert store.asked_to_end([job.id, other.id, new_job_id()]) == {job.id: "ann"}
    assert store.asked_to_end([other.id]) == store.asked_to_end([]) == {}
    assert store.job(job.id) == job._replace(cancel="ann")


def test_who_asks_writes_nothing_that_the_worker_does_not_expect(store: Store) -> None:
    job = running(store)
    store.ask_to_end(job, "ann")
    noted = note(job, 1002.0, [("output", {"text": "a"})])
    over = applied(store, failed(applied(store, noted)))
    assert store.job(job.id) == over._replace(cancel="ann")


def test_what_was_asked_to_end_is_not_tried_again(store: Store) -> None:
    """The worker did not hear of it before it settled."""
    job = running(store, retries=1)
    store.ask_to_end(job, "ann")
    retried = failed(job)
    assert retried.after.state is State.RETRYING
    assert store.advance([retried]) == [False]
    assert store.job(job.id) == job._replace(cancel="ann")
    assert [event.kind for event in store.events(job.id)] == ["queued", "running"]
    assert applied(store, failed(job._replace(cancel="ann"))).state is State.CANCELLED


def test_only_the_running_attempt_can_be_asked_to_end(store: Store) -> None:
    queued = added(store)
    assert not store.ask_to_end(queued, "ann")
    job = running(store, retries=1)
    assert not store.ask_to_end(job._replace(attempt=job.attempt + 1), "ann")
    applied(store, succeeded(job))
    assert not store.ask_to_end(job, "ann")
    assert not store.ask_to_end(a_job(), "ann")


def test_a_replay_begins_anew(store: Store) -> None:
    job = running(store)
    store.ask_to_end(job, "ann")
    store.placed([job.placement])
    over = applied(store, failed(job))
    again = applied(store, replay(over, "bob", 2000.0, "[2]", '{"a":1}'))
    assert store.job(job.id) == again
    assert (again.cancel, again.args, again.kwargs) == (None, "[2]", '{"a":1}')
    assert [one.job for one in store.unplaced(1e9, 9)] == [job.id]


def test_what_has_ended_can_be_removed_with_all_that_belongs_to_it(store: Store) -> None:
    over, going_on = applied(store, succeeded(running(store))), running(store)
    position = store.position()
    assert store.remove([over.id, going_on.id, new_job_id()]) == [over.id]
    assert (store.job(over.id), store.result(over.id)) == (None, None)
    assert store.events(over.id) == []
    assert [one.job for one in store.unplaced(1e9, 9)] == [going_on.id]
    assert [entry.event.job for entry in store.journal(0, 99)] == [going_on.id] * 2
    assert store.remove([over.id]) == store.remove([]) == []
    added(store)
    assert store.position() > position


def test_jobs_are_listed_newest_first_in_pages(store: Store) -> None:
    ids = [added(store).id for _ in range(7)]
    assert [job.id for job in store.jobs()] == ids[::-1]
    page = store.jobs(limit=3)
    assert [job.id for job in page] == [ids[6], ids[5], ids[4]]
    assert [job.id for job in store.jobs(before=page[-1].id, limit=3)] == [ids[3], ids[2], ids[1]]
    assert [job.id for job in store.jobs(before=ids[1], limit=3)] == [ids[0]]
    assert store.jobs(before=ids[0]) == []


def test_jobs_are_filtered_by_state(store: Store) -> None:
    queued, run = added(store), running(store)
    done = applied(store, succeeded(running(store)))
    assert store.jobs(states=[State.QUEUED]) == [queued]
    assert store.jobs(states={State.RUNNING, State.SUCCEEDED}) == [done, run]
    assert store.jobs(states=[State.FAILED]) == []
    assert len(store.jobs(states=())) == 3


def test_jobs_are_filtered_by_uri_and_namespace(store: Store) -> None:
    uris = ["com.x", "com.x.a", "com.x.a.b", "com.x0.a", "com.x_y.a", "com.y.a"]
    for uri in uris:
        added(store, uri=uri)

    def listed(uri: str) -> set[str]:
        return {job.uri for job in store.jobs(uri=uri)}

    assert listed("com.x.a") == {"com.x.a"}
    assert listed("com.x.*") == {"com.x.a", "com.x.a.b"}
    assert listed("com.*") == set(uris)
    assert listed("com.z.*") == set()
    assert listed("com.%.a") == set()


def test_texts_are_the_same_only_where_each_character_is(store: Store) -> None:
    names = ["com.x", "com.X", "com.\u00e9", "com.e", "com.e\u0301", "com.x ", "com.\u00df"]
    jobs = [a_job(uri=name) for name in names]
    store.add([submission(job, [Key(job.uri, job.id, None)]) for job in jobs])
    for job in jobs:
        assert store.jobs(uri=job.uri) == [job]
        other = a_job()
        with pytest.raises(KeyTaken):
            store.add([submission(other, [Key(job.uri, other.id, None)])])


def test_filters_apply_together(store: Store) -> None:
    wanted = applied(store, start(added(store, uri="com.x.a")))
    added(store, uri="com.x.a")
    newest = running(store, uri="com.y.a")
    applied(store, start(added(store, uri="com.x.b")))
    assert store.jobs([State.RUNNING], "com.x.*", newest.id) == [wanted]


def test_counts(store: Store) -> None:
    assert dict(store.counts()) == {}
    added(store)
    added(store, state=State.SCHEDULED)
    running(store)
    running(store)
    applied(store, succeeded(running(store)))
    assert dict(store.counts()) == {
        State.QUEUED: 1,
        State.SCHEDULED: 1,
        State.RUNNING: 2,
        State.SUCCEEDED: 1,
    }
    assert all(isinstance(state, State) for state in store.counts())


def test_counts_of_some_states_and_uris(store: Store) -> None:
    for uri in ("com.x.a", "com.x.a.b", "com.xa", "com.x"):
        added(store, uri=uri)
    running(store, uri="com.x.a")
    assert dict(store.counts(uri="com.x.*")) == {State.QUEUED: 2, State.RUNNING: 1}
    assert dict(store.counts(uri="com.x.a")) == {State.QUEUED: 1, State.RUNNING: 1}
    assert dict(store.counts([State.QUEUED, State.FAILED])) == {State.QUEUED: 4}
    assert dict(store.counts([State.RUNNING], "com.x.*")) == {State.RUNNING: 1}
    assert dict(store.counts([State.FAILED], "com.y.*")) == {}


# What waits for its time


def test_due_jobs_the_earliest_first(store: Store) -> None:
    assert store.next_due() is None
    late = added(store, state=State.SCHEDULED, due=3000.0)
    early = added(store, state=State.SCHEDULED, due=1500.0)
    retried = applied(store, failed(running(store, retries=1)))
    assert retried.state is State.RETRYING
    added(store, due=1.0)  # Queued already.
    assert store.next_due() == retried.due < early.due
    assert store.due(1000.0, 10) == []
    assert store.due(1500.0, 10) == [retried, early]
    assert store.due(9000.0, 10) == [retried, early, late]
    assert store.due(9000.0, 2) == [retried, early]


def test_what_was_queued_is_not_due_any_more(store: Store) -> None:
    job = added(store, state=State.SCHEDULED, due=1500.0)
    applied(store, move(job, State.QUEUED, 1600.0, reason="due", actor="chores"))
    assert store.due(9000.0, 10) == []
    assert store.next_due() is None


# What the queue may not know


def unplaced(store: Store) -> list[str]:
    return [placement.job for placement in store.unplaced(1e12, 100)]


def test_queued_jobs_are_unplaced_until_placed(store: Store) -> None:
    first, second = added(store, priority=7), added(store, created=1500.0)
    assert store.unplaced(1e12, 100) == [first.placement, second.placement]
    assert store.unplaced(1e12, 100)[0].priority == 7
    assert store.unplaced(1e12, 1) == [first.placement]
    assert store.unplaced(1200.0, 100) == [first.placement]
    store.placed([first.placement])
    assert unplaced(store) == [second.id]
    store.placed([first.placement, second.placement])
    assert unplaced(store) == []
    store.placed([])


def test_add_also_notes_what_was_placed_since(store: Store) -> None:
    first, second = added(store), a_job()
    store.add([submission(second)], placed=[first.placement])
    assert unplaced(store) == [second.id]


def test_scheduled_jobs_are_unplaced_from_their_time_on(store: Store) -> None:
    job = added(store, state=State.SCHEDULED, due=1500.0)
    assert unplaced(store) == []
    due = applied(store, move(job, State.QUEUED, 1600.0, reason="due", actor="chores"))
    assert store.unplaced(1600.0, 100) == []
    assert store.unplaced(1600.1, 100) == [due.placement]


def test_retried_jobs_are_unplaced_again(store: Store) -> None:
    job = running(store, retries=1)
    store.placed([job.placement])
    job = applied(store, failed(job))
    assert unplaced(store) == []
    applied(store, move(job, State.QUEUED, 1600.0, reason="due", actor="chores"))
    assert unplaced(store) == [job.id]


def test_a_retried_job_whose_first_placement_was_never_confirmed(store: Store) -> None:
    """Whoever accepted it died between the queue's answer and its note in the store."""
    job = applied(store, failed(running(store, retries=1)))
    again = applied(store, move(job, State.QUEUED, 1600.0, reason="due", actor="chores"))
    assert store.unplaced(1e12, 100) == [again.placement]
    store.placed([again.placement])
    assert unplaced(store) == []


def test_that_a_job_was_placed_says_nothing_of_a_later_time(store: Store) -> None:
    """Whoever accepted it tells the store a little later, when the job is queued once more."""
    first = running(store, retries=1)
    job = applied(store, failed(first))
    again = applied(store, move(job, State.QUEUED, 1600.0, reason="due", actor="chores"))
    for late in (first, job):
        store.placed([late.placement])
        store.add([submission(a_job(state=State.SCHEDULED))], placed=[late.placement])
        assert store.unplaced(1e12, 100) == [again.placement]


def test_a_lost_workers_job_is_unplaced_unless_it_is_claimed_at_once(store: Store) -> None:
    jobs = [running(store), running(store)]
    store.placed([job.placement for job in jobs])
    lost = [
        move(job, State.QUEUED, 1003.0, reason="lost", actor="x", worker=None, lease=None)
        for job in jobs
    ]
    assert store.advance([*lost, start(lost[0].after)]) == [True, True, True]
    assert unplaced(store) == [jobs[1].id]
    store.placed([lost[1].after.placement])
    assert unplaced(store) == []


# The journal


def test_the_journal_holds_every_event_in_order(store: Store) -> None:
    assert store.position() == 0
    assert store.journal(0, 10) == []
    one, two = added(store), added(store)
    applied(store, start(two))
    applied(store, start(one))
    entries = store.journal(0, 10)
    assert [entry.position for entry in entries] == [1, 2, 3, 4]
    assert [(entry.event.job, entry.event.seq) for entry in entries] == [
        (one.id, 1), (two.id, 1), (two.id, 2), (one.id, 2),
    ]  # fmt: skip
    assert store.position() == 4
    assert store.journal(2, 10) == entries[2:]
    assert store.journal(1, 2) == entries[1:3]
    assert store.journal(4, 10) == []
    assert isinstance(entries[0].event, Event)


def test_a_refused_add_leaves_no_gap(store: Store) -> None:
    known = added(store)
    with pytest.raises(StoreUnavailable):
        add(store, a_job(), known)
    added(store)
    assert [entry.position for entry in store.journal(0, 10)] == [1, 2]


def test_a_reader_of_the_journal_misses_nothing_while_many_write(store: Store) -> None:
    writers, jobs_each = 8, 10
    total = writers * jobs_each * 3
    begin = threading.Barrier(writers + 1, timeout=PATIENCE)

    def write() -> None:
        begin.wait()
        for _ in range(jobs_each):
            applied(store, succeeded(running(store)))

    seen: list[Entry] = []
    with ThreadPoolExecutor(writers) as pool:
        work = [pool.submit(write) for _ in range(writers)]
        begin.wait()
        while len(seen) < total and not all(one.done() for one in work):
            seen += store.journal(seen[-1].position if seen else 0, 7)
        for one in work:
            one.result()
    while found := store.journal(seen[-1].position if seen else 0, 100):
        seen += found
    assert [entry.position for entry in seen] == list(range(1, total + 1))
    assert [entry.position for entry in store.journal(0, total + 1)] == list(range(1, total + 1))
    by_job: dict[str, list[int]] = {}
    for entry in seen:
        by_job.setdefault(entry.event.job, []).append(entry.event.seq)
    assert set(map(tuple, by_job.values())) == {(1, 2, 3)}


def test_one_of_many_concurrent_claims_wins(store: Store) -> None:
    jobs = [added(store) for _ in range(40)]
    threads = 6
    begin = threading.Barrier(threads, timeout=PATIENCE)

    def claim(worker: int) -> list[str]:
        begin.wait()
        return [
            job.id
            for job in jobs
            if store.advance([start(job, worker=f"host/{worker}/1")]) == [True]
        ]

    with ThreadPoolExecutor(threads) as pool:
        claimed = [job for mine in pool.map(claim, range(threads)) for job in mine]
    assert sorted(claimed) == [job.id for job in jobs]
    assert all(len(store.events(job.id)) == 2 for job in jobs)


def test_any_number_of_threads_may_use_it(store: Store) -> None:
    job = added(store)
    threads = 40
    everybody = threading.Barrier(threads, timeout=PATIENCE)

    def use() -> tuple[Job | None, int]:
        everybody.wait()
        found = store.job(job.id), store.position()
        everybody.wait()  # Nobody leaves before all have used it.
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = [one.result() for one in [pool.submit(use) for _ in range(threads)]]
    assert found == [(job, 1)] * threads


# A store on disk


def test_it_is_all_there_when_opened_again(shared_url: str) -> None:
    with closing(open_store(shared_url)) as store:
        job = applied(store, succeeded(running(store), '"done"'))
        scheduled = added(store, state=State.SCHEDULED)
    with closing(open_store(shared_url)) as store:
        assert store.job(job.id) == job
        assert store.result(job.id) == '"done"'
        assert store.position() == 4
        assert store.next_due() == scheduled.due


def test_what_is_asked_all_the_time_looks_at_few_rows(sqlite: SqlStore, tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(_db: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    try:
        sqlite.due(1e12, 10)
        sqlite.next_due()
        sqlite.unplaced(1e12, 10)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(tmp_path / "taskbus.db")) as db:
        plans = [
            [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            for statement, values in asked
        ]
    due, next_due, unplaced = plans
    assert due == ["SEARCH job USING INDEX job_waiting (due<?)"]
    assert next_due == ["SEARCH job USING INDEX job_waiting"]
    assert not [step for step in unplaced if "SCAN job" in step]


def test_two_open_stores_see_each_others_writes(shared_url: str) -> None:
    with closing(open_store(shared_url)) as one, closing(open_store(shared_url)) as two:
        job = added(one)
        assert two.job(job.id) == job
        job = applied(two, start(job))
        assert one.job(job.id) == job
        assert one.position() == two.position() == 2


def test_what_was_accepted_survives_a_crash(shared_url: str) -> None:
    with python("-m", "tests.support.store_user", "crash_after_adding", shared_url, 20) as process:
        output, _ = process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    ready, *ids = output.split()
    assert (ready, len(ids)) == ("ready", 21)
    with closing(open_store(shared_url)) as store:
        assert sorted(job.id for job in store.jobs()) == ids
        assert store.position() == 21


def test_processes_claim_each_job_once(shared_url: str) -> None:
    with closing(open_store(shared_url)) as store:
        jobs = [a_job() for _ in range(200)]
        add(store, *jobs)
        outputs = in_processes(8, "claim_all", shared_url)
        claimed = [job for output in outputs for job in output]
        assert sorted(claimed) == [job.id for job in jobs]
        assert dict(store.counts()) == {State.SUCCEEDED: 200}
        assert [entry.position for entry in store.journal(0, 1000)] == list(range(1, 601))
        assert all([event.seq for event in store.events(job.id)] == [1, 2, 3] for job in jobs)


def test_a_reader_misses_nothing_while_processes_write(shared_url: str) -> None:
    with closing(open_store(shared_url)) as store, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(in_processes, 6, "go_through_jobs", shared_url)
        seen: list[Entry] = []
        while not writing.done():
            seen += store.journal(seen[-1].position if seen else 0, 5)
        while found := store.journal(seen[-1].position if seen else 0, 100):
            seen += found
        written = sorted(job for output in writing.result() for job in output)
        assert [entry.position for entry in seen] == list(range(1, 3 * len(written) + 1))
        for nth in (1, 2, 3):
            assert sorted(e.event.job for e in seen if e.event.seq == nth) == written


def test_processes_may_create_it_at_the_same_moment(shared_url: str) -> None:
    outputs = in_processes(6, "add_one", shared_url)
    with closing(open_store(shared_url)) as store:
        assert sorted(job.id for job in store.jobs()) == sorted(job for [job] in outputs)


def test_threads_may_create_it_at_the_same_moment(tmp_path: Path) -> None:
    threads = 6
    begin = threading.Barrier(threads, timeout=PATIENCE)

    def create(url: str) -> Job:
        begin.wait()
        with closing(SqlStore(url)) as store:
            return added(store)

    with ThreadPoolExecutor(threads) as pool:
        for attempt in range(10):
            url = f"sqlite:///{tmp_path / str(attempt)}.db"
            jobs = list(pool.map(create, [url] * threads))
            with closing(SqlStore(url)) as store:
                assert {job.id for job in store.jobs()} == {job.id for job in jobs}


def folder_is_missing(path: Path) -> Path:
    return path / "missing" / "taskbus.db"


def it_is_a_folder(path: Path) -> Path:
    return path


def it_is_another_file(path: Path) -> Path:
    file = path / "taskbus.db"
    file.write_bytes(b"this is no database " * 100)
    return file


@pytest.mark.parametrize("place", [folder_is_missing, it_is_a_folder, it_is_another_file])
def test_a_store_that_cannot_be_opened(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    with pytest.raises(StoreUnavailable):
        SqlStore(f"sqlite:///{place(tmp_path)}")


def test_a_store_of_the_first_schema_version_is_brought_up_to_date(
    url: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "taskbus.db")) as db:
        db.executescript((Path(__file__).parent / "schema_1.sql").read_text())
    with closing(SqlStore(url)) as store:
        [waiting, fresh] = store.jobs()
        assert (waiting.state, waiting.failures, waiting.losses) == (State.RETRYING, 2, 1)
        assert (fresh.failures, fresh.cancel) == (0, None)
        assert store.events(fresh.id) != []
        applied(store, start(fresh))
    with closing(SqlStore(url)) as store:
        assert store.counts() == {State.RETRYING: 1, State.RUNNING: 1}


def test_what_ended_under_an_older_schema_version_expires_too(url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "taskbus.db")) as db:
        db.executescript((Path(__file__).parent / "schema_1.sql").read_text())
        db.execute("UPDATE job SET state = 'succeeded', finished = 1000 WHERE state = 'queued'")
        db.execute("UPDATE job SET state = 'failed', finished = 1000 WHERE state = 'retrying'")
        db.commit()
    with closing(SqlStore(url)) as store:
        expires = {job.state: job.expires for job in store.jobs()}
    assert expires == {
        State.SUCCEEDED: 1000 + STANDARD_RETENTION.succeeded,
        State.FAILED: 1000 + STANDARD_RETENTION.dead_letters,
    }


def test_another_schema_version_is_refused(url: str, tmp_path: Path) -> None:
    SqlStore(url).close()
    with closing(sqlite3.connect(tmp_path / "taskbus.db")) as database:
        assert database.execute("SELECT version FROM taskbus_schema").fetchall() == [(VERSION,)]
        database.execute("UPDATE taskbus_schema SET version = 99")
        database.commit()
    with pytest.raises(StoreUnavailable, match="schema version 99"):
        SqlStore(url)


def test_a_write_that_fails_half_way_is_undone(sqlite: SqlStore, tmp_path: Path) -> None:
    job = added(sqlite)
    with closing(sqlite3.connect(tmp_path / "taskbus.db")) as database:
        database.execute("ALTER TABLE event RENAME TO elsewhere")
        with pytest.raises(StoreUnavailable):
            added(sqlite)
        with pytest.raises(StoreUnavailable):
            sqlite.advance([start(job)])
        database.execute("ALTER TABLE elsewhere RENAME TO event")
    assert sqlite.jobs() == [job]
    assert applied(sqlite, start(job)) == sqlite.job(job.id)


def test_a_log_that_cannot_be_synced_is_told(sqlite: SqlStore, tmp_path: Path) -> None:
    added(sqlite)
    (tmp_path / "taskbus.db-wal").unlink()
    with pytest.raises(StoreUnavailable):
        added(sqlite)


def test_close_lets_go_of_the_files(url: str, tmp_path: Path) -> None:
    store = SqlStore(url)
    added(store)
    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(store.position) for _ in range(3)]:
            one.result()
        for found in [pool.submit(store.jobs) for _ in range(3)]:
            found.result()
        assert open_files(tmp_path)
        store.close()
        assert open_files(tmp_path) == []


def open_files(folder: Path) -> list[Path]:
    """Those that this process has open there."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = fd.readlink()
        except FileNotFoundError:
            continue
        if folder in target.parents:
            found.append(target)
    return found
