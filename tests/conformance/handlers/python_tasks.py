"""The conformance suite's handler in Python: see ``tests/conformance/suite.py``."""

import os
import sys
import time
from typing import Any

from taskbus import TaskFailure, TaskInput, TaskResult


def give(*args: Any, **kwargs: Any) -> TaskResult:
    return TaskResult(*args, **kwargs)


def told(*_: Any, task: TaskInput) -> TaskResult:
    return TaskResult(task.uri, task.details["caller_authid"])


def fail(uri: str | None, text: str, **about: Any) -> None:
    failure = TaskFailure(text, error_uri=uri)
    failure.about = about
    raise failure


def crash(message: str) -> None:
    raise ZeroDivisionError(message)


def leave() -> None:
    sys.exit("bye")


def odd(kind: str) -> Any:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    return {
        "nan": float("nan"),
        "nul": "\0nul",
        "half": "half a \ud800",
        "deep": deep,
        "taken": TaskResult(callee=1),
        "large": "x" * 17_000_000,
    }[kind]


def steps(pipe: str, *messages: str, task: TaskInput) -> int:
    with open(pipe, "rb", buffering=0) as go_on:
        for number, message in enumerate(messages, 1):
            task.progress(number / len(messages), message)
            go_on.read(1)
    return len(messages)


def hang(pipe: str, *, task: TaskInput) -> None:
    alive = os.open(pipe, os.O_WRONLY)
    try:
        while os.write(alive, b"."):
            task.progress(0.5)
            time.sleep(0.01)
    finally:
        os.close(alive)


late = hang
