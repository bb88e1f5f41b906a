"""Submissions that arrive together share a commit."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, cast

import pytest

from taskbus.core.intake import Intake
from taskbus.edge.batch import Batch
from taskbus.model.errors import IdempotencyMismatch, StoreUnavailable
from taskbus.model.job import Submission
from tests.support.processes import PATIENCE
from tests.support.reactor import Reactor


class Bus:
    """A batch, and an intake whose commits end when the test says so."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.begun: SimpleQueue[list[str]] = SimpleQueue()
        self._ends: SimpleQueue[tuple[float, Exception | None]] = SimpleQueue()
        self.flushes: SimpleQueue[None] = SimpleQueue()
        self.batch = Batch(self.reactor, cast("Intake", self))
        self.answers: dict[str, object] = {}

    def accept(self, calls: list[list[Any]]) -> list[Any]:
        """As the intake."""
        self.begun.put([name for call in calls for name in call])
        seconds, error = self._ends.get(timeout=PATIENCE)
        self.reactor.rightNow += seconds
        if error is not None:
            raise error
        return [IdempotencyMismatch("k", "j") if "bad" in call else call for call in calls]

    def flush(self) -> None:
        """As the intake."""
        self.flushes.put(None)
        raise StoreUnavailable("down")

    def submit(self, *names: str) -> None:
        """These as one call."""

        def answered(answer: object) -> None:
            self.answers |= dict.fromkeys(names, answer)

        self.batch.accept(cast("list[Submission]", list(names))).addBoth(answered)

    def begin(self) -> list[str]:
        """Let the reactor begin the next commit; what is in it."""
        self.reactor.advance(0)
        return self.begun.get(timeout=PATIENCE)

    def end(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        """Let the commit under way end after that time."""
        self._ends.put((seconds, error))
        self.reactor.step()


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    yield made
    made.reactor.shut_down()


def test_what_arrived_together_is_one_commit(bus: Bus) -> None:
    bus.submit("a")
    bus.submit("b", "c")
    assert bus.begin() == ["a", "b", "c"]
    assert bus.answers == {}
    bus.end()
    assert bus.answers == {"a": ["a"], "b": ["b", "c"], "c": ["b", "c"]}


def test_what_arrives_during_a_commit_is_the_next_one(bus: Bus) -> None:
    bus.submit("a")
    assert bus.begin() == ["a"]
    bus.submit("b")
    bus.submit("c")
    bus.end()
    assert bus.begin() == ["b", "c"]
    assert bus.answers == {"a": ["a"]}
    bus.end()
    bus.submit("d")
    assert bus.begin() == ["d"]
    bus.end()
    assert list(bus.answers) == ["a", "b", "c", "d"]


def test_a_failed_commit_fails_its_own_calls_only(bus: Bus) -> None:
    bus.submit("a")
    bus.begin()
    bus.submit("b")
    bus.end(error=StoreUnavailable("the disk is full"))
    bus.begin()
    bus.end()
    failure: Any = bus.answers["a"]
    assert "the disk is full" in str(failure.value)
    assert bus.answers["b"] == ["b"]


def test_a_refused_call_fails_alone(bus: Bus) -> None:
    bus.submit("a")
    bus.submit("b", "bad")
    bus.submit("c")
    bus.begin()
    bus.end()
    assert (bus.answers["a"], bus.answers["c"]) == (["a"], ["c"])
    failure: Any = bus.answers["b"]
    assert isinstance(failure.value, IdempotencyMismatch)


def test_a_commit_is_small_while_the_disk_is_fast_and_grows_where_it_is_slow(bus: Bus) -> None:
    for nth in range(16 + 16 + 32 + 64 + 128 + 64 + 32):
        bus.submit(f"job {nth}")
    sizes = [len(bus.begin())]
    for seconds in (0.001, 0.1, 0.1, 0.1, 0.001, 0.001):
        bus.end(seconds)
        sizes.append(len(bus.begin()))
    assert sizes == [16, 16, 32, 64, 128, 64, 32]
    bus.end()


def test_one_call_is_one_commit_whatever_its_size(bus: Bus) -> None:
    many = [f"job {nth}" for nth in range(1000)]
    bus.submit(*many)
    assert bus.begin() == many
    bus.end()


def test_a_store_that_is_down_does_not_end_the_flushes(bus: Bus) -> None:
    for _ in range(3):
        bus.reactor.advance(1.0)
        bus.flushes.get(timeout=PATIENCE)
