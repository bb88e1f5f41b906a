"""How control learns which topics have subscribers."""

import threading
from types import SimpleNamespace
from typing import Any, cast

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, fail, succeed

from taskbus.edge.control import Control
from taskbus.edge.watchers import Topics

TOPIC = "taskbus.job.01k0000000000000000000000a"


class RouterSession:
    """A session with a router that says of subscription 1 what it is told to, and of 2 all."""

    def __init__(self, error: str) -> None:
        self._error = error

    def subscribe(self, _handler: Any, _topic: str) -> "Deferred[None]":
        return succeed(None)

    def call(self, procedure: str, *args: int) -> "Deferred[Any]":
        if procedure == "wamp.subscription.list":
            return succeed({"exact": [1, 2], "prefix": [], "wildcard": []})
        if args == (1,):
            return fail(ApplicationError(self._error, "no"))
        return succeed({"id": 2, "uri": TOPIC, "match": "exact"})


def follow(error: str) -> tuple[Topics, "Deferred[None]"]:
    topics = Topics("com.example.queue.notify", lambda _job: None)
    control = SimpleNamespace(_topics=topics, _watcher_came=threading.Event())
    return topics, cast("Any", Control)._follow_subscriptions(control, RouterSession(error))


def test_a_subscriber_that_has_just_left_does_not_keep_control_from_serving() -> None:
    topics, done = follow(ApplicationError.NO_SUCH_SUBSCRIPTION)
    errors: list[Any] = []
    done.addErrback(errors.append)
    assert not errors
    assert topics


def test_a_router_that_tells_nothing_of_them_does() -> None:
    _, done = follow(ApplicationError.NOT_AUTHORIZED)
    errors: list[Any] = []
    done.addErrback(errors.append)
    assert errors[0].value.error == ApplicationError.NOT_AUTHORIZED
