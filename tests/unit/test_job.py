"""Jobs, their states and their changes."""

import itertools
import json

import pytest

from taskbus.model.job import FINAL, REPLAYABLE, TRANSITIONS, Change, Event, State, born, move, note
from tests.support.values import a_job

ALLOWED = {
    ("scheduled", "queued"),
    ("waiting", "queued"),
    ("waiting", "scheduled"),
    ("waiting", "cancelled"),
    ("queued", "running"),
    ("queued", "waiting"),
    ("running", "queued"),
    ("running", "retrying"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("retrying", "queued"),
    ("running", "dead"),
    ("scheduled", "cancelled"),
    ("queued", "cancelled"),
    ("running", "cancelled"),
    ("retrying", "cancelled"),
    ("failed", "queued"),
    ("dead", "queued"),
    ("cancelled", "queued"),
}


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {(one, other) for one in TRANSITIONS for other in TRANSITIONS[one]} == ALLOWED
    assert {State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED} == FINAL
    assert {State.FAILED, State.DEAD, State.CANCELLED} == REPLAYABLE


def test_every_state_can_be_reached_and_left_for_good() -> None:
    def reachable(start: State) -> set[State]:
        found, todo = set[State](), [start]
        while todo:
            state = todo.pop()
            if state not in found:
                found.add(state)
                todo += TRANSITIONS[state]
        return found

    assert reachable(State.SCHEDULED) == set(State)
    for state in set(State) - FINAL:
        assert reachable(state) >= FINAL


@pytest.mark.parametrize(("one", "other"), list(itertools.product(State, State)))
def test_move_goes_where_the_table_allows(one: State, other: State) -> None:
    job = a_job(state=one, seq=5, attempt=2)
    if (one, other) not in ALLOWED:
        with pytest.raises(ValueError, match=f"from {one} to {other}"):
            move(job, other, 2000.0, reason="why", actor="who")
        return
    change = move(job, other, 2000.0, reason="why", actor="who", data={"more": 1}, due=3.0)
    assert change.before is job
    assert change.after == job._replace(state=other, seq=6, due=3.0)
    [event] = change.events
    assert event[:4] == (job.id, 6, 2000.0, other)
    assert json.loads(event.data) == {"reason": "why", "actor": "who", "attempt": 2, "more": 1}
    assert change.result is None


def test_note_adds_events_and_leaves_the_rest() -> None:
    job = a_job(state=State.RUNNING, seq=3)
    change = note(job, 2000.0, [("output", {"text": "é"}), ("progress", {"fraction": 0.5})])
    assert change == Change(
        job,
        job._replace(seq=5),
        (
            Event(job.id, 4, 2000.0, "output", '{"text":"\\u00e9"}'),
            Event(job.id, 5, 2000.0, "progress", '{"fraction":0.5}'),
        ),
    )


def test_the_first_event() -> None:
    job = a_job(state=State.SCHEDULED)
    event = born(job, "submitted", "ann")
    assert event[:4] == (job.id, 1, job.created, "scheduled")
    assert json.loads(event.data) == {"reason": "submitted", "actor": "ann"}


def test_a_placement_is_more_urgent_with_a_higher_priority() -> None:
    assert [a_job(priority=priority).placement.urgency for priority in (0, 500, 1000)] == [
        1000,
        500,
        0,
    ]
