"""Foreground calls that wait for a connection: real threads, by a clock that stands still."""

from collections.abc import Iterator
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, cast

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import CancelledError, Deferred

from taskbus.bus.calls import Calls
from taskbus.bus.message import Answer, Call
from taskbus.core.promote import Keeper
from taskbus.edge.batch import Batch
from taskbus.edge.foreground import Foreground
from taskbus.edge.turns import Turns
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.http_target import HttpTarget
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE
from tests.support.reactor import Reactor
from tests.support.site import eventually

TIMEOUT = 100.0
URI = "com.t.stock"


class Shop:
    """A backend with one connection to its target, for which two calls may wait."""

    def __init__(self, url: str, asked: "SimpleQueue[int]") -> None:
        target = HttpTarget(url, connections=1, waiting=2)
        self.entry = Entry(URI, "http", target, timeout=TIMEOUT)
        self.asked = asked
        self.reactor = Reactor()
        self.foreground = Foreground(
            reactor=self.reactor,
            api=ApiMap([self.entry]),
            entries=[self.entry],
            batch=cast("Batch", None),
            keeper=cast("Keeper", None),
            calls=Calls(self.reactor),
            clock=self.reactor.seconds,
            threads=4,
        )
        self.answers: dict[int, Any] = {}

    def call(self, number: int) -> "Deferred[Any]":
        def keep(answer: Any) -> None:
            self.answers[number] = answer

        answer: Deferred[Any] = self.foreground.run(
            self.entry, Call([number], {}, URI, 1, "ann", "user", None, None)
        )
        return answer.addBoth(keep)

    def at_target(self) -> int:
        """Which call its target has got next."""
        return self.asked.get(timeout=PATIENCE)

    def error(self, number: int) -> str:
        failed = self.answers[number].value
        assert isinstance(failed, ApplicationError)
        return str(failed.error)


@pytest.fixture
def go_on() -> "SimpleQueue[int]":
    """Each thing in it lets the target answer once."""
    return SimpleQueue()


@pytest.fixture
def shop(go_on: "SimpleQueue[int]") -> Iterator[Shop]:
    asked: SimpleQueue[int] = SimpleQueue()

    def answer(request: Request) -> None:
        body = request.body
        asked.put(int(body[body.index(b"[") + 1 : body.index(b"]")]))
        go_on.get(timeout=PATIENCE)
        request.reply(200, b'{"args": [1]}')

    with serving(answer) as (url, _):
        made = Shop(url, asked)
        yield made
        for _ in range(10):
            go_on.put(1)
        eventually(made.foreground.close)


def test_calls_wait_for_the_connection_in_their_order(
    shop: Shop, go_on: "SimpleQueue[int]"
) -> None:
    for number in (1, 2, 3):
        shop.call(number)
    for number in (1, 2, 3):
        assert shop.at_target() == number
        assert sorted(shop.answers) == list(range(1, number))
        go_on.put(1)
        shop.reactor.step()
    assert shop.answers[3] == Answer([1], {})


def test_no_more_than_may_wait_do(shop: Shop, go_on: "SimpleQueue[int]") -> None:
    for number in (1, 2, 3, 4):
        shop.call(number)
    assert list(shop.answers) == [4]
    assert shop.error(4) == "taskbus.error.target_busy"
    told = shop.answers[4].value
    assert told.args[0].startswith("com.t.stock has no connection free, and 2 calls wait")
    assert (told.kwargs["field"], told.kwargs["value"]) == ("http.waiting", 2)
    assert shop.at_target() == 1
    go_on.put(1)
    shop.reactor.step()
    shop.call(5)
    assert 5 not in shop.answers


def test_who_has_waited_too_long_is_not_sent(shop: Shop, go_on: "SimpleQueue[int]") -> None:
    shop.call(1)
    assert shop.at_target() == 1
    shop.reactor.advance(TIMEOUT / 2)
    shop.call(2)
    go_on.put(1)
    shop.reactor.step()
    assert shop.at_target() == 2
    shop.call(3)
    shop.reactor.advance(TIMEOUT / 2 + 0.1)
    shop.call(4)
    # Of the second one the connection is cut, as it has used up its time waiting.
    shop.reactor.advance(TIMEOUT / 2 + 0.1)
    assert shop.error(2) == shop.error(3) == "taskbus.error.timeout"
    shop.reactor.step()
    assert shop.at_target() == 4
    go_on.put(1)
    go_on.put(1)
    shop.reactor.step()
    assert shop.answers[4].args == [1]


@pytest.mark.parametrize("promote_after", [None, TIMEOUT / 2])
def test_whose_caller_has_gone_is_ended(
    shop: Shop, go_on: "SimpleQueue[int]", promote_after: float | None
) -> None:
    shop.entry = replace(shop.entry, promote_after=promote_after)
    first, second, _ = (shop.call(number) for number in (1, 2, 3))
    assert shop.at_target() == 1
    second.cancel()
    first.cancel()
    assert all(shop.answers[number].check(CancelledError) for number in (1, 2))
    # The connection of the first is cut, which gives its place to the next one.
    shop.reactor.step()
    assert shop.at_target() == 3
    go_on.put(1)
    go_on.put(1)
    shop.reactor.step()
    assert shop.answers[3] == Answer([1], {})
    shop.reactor.advance(TIMEOUT + 1)


def test_a_place_is_given_to_the_next_who_still_waits() -> None:
    turns, got = Turns(1, 2), []
    for name in "abc":
        turn = turns.take()
        assert turn is not None
        turn.addCallbacks(lambda _, name=name: got.append(name), lambda _: None)
        if name == "b":
            turn.cancel()
    assert got == ["a"]
    turns.give()
    assert got == ["a", "c"]
    turns.give()
    assert turns.take() is not None
    assert turns.take() is not None
    assert turns.take() is not None
    assert turns.take() is None
