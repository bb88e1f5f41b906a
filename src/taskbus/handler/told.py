"""What a program tells on its progress descriptor: one JSON object a line.

``{"progress": 0.4, "message": "resizing"}``; ``message`` may be missing. A line that is none of
these is a warning, never a failure. Lean: the forker imports this.
"""

from typing import Any

from taskbus.model.json import load
from taskbus.model.task import TaskInput

LONGEST_LINE = 8192
MOST_WARNINGS = 10
_SHOWN = 200
# A little beyond 1 is 1, as for ``TaskInput.progress``.
_LARGEST = 2.0


class Told:
    """Bytes in, the task's progress and warnings out."""

    def __init__(self, task: TaskInput) -> None:
        self._task = task
        self._begun = b""
        self._is_skipping = False
        self._wrong = 0

    def feed(self, data: bytes) -> None:
        """More of what the program writes."""
        *lines, begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(begun) > LONGEST_LINE:
            self._line(begun)
            self._is_skipping = True
            begun = b""
        self._begun = begun

    def end(self) -> None:
        """Nothing more comes."""
        self._line(self._begun)
        self._begun = b""
        if self._wrong > MOST_WARNINGS:
            self._task.warn(f"{self._wrong - MOST_WARNINGS} more lines told no progress")

    def _line(self, line: bytes) -> None:
        if self._is_skipping:
            self._is_skipping = False
        elif line.strip() and (problem := self._tell(line)):
            self._warn(problem, line)

    def _tell(self, line: bytes) -> str:
        """What is wrong with it; nothing where it has been told."""
        if len(line) > LONGEST_LINE:
            return f"is longer than {LONGEST_LINE} bytes"
        try:
            said: Any = load(line)
        except (ValueError, RecursionError):
            return "is not JSON"
        if not isinstance(said, dict) or not {"progress"} <= said.keys() <= {"progress", "message"}:
            return "is not an object of progress and message"
        fraction, message = said["progress"], said.get("message", "")
        if not _is_number(fraction):
            return "has a progress that is not a number from 0 to 1"
        if not isinstance(message, str):
            return "has a message that is not a text"
        self._task.progress(fraction, message)
        return ""

    def _warn(self, problem: str, line: bytes) -> None:
        self._wrong += 1
        if self._wrong <= MOST_WARNINGS:
            shown = line[:_SHOWN].decode(errors="replace")
            self._task.warn(f"a line that tells no progress, it {problem}: {shown}")


def _is_number(value: Any) -> bool:
    # Neither a NaN nor what is no float at all is below.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
