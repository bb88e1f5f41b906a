"""An HTTP answer that tells its progress: ``application/x-ndjson``, one JSON value a line.

Lines of progress are those of ``taskbus.handler.told``; the one line that is none is the answer
(``taskbus.handler.contract``), and the last. Empty lines mean nothing: by writing one, a service
finds out whether its caller is still there. Lean: the forker imports this.
"""

from typing import Any

from taskbus.handler.contract import LARGEST_ANSWER
from taskbus.handler.told import LONGEST_LINE, Told
from taskbus.model.errors import InvalidResult
from taskbus.model.json import load
from taskbus.model.task import TaskInput

MEDIA_TYPE = "application/x-ndjson"


class Streamed:
    """Bytes in; progress out, and the answer in the end."""

    def __init__(self, task: TaskInput) -> None:
        self._told = Told(task)
        self._begun = bytearray()
        self.answer = b""

    def feed(self, data: bytes) -> None:
        """More of what the service sends; raises InvalidResult."""
        *lines, begun = data.split(b"\n")
        for line in lines:
            self._line(bytes(self._begun + line))
            self._begun.clear()
        self._begun += begun
        if len(self._begun) > LARGEST_ANSWER:
            raise InvalidResult(f"the answer is larger than {LARGEST_ANSWER} bytes")

    def end(self) -> None:
        """Nothing more comes; raises InvalidResult."""
        self._line(bytes(self._begun))
        self._told.end()

    def _line(self, line: bytes) -> None:
        if not line.strip():
            return
        if self.answer:
            raise InvalidResult(
                "the answer is followed by another line",
                value=line[:LONGEST_LINE].decode(errors="replace"),
                remedy="tell progress before the answer, which is the last line",
            )
        if len(line) <= LONGEST_LINE and _is_progress(line):
            self._told.feed(line + b"\n")
        else:
            self.answer = line


def _is_progress(line: bytes) -> bool:
    try:
        said: Any = load(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and "progress" in said
