"""A program at a terminal: what it shows a person, and what that person types."""

import os
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.processes import AS_FROM_A_SHELL, PATIENCE, REPOSITORY

CTRL_C = "\x03"


class Terminal:
    """The program is its session's leader and in its foreground, as a shell would have it."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._screen, line = os.openpty()
        self.shown = ""
        # setsid --ctty makes this the controlling terminal, whose Ctrl-C becomes a signal.
        self.process = subprocess.Popen(
            [*AS_FROM_A_SHELL, "setsid", "--ctty", *command],
            stdin=line,
            stdout=line,
            stderr=line,
            cwd=REPOSITORY,
            env={**environment, "NO_COLOR": "1"},
        )
        os.close(line)

    def read_until(self, text: str) -> None:
        """Wait until this has been shown since the start; AssertionError when it never is."""
        while text not in self.shown:
            ready, _, _ = select.select([self._screen], [], [], PATIENCE)
            assert ready, f"{text!r} was not shown, but:\n{self.shown}"
            try:
                self.shown += os.read(self._screen, 65536).decode().replace("\r\n", "\n")
            except OSError:
                # EIO: nobody has the terminal open any more.
                raise AssertionError(f"it ended without {text!r}:\n{self.shown}") from None

    def type(self, keys: str) -> None:
        """What a keyboard would send."""
        os.write(self._screen, keys.encode())

    def hang_up(self) -> None:
        """Close the window."""
        if self._screen != -1:
            os.close(self._screen)
            self._screen = -1


@contextmanager
def at_terminal(command: list[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command in the project's folder, with this environment and nothing else."""
    terminal = Terminal(command, environment)
    with terminal.process as process:
        try:
            yield terminal
        finally:
            terminal.hang_up()
            process.kill()
