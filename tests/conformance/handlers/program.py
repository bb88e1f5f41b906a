"""The conformance suite's handler as a program: JSON on stdin, JSON on stdout, progress on 3.

It knows nothing of the bus but its contract: ``README.md`` of the project, "The API map".
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]
CALL = json.load(sys.stdin)
NESTED = "[" * 101 + "]" * 101
ODD = {
    "nan": "NaN",
    "nul": '"\\u0000nul"',
    "half": '"half a \\ud800"',
    "deep": NESTED,
    "large": f'"{"x" * 17_000_000}"',
}


def progress(fraction: float, message: str = "") -> None:
    os.write(3, json.dumps({"progress": fraction, "message": message}).encode() + b"\n")


def give(*args: Any, **kwargs: Any) -> Answer:
    return {"args": args, "kwargs": kwargs}


def told(*_: Any) -> Answer:
    return {"args": [CALL["uri"], CALL["details"]["caller_authid"]]}


def fail(uri: str | None, text: str, **about: Any) -> Answer:
    return {"error": uri or "taskbus.error.task_failed", "args": [text], "kwargs": about}


def crash(message: str) -> Answer:
    raise ZeroDivisionError(message)


def leave() -> Answer:
    sys.exit(7)


def odd(kind: str) -> Answer:
    if kind == "taken":
        return {"kwargs": {"callee": 1}}
    print(f'{{"args": [{ODD[kind]}]}}')
    sys.exit()


def steps(pipe: str, *messages: str) -> Answer:
    with open(pipe, "rb", buffering=0) as go_on:
        for number, message in enumerate(messages, 1):
            progress(number / len(messages), message)
            go_on.read(1)
    return {"args": [len(messages)]}


def hang(pipe: str) -> Answer:
    with open(pipe, "wb", buffering=0) as alive:
        while alive.write(b"."):
            progress(0.5)
            time.sleep(0.01)
    return {}


if __name__ == "__main__":
    procedures: tuple[Callable[..., Answer], ...] = (
        give, told, fail, crash, leave, odd, steps, hang,
    )  # fmt: skip
    named = {one.__name__: one for one in procedures}
    named["late"] = hang
    call = named[CALL["uri"].rpartition(".")[2]]
    json.dump(call(*CALL["args"], **CALL["kwargs"]), sys.stdout)
