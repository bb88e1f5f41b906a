"""Programs that a test starts, talks to line by line, and that never outlive it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# How long a test waits for what has to happen anyway: a guard against hanging, not a measure.
PATIENCE = 60.0

# Who runs the tests in the background may have these ignored, and every program inherits that.
AS_FROM_A_SHELL = ("env", "--default-signal=INT,QUIT,HUP")


@contextmanager
def python(
    *arguments: object, stdin: int | None = subprocess.PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """``python arguments``, with pipes, able to import ``taskbus`` and ``tests``."""
    path = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    """The next line that it writes, without its end; empty when it wrote no more."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def say(process: "subprocess.Popen[str]", text: str) -> None:
    """A line for its stdin."""
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()
