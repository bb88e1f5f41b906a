"""Links, on every store: which job waits for the end of which."""

import sqlite3
import threading
from contextlib import closing
from typing import Any

import sqlalchemy as sa

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.sql import SqlStore
from taskbus.core.cancel import cancelled
from taskbus.core.replay import replay
from taskbus.model.identity import new_job_id
from taskbus.model.job import Job, Link, State, move
from taskbus.port.links import Links
from taskbus.port.store import Store, existing
from taskbus.wire import open_store
from tests.support.links import links_of, waiting_for
from tests.support.store_user import in_processes
from tests.support.values import a_job, add, added, applied, failed, running, start, succeeded

EVERY = ("success", "failure", "end")


def ended(store: Store, job: Job, at: float = 1002.0) -> Job:
    return applied(store, succeeded(applied(store, start(job)), at=at))


def ids(jobs: list[Job]) -> list[str]:
    return sorted(job.id for job in jobs)


def test_jobs_are_stored_with_their_links(store: Store, links: Links) -> None:
    first, second, alone = a_job(tied=1), a_job(tied=1), a_job()
    add(store, first, second, alone)
    one = waiting_for(store, [first, second], "success")
    other = waiting_for(store, [second], "failure")
    assert set(links.of([first.id])) == {Link(first.id, one.id, "success")}
    assert set(links.of([first.id, second.id, alone.id, new_job_id()])) == {
        Link(first.id, one.id, "success"),
        Link(second.id, one.id, "success"),
        Link(second.id, other.id, "failure"),
    }
    assert links.of([]) == []


def test_who_waits_is_free_once_all_its_links_are_met(store: Store, links: Links) -> None:
    first, second = added(store, tied=1), added(store, tied=1)
    both, one = waiting_for(store, [first, second]), waiting_for(store, [first])
    assert links.free([first.id, second.id]) == []
    links.meet([first.id], EVERY)
    assert links.free([first.id, second.id]) == [one]
    assert links.free([second.id]) == []
    links.meet([first.id, second.id], EVERY)
    assert ids(links.free([first.id])) == ids([both, one])
    assert links.free([second.id]) == [both]
    assert len(links.of([first.id, second.id])) == 3


def test_links_are_met_by_their_conditions_only(store: Store, links: Links) -> None:
    first = added(store, tied=1)
    waiting = {on: waiting_for(store, [first], on) for on in EVERY}
    links.meet([first.id], ["failure"])
    assert links.free([first.id]) == [waiting["failure"]]
    links.meet([first.id], ["success", "end"])
    assert ids(links.free([first.id])) == ids(list(waiting.values()))
    links.meet([], EVERY)
    links.meet([first.id], [])


def test_only_what_waits_for_other_jobs_is_waiting(store: Store, links: Links) -> None:
    first = added(store, tied=1)
    waiting, over = waiting_for(store, [first]), waiting_for(store, [first])
    for_its_turn = waiting_for(store, [first], lane="a limit")
    applied(store, cancelled(over, "ann", 1001.0))
    asked = [first.id, waiting.id, over.id, for_its_turn.id, new_job_id()]
    assert links.waiting(asked) == [waiting]
    assert links.waiting([]) == []
    links.meet([first.id], EVERY)
    assert links.free([first.id]) == [waiting]


def test_what_has_ended_stays_tied_until_it_is_untied(store: Store, links: Links) -> None:
    late, early, going_on = (added(store, tied=1) for _ in range(3))
    ended(store, added(store))
    late, early = ended(store, late, 1008.0), ended(store, early, 1004.0)
    assert links.tied(2000.0, 9) == [early, late]
    assert links.tied(2000.0, 1) == [early]
    assert links.tied(1008.0, 9) == [early]
    links.untie([early.id, going_on.id, new_job_id()])
    assert links.tied(2000.0, 9) == [late]
    assert store.job(early.id) == early._replace(tied=0)
    assert store.job(going_on.id) == going_on
    links.untie([])


def test_what_is_replayed_has_not_ended(store: Store, links: Links) -> None:
    job = applied(store, failed(running(store, tied=1)))
    again = applied(store, replay(job, "ann", 1010.0))
    assert links.tied(2000.0, 9) == []
    links.untie([again.id])
    assert existing(store, again.id).tied == 1


