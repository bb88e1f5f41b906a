"""What every store has to do for limits; see ``taskbus.port.limits`` and ``Store.advance``."""

import sqlite3
from contextlib import ExitStack, closing
from typing import Any

import pytest
from sqlalchemy import Engine, event

from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_limits import SqlLimits
from taskbus.core.cancel import cancelled
from taskbus.model.job import Change, Job, Place, State, move, note
from taskbus.port.limits import Limits
from taskbus.port.store import Store
from taskbus.wire import open_sides
from tests.support.processes import line, python, say
from tests.support.values import a_job, add, added, applied, failed, start, succeeded

LANE = "com.example.dante.sleeper"


def begin(job: Job, *nths: int, lane: str = LANE, at: float = 1001.0) -> Change:
    """The change that begins an attempt with these places in the lane."""
    change = start(job, at)
    places = tuple(Place(lane, nth, job.id, None) for nth in nths)
    return change._replace(after=change.after._replace(lane=lane), places=places)


def begin_rated(job: Job, nth: int, at: float, until: float) -> Change:
    """Likewise for a lane whose places are taken until a time."""
    return start(job, at)._replace(places=(Place(LANE, nth, job.id, until),))


def wait(job: Job, lane: str = LANE) -> Change:
    return move(job, State.WAITING, 1001.0, reason="no place", actor="me", lane=lane)


def waiting(store: Store, lane: str = LANE, **fields: int) -> Job:
    return applied(store, wait(added(store, **fields), lane))


def holders(limits: Limits, lane: str = LANE) -> dict[int, str]:
    return {place.nth: place.job for place in limits.places(lane)}


# Places


def test_a_place_is_taken_once(store: Store, limits: Limits) -> None:
    one, other = added(store), added(store)
    applied(store, begin(one, 0))
    assert store.advance([begin(other, 0)]) == [False]
    assert store.job(other.id) == other
    assert [one.kind for one in store.events(other.id)] == ["queued"]
    assert limits.places(LANE) == [Place(LANE, 0, one.id, None)]
    applied(store, begin(other, 1))
    assert holders(limits) == {0: one.id, 1: other.id}


def test_a_refused_place_spoils_nothing_else_in_the_commit(store: Store, limits: Limits) -> None:
    one, other, third, plain = (added(store) for _ in range(4))
    changes = [begin(one, 0), begin(other, 0), start(plain), begin(third, 1)]
    assert store.advance(changes) == [True, False, True, True]
    assert holders(limits) == {0: one.id, 1: third.id}
    assert store.counts() == {State.RUNNING: 3, State.QUEUED: 1}
    assert [entry.event.job for entry in store.journal(4, 10)] == [one.id, plain.id, third.id]


def test_all_places_are_taken_or_none(store: Store, limits: Limits) -> None:
    one, other = added(store), added(store)
    applied(store, begin(one, 1))
    assert store.advance([begin(other, 0, 1)]) == [False]
    assert holders(limits) == {1: one.id}


def test_a_job_that_has_changed_takes_no_place(store: Store, limits: Limits) -> None:
    job = added(store)
    applied(store, cancelled(job, "ann", 1001.0))
    assert store.advance([begin(job, 0)]) == [False]
    assert limits.places(LANE) == []


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.RETRYING, State.FAILED, State.CANCELLED])
def test_a_place_is_free_once_the_attempt_has_ended(
    store: Store, limits: Limits, end: State
) -> None:
    job = applied(store, begin(added(store, retries=int(end is State.RETRYING)), 0))
    job = applied(store, note(job, 1001.5, [("output", {"text": "a"})]))
    assert store.renew(job, 2000.0)
    assert holders(limits) == {0: job.id}
    how = {
        State.SUCCEEDED: succeeded(job),
        State.CANCELLED: cancelled(job, "ann", 1002.0),
    }.get(end, failed(job))
    ended = applied(store, how)
    assert (ended.state, ended.lane) == (end, None)
    assert store.job(job.id) == ended
    assert limits.places(LANE) == []


def test_an_outcome_that_is_dropped_gives_nothing_back(store: Store, limits: Limits) -> None:
    lost = applied(store, begin(added(store), 0))
    queued = move(lost, State.QUEUED, 1002.0, reason="worker lost", actor="other")
    assert store.advance([queued, begin(queued.after, 0)]) == [True, True]
    assert store.advance([succeeded(lost)]) == [False]
    assert holders(limits) == {0: lost.id}


def test_a_retry_that_is_refused_to_who_was_asked_to_end_gives_nothing_back(
    store: Store, limits: Limits
) -> None:
    running = applied(store, begin(added(store, retries=1), 0))
    store.ask_to_end(running, "ann")
    assert store.advance([failed(running)]) == [False]
    assert holders(limits) == {0: running.id}


def test_a_place_until_a_time_outlives_the_attempt(store: Store, limits: Limits) -> None:
    one, other = added(store), added(store)
    applied(store, succeeded(applied(store, begin_rated(one, 0, at=1001.0, until=1061.0))))
    assert limits.places(LANE) == [Place(LANE, 0, one.id, 1061.0)]
    assert store.advance([begin_rated(other, 0, at=1060.9, until=1120.9)]) == [False]
    applied(store, begin_rated(other, 0, at=1061.0, until=1121.0))
    assert limits.places(LANE) == [Place(LANE, 0, other.id, 1121.0)]


