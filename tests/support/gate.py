"""Jobs that wait until the test lets them pass: so they are in hand for as long as it likes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GATED = "com.example.dante.gated"


class Gate:
    """A pipe with a name, from which each job reads a line before it ends."""

    def __init__(self, folder: Path) -> None:
        """``folder``: for the pipe."""
        pipe = folder / "gate"
        os.mkfifo(pipe)
        # For reading, too: so neither side has to wait until the other one opens it.
        self._fd = os.open(pipe, os.O_RDWR)
        self._reached = folder / "gate-reached"
        script = f"cat >/dev/null; touch {self._reached}; read line <{pipe}; echo '{{}}'"
        self.entry = f"""
[api."{GATED}"]
exec = ["sh", "-c", "{script}"]
mode = "background"
"""

    def is_reached(self) -> bool:
        """A job has come so far, now or earlier."""
        return self._reached.exists()

    def let_one_pass(self) -> None:
        """Now, or when it comes."""
        os.write(self._fd, b"pass\n")

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._fd)


@contextmanager
def a_gate(folder: Path) -> Iterator[Gate]:
    """A gate whose ``entry`` is for the API map."""
    gate = Gate(folder)
    try:
        yield gate
    finally:
        gate.close()