def test_how_jobs_stand(store: Store, links: Links) -> None:
    good, bad = ended(store, added(store)), applied(store, failed(running(store)))
    waits = added(store)
    told = {one.job: one for one in links.outcomes([good.id, bad.id, waits.id, new_job_id()], 999)}
    assert told.keys() == {good.id, bad.id, waits.id}
    body = '{"args":[1],"kwargs":{}}'
    assert told[good.id] == (good.id, good.uri, State.SUCCEEDED, body, len(body))
    assert told[waits.id] == (waits.id, waits.uri, State.QUEUED, None, 0)
    assert bad.error is not None
    assert told[bad.id] == (bad.id, bad.uri, State.FAILED, bad.error, len(bad.error))
    assert links.outcomes([], 999) == []


def test_what_is_too_large_is_not_read(store: Store, links: Links) -> None:
    job = applied(store, succeeded(running(store), '"four"'))
    assert [one.body for one in links.outcomes([job.id], 6)] == ['"four"']
    assert links.outcomes([job.id], 5) == [(job.id, job.uri, State.SUCCEEDED, None, 6)]
    size = 2**21 + 5
    job = applied(store, succeeded(running(store), f'"{"x" * (size - 2)}"'))
    assert links.outcomes([job.id], 2**20) == [(job.id, job.uri, State.SUCCEEDED, None, size)]


def test_what_others_look_back_on_is_not_removed(store: Store, links: Links) -> None:
    first, second = (ended(store, added(store, tied=1)) for _ in range(2))
    last = waiting_for(store, [first, second])
    links.meet([first.id, second.id], EVERY)
    links.untie([first.id, second.id])
    assert store.remove([first.id, second.id]) == []
    last = applied(store, move(last, State.QUEUED, 1005.0, reason="free", actor="test"))
    last = applied(store, start(last))
    assert store.remove([first.id, second.id]) == []
    applied(store, succeeded(last))
    assert store.remove([first.id]) == [first.id]
    assert links.of([first.id, second.id]) == [Link(second.id, last.id, "end")]
    assert sorted(store.remove([second.id, last.id])) == sorted([second.id, last.id])
    assert links.of([first.id, second.id]) == []


def test_who_ends_the_last_jobs_at_the_same_moment_sees_the_other(store: Store) -> None:
    """Of those who look after they have met their link, one at least sees that none is left."""
    befores = [added(store, tied=1) for _ in range(8)]
    last = waiting_for(store, befores)
    begin = threading.Barrier(len(befores))
    seen: list[str] = []

    def end(job: Job) -> None:
        own = links_of(store)
        begin.wait()
        own.meet([job.id], EVERY)
        seen.extend(one.id for one in own.free([job.id]))

    threads = [threading.Thread(target=end, args=(job,)) for job in befores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {last.id}


def test_processes_that_end_many_jobs_let_each_that_waits_go_on_once(shared_url: str) -> None:
    with closing(open_store(shared_url)) as store:
        groups = [[added(store, tied=1) for _ in range(9)] for _ in range(12)]
        last = [waiting_for(store, group) for group in groups]
        outputs = in_processes(6, "end_all", shared_url)
        freed = [job for output in outputs for job in output]
        assert sorted(freed) == sorted(job.id for job in last)
        assert links_of(store).tied(1e12, 999) == []
        for job in last:
            kinds = [event.kind for event in store.events(job.id)]
            assert kinds[:2] == ["waiting", "queued"]
            assert kinds.count("queued") == 1


def test_links_need_no_look_at_all_jobs(url: str) -> None:
    """Each question is answered through an index, whatever else is stored."""
    asked: list[tuple[str, Any]] = []
    with closing(SqlStore(url)) as store:
        job = added(store, tied=1)
        waiting_for(store, [job])

        @sa.event.listens_for(store._engine, "before_cursor_execute")
        def _(_db: object, _cursor: object, sql: str, values: Any, *_: object) -> None:
            if sql not in ("BEGIN IMMEDIATE", "COMMIT"):
                asked.append((sql, values))

        links = links_of(store)
        links.meet([job.id], EVERY)
        assert len(links.of([job.id])) == len(links.free([job.id])) == 1
        links.tied(1.0, 9)
        links.untie([job.id])
        links.outcomes([job.id], 9)
        assert len(asked) == 7
        with sqlite3.connect(store._engine.url.database or "") as db:
            for sql, values in asked:
                plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
                assert any(step.startswith("SEARCH") for step in plan), sql
                assert not any(step.startswith("SCAN") for step in plan), (sql, plan)
        db.close()


def test_a_memory_store_has_links_of_its_own() -> None:
    store = MemoryStore()
    first = added(store, tied=1)
    waiting_for(store, [first])
    assert len(links_of(store).of([first.id])) == 1
    assert links_of(MemoryStore()).of([first.id]) == []