def test_of_both_kinds_only_one_is_given_back(store: Store, limits: Limits) -> None:
    change = begin(added(store), 0)
    rated = Place(f"rate {LANE}", 0, change.before.id, 1061.0)
    job = applied(store, change._replace(places=(*change.places, rated)))
    applied(store, succeeded(job))
    assert limits.places(LANE) == []
    assert limits.places(rated.lane) == [rated]


def test_only_places_whose_time_is_over_are_forgotten(store: Store, limits: Limits) -> None:
    jobs = [added(store) for _ in range(3)]
    for nth, job in enumerate(jobs[:2]):
        applied(store, begin_rated(job, nth, at=1001.0, until=1010.0 + nth))
    applied(store, begin(jobs[2], 2))
    assert limits.forget(1010.0) == 1
    assert holders(limits) == {1: jobs[1].id, 2: jobs[2].id}
    assert limits.forget(1e12) == 1
    assert holders(limits) == {2: jobs[2].id}


@pytest.mark.parametrize("other", ["Ann", "ann ", "a\u0308nn", "\u00e4nn", "ann#", "n" * 299])
def test_every_name_is_a_lane_of_its_own(store: Store, limits: Limits, other: str) -> None:
    one, two = added(store), added(store)
    lanes = [f"rate {LANE}#{key}" for key in ("ann", other)]
    applied(store, begin(one, 0, lane=lanes[0]))
    applied(store, begin(two, 0, lane=lanes[1]))
    assert [holders(limits, lane) for lane in lanes] == [{0: one.id}, {0: two.id}]
    for lane in lanes:
        waiting(store, lane)
    assert sorted(limits.crowded()) == sorted(lanes)


# Who waits


def test_those_who_wait_come_in_order(store: Store, limits: Limits) -> None:
    jobs = [waiting(store, priority=priority) for priority in (500, 250, 500, 750)]
    expected = [jobs[3], jobs[0], jobs[2], jobs[1]]
    assert limits.first(LANE, 9) == expected
    assert limits.first(LANE, 2) == expected[:2]
    assert limits.first("com.example.other", 9) == []


def test_whoever_does_not_wait_is_not_first(store: Store, limits: Limits) -> None:
    add(store, a_job(state=State.WAITING))  # For other jobs.
    applied(store, begin(added(store), 0))
    applied(store, cancelled(waiting(store), "ann", 1002.0))
    coming = waiting(store)
    assert limits.coming(LANE) == 0
    applied(store, move(coming, State.QUEUED, 1002.0, reason="room", actor="me", lane=LANE))
    assert limits.first(LANE, 9) == []
    assert limits.crowded() == []
    assert limits.coming(LANE) == 1
    assert limits.coming("com.example.other") == 0


def test_crowded_lanes_are_named_once(store: Store, limits: Limits) -> None:
    lanes = ["b"] * 300 + [f"c{nth}" for nth in range(300)]
    jobs = [a_job() for _ in lanes]
    add(store, *jobs)
    assert all(store.advance(list(map(wait, jobs, lanes))))
    applied(store, begin(added(store), 0, lane="d"))
    assert sorted(limits.crowded()) == sorted(set(lanes))


def test_a_waiting_job_is_cancelled_and_leaves_its_lane(store: Store, limits: Limits) -> None:
    job = applied(store, cancelled(waiting(store), "ann", 1002.0))
    assert (job.state, job.lane) == (State.CANCELLED, None)
    assert store.job(job.id) == job
    assert limits.crowded() == []


def test_who_goes_on_is_remembered_until_the_queue_has_it(store: Store, limits: Limits) -> None:
    """Whoever let it go on may die before."""
    job = waiting(store)
    store.placed([job.placement])
    applied(store, move(job, State.QUEUED, 1002.0, reason="room", actor="me", lane=LANE))
    assert [one.job for one in store.unplaced(1e12, 9)] == [job.id]


# SQL


def test_a_lane_is_found_by_its_index(url: str) -> None:
    """However many jobs wait, there and elsewhere."""
    asked: list[tuple[str, Any]] = []

    def note(_db: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    with closing(SqlStore(url)) as store:
        limits = SqlLimits(store)
        event.listen(Engine, "before_cursor_execute", note)
        try:
            limits.coming(LANE)
            limits.first(LANE, 10)
            limits.crowded()
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        steps = [
            step[3]
            for statement, values in asked
            for step in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert sum("job_lane (lane" in step for step in steps) == 3
    assert not [step for step in steps if "job_state" in step or "TEMP B-TREE" in step]


# Several processes


def test_eight_processes_share_a_lane_of_three(shared_url: str) -> None:
    sides = open_sides(shared_url)
    with closing(sides.store) as store:
        jobs = [added(store) for _ in range(40)]
        with ExitStack() as stack:
            deed = ("-m", "tests.support.store_user", "share_lane", shared_url, LANE, 3)
            users = [stack.enter_context(python(*deed, job.id)) for job in jobs[:8]]
            assert {line(user) for user in users} == {"ready"}
            for user in users:
                say(user, "now")
            assert sorted(line(user) for user in users) == ["running"] * 3 + ["waiting"] * 5
            for user in users:
                say(user, "go on")
            for user in users:
                assert user.wait() == 0
        assert sides.limits.places(LANE) == []
        assert store.counts() == {State.SUCCEEDED: 40}
        at_a_time = [0]
        for _, one in store.journal(0, 10_000):
            step = {"running": 1, "succeeded": -1}.get(one.kind, 0)
            at_a_time.append(at_a_time[-1] + step)
        assert max(at_a_time) == 3
