"""What a program tells on its progress descriptor."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbus.handler.told import LONGEST_LINE, MOST_WARNINGS, Told
from taskbus.model.task import TaskInput


class Heard:
    """A task whose progress and warnings are kept."""

    def __init__(self) -> None:
        self.progress: list[tuple[float, str]] = []
        self.warnings: list[str] = []
        self.told = Told(TaskInput("com.x.y", progress=self._progress, warn=self.warnings.append))

    def _progress(self, fraction: float, message: str) -> None:
        self.progress.append((fraction, message))


def heard(*pieces: bytes) -> Heard:
    found = Heard()
    for piece in pieces:
        found.told.feed(piece)
    found.told.end()
    return found


LINES = b'{"progress": 0.25}\n\n{"message": "caf\xc3\xa9", "progress": 1}\r\n{"progress": 0.5}'
SAID = [(0.25, ""), (1.0, "café"), (0.5, "")]


def test_lines() -> None:
    found = heard(LINES)
    assert found.progress == SAID
    assert found.warnings == []


@given(st.lists(st.integers(0, len(LINES)), max_size=6).map(sorted))
def test_lines_may_come_in_pieces(cuts: list[int]) -> None:
    ends = [0, *cuts, len(LINES)]
    found = heard(*(LINES[a:b] for a, b in pairwise(ends)))
    assert found.progress == SAID
    assert found.warnings == []


@pytest.mark.parametrize(("said", "fraction"), [("1.5", 1.0), ("-0.1", 0.0), ("1e-9", 1e-9)])
def test_a_little_beyond_is_the_end(said: str, fraction: float) -> None:
    assert heard(f'{{"progress": {said}}}'.encode()).progress == [(fraction, "")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"40 %", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 5000, "is not JSON"),
        (b'{"progress": 1' + b"0" * 5000 + b"}", "is not"),
        (b"0.5", "is not an object of progress and message"),
        (b"{}", "is not an object of progress and message"),
        (b'{"message": "x"}', "is not an object of progress and message"),
        (b'{"progress": 1, "percent": 3}', "is not an object of progress and message"),
        (b'{"progress": "1"}', "has a progress that is not a number from 0 to 1"),
        (b'{"progress": true}', "has a progress that is not a number from 0 to 1"),
        (b'{"progress": null}', "has a progress that is not a number from 0 to 1"),
        (b'{"progress": NaN}', "has a progress that is not a number from 0 to 1"),
        (b'{"progress": Infinity}', "has a progress that is not a number from 0 to 1"),
        (b'{"progress": 40}', "has a progress that is not a number from 0 to 1"),
        (b'{"progress": 1' + b"0" * 400 + b"}", "has a progress that is not a number"),
        (b'{"progress": 1, "message": 3}', "has a message that is not a text"),
        (b'{"progress": 1, "message": "' + b"x" * LONGEST_LINE + b'"}', "is longer than 8192 by"),
    ],
)  # fmt: skip
def test_other_lines_are_warnings(line: bytes, problem: str) -> None:
    found = heard(line + b'\n{"progress": 0.5}\n')
    assert found.progress == [(0.5, "")]
    [warning] = found.warnings
    assert f"it {problem}" in warning
    assert warning.endswith(line[:200].decode(errors="replace"))


def test_a_long_line_in_pieces_is_one_warning_and_little_memory() -> None:
    found = Heard()
    for _ in range(100):
        found.told.feed(b"x" * LONGEST_LINE)
        assert len(found.told._begun) <= LONGEST_LINE
    found.told.feed(b'\n{"progress": 0.5}\n')
    found.told.end()
    assert len(found.warnings) == 1
    assert found.progress == [(0.5, "")]


def test_many_wrong_lines_are_counted() -> None:
    found = heard(b"nonsense\n" * (MOST_WARNINGS + 3))
    assert len(found.warnings) == MOST_WARNINGS + 1
    assert found.warnings[-1] == "3 more lines told no progress"


@given(st.lists(st.binary(max_size=40)))
def test_nothing_that_it_writes_is_a_failure(pieces: list[Any]) -> None:
    heard(*pieces)
