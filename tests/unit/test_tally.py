"""What programs count of themselves, and how long that lasts."""

import math
from pathlib import Path
from typing import Any

import pytest

from taskbus.adapter.tallies import read_tallies, read_tally, tally_saver
from taskbus.core.tally import ATTEMPT, BOUNDS, CALL, Tally, tallied, together


class Saved:
    """A clock, and what was saved by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[Any] = []

    def tally(self, told: Any = None) -> Tally:
        return Tally(lambda: self.now, self.told.append, told)


def test_what_was_counted_is_saved_within_a_second() -> None:
    saved = Saved()
    tally = saved.tally()
    assert tally.wake == math.inf
    tally.attempt("com.x", "failed", 0.02, 3.0)
    saved.now += 0.5
    tally.attempt("com.x", "succeeded", -1.0, 100_000.0)
    tally.tend()
    assert saved.told == []
    saved.now = tally.wake
    tally.tend()
    [told] = saved.told
    [((kind, task), counts)] = tallied({**told, "bounds": list(BOUNDS)}).items()
    assert (kind, task, counts.outcomes) == (ATTEMPT, "com.x", {"failed": 1, "succeeded": 1})
    assert counts.waited.counts[0] == 1, "a clock that steps back is no negative wait"
    assert counts.waited.counts[BOUNDS.index(0.025)] == 1
    assert (counts.waited.total, counts.took.total) == (0.02, 100_003.0)
    assert counts.took.counts[BOUNDS.index(5.0)] == counts.took.counts[-1] == 1
    tally.save()
    assert len(saved.told) == 1, "there is nothing new"


def test_a_bound_belongs_to_its_bucket() -> None:
    tally = Saved().tally()
    tally.call("com.x", "succeeded", BOUNDS[0])
    assert tally._counts[CALL, "com.x"].took.counts[0] == 1


def test_without_anybody_who_saves_there_is_nothing_to_wake_for() -> None:
    tally = Tally(lambda: 0.0)
    tally.call("com.x", "succeeded", 1.0)
    tally.save()
    assert tally.wake == math.inf


def test_counts_go_on_after_a_restart_and_programs_are_added_up(tmp_path: Path) -> None:
    for program in ("worker-00", "worker-01", "worker-00"):
        save = tally_saver(tmp_path, program)
        tally = Tally(lambda: 0.0, save, read_tally(tmp_path, program))
        tally.attempt("com.x", "succeeded", 1.0, 2.0)
        tally.save()
    found = together(map(tallied, read_tallies(tmp_path)))
    counts = found[ATTEMPT, "com.x"]
    assert counts.outcomes == {"succeeded": 3}
    assert (counts.waited.total, counts.took.total, sum(counts.took.counts)) == (3.0, 6.0, 3)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"bounds": [1.0], "counts": [1]}'])
def test_a_file_that_says_nothing_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "worker-00.tally").write_text(text)
    assert tallied(read_tally(tmp_path, "worker-00")) == {}


def test_counts_that_cannot_be_saved_stop_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tally_saver(tmp_path / "missing", "worker-00")({})
    assert "counts were not saved" in caplog.text
