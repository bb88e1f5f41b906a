"""Calls of an HTTP target, as a backend or a child makes them."""

import threading
from collections.abc import Callable
from typing import Any

from taskbus.handler import Handler, build
from taskbus.model.errors import TaskbusError
from taskbus.model.http_target import HttpTarget
from taskbus.model.leash import Leash
from taskbus.model.task import TaskInput
from tests.support.http_server import Answer, Request
from tests.support.processes import PATIENCE

CALL = TaskInput("com.x.y", [1], {"a": "b"})


def handler(url: str, timeout: float | None = PATIENCE, **options: Any) -> Handler:
    """Of a backend; of a child where there is no timeout. However slow the test is, a connection
    does not get too old for it.
    """
    target = HttpTarget(url, **{"keep_alive": PATIENCE} | options)
    return build({"kind": "http", "target": target}, timeout)


def fine(request: Request) -> None:
    """An answer."""
    request.reply(200, b'{"args": [1]}')


def in_turn(*answers: Answer) -> Answer:
    """One after the other."""
    left = iter(answers)

    def answer(request: Request) -> None:
        next(left)(request)

    return answer


def connections(requests: list[Request]) -> int:
    """How many the requests came over."""
    return len({one.client_address for one in requests})


def ended(run: Handler, leash: Leash) -> Callable[[], str]:
    """Begins the call; what it returns waits for its error's URI."""
    errors: list[str] = []

    def attempt() -> None:
        try:
            run(TaskInput("com.x.y", leash=leash))
        except TaskbusError as error:
            errors.append(error.uri)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()

    def error() -> str:
        thread.join(PATIENCE)
        return errors[0]

    return error
