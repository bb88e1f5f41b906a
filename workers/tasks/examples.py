"""Plain functions as tasks: progress, output, failure, a large result."""

import sys
import time

from taskbus import TaskFailure, TaskInput


def countdown(steps: int = 10, pause: float = 0.1, *, task: TaskInput) -> int:
    """Tell the progress after each step; a keyword-only ``task`` gives access to it."""
    for step in range(1, steps + 1):
        time.sleep(pause)
        task.progress(step / steps, f"{steps - step} to go")
    return steps


def chatty(lines: int = 3) -> int:
    """What a task prints is its log."""
    for number in range(1, lines + 1):
        print(f"line {number}")
    print("done", file=sys.stderr)
    return lines


def fail(message: str = "as asked") -> None:
    """An error with a URI of the task's own; any other exception is a failure too."""
    raise TaskFailure(message, error_uri="com.example.dante.error.asked", by="fail")


def large(size: int = 1_000_000) -> str:
    """A result of that many characters."""
    return "x" * size


def add(left: float, right: float) -> float:
    """The sum."""
    return left + right
