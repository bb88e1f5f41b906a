"""A reactor for tests, whose clock stands still."""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.internet.task import Clock

from tests.support.processes import PATIENCE


class Reactor(Clock):
    """Twisted's clock for tests, and what it lacks of a reactor with threads."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.shut_down: Callable[[], None] = lambda: None

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        call()

    def addSystemEventTrigger(self, _phase: str, _event: str, call: Callable[[], None]) -> None:
        self.shut_down = call

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:
        self._calls.put(lambda: call(*args))

    def step(self) -> None:
        """Do what the next thread asks for."""
        self._calls.get(timeout=PATIENCE)()
