"""The gateway's sessions: one for each credential, for as long as it is of use."""

from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from taskbus.core.throttle import Throttles
from taskbus.gateway import identity
from taskbus.gateway.identity import Busy, Credential, Sessions, Unreachable
from taskbus.model.errors import Unauthenticated

ALICE, BOB, CAROL = (Credential(name, f"{name}'s ticket") for name in ("alice", "bob", "carol"))


class Endpoint:
    """Connects to nobody; a test says what became of each session."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []

    def connect(self, factory: Any) -> "Deferred[Any]":
        session = factory._factory()
        session.ended = False
        session.end = lambda: setattr(session, "ended", True)
        self.sessions.append(session)
        return Deferred()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def router() -> Endpoint:
    return Endpoint()


@pytest.fixture
def sessions(clock: Clock, router: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    monkeypatch.setattr(identity, "UNIXClientEndpoint", lambda *_, **__: router)
    monkeypatch.setattr(identity, "_MOST_SESSIONS", 2)
    return Sessions(clock, Path("router.sock"), Throttles(clock.seconds))


def result(deferred: "Deferred[Any]") -> Any:
    """What it has fired with; an exception where it failed."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "it has not fired"
    return found[0].value if isinstance(found[0], Failure) else found[0]


def borrowed(sessions: Sessions, router: Endpoint, who: Credential) -> Any:
    """A session that has joined."""
    borrowing = sessions.borrow(who)
    router.sessions[-1].joined()
    return result(borrowing)


def test_requests_of_one_credential_share_a_session(sessions: Sessions, router: Endpoint) -> None:
    first, second, other = (sessions.borrow(who) for who in (ALICE, ALICE, BOB))
    for session in router.sessions:
        session.joined()
    assert result(first) is result(second)
    assert result(other) is not result(first)
    assert len(router.sessions) == 2


def test_another_secret_is_another_credential(sessions: Sessions, router: Endpoint) -> None:
    kept = borrowed(sessions, router, ALICE)
    guess = sessions.borrow(ALICE._replace(ticket="a guess"))
    assert len(router.sessions) == 2
    router.sessions[1].joined(Failure(ApplicationError("wamp.error.not_authorized")))
    assert isinstance(result(guess), Unauthenticated)
    assert result(sessions.borrow(ALICE)) is kept


def test_who_was_refused_may_try_again(sessions: Sessions, router: Endpoint) -> None:
    waiting = [sessions.borrow(ALICE) for _ in range(2)]
    router.sessions[0].joined(Failure(ApplicationError("wamp.error.not_authorized")))
    assert all(isinstance(result(one), Unauthenticated) for one in waiting)
    assert borrowed(sessions, router, ALICE).session is router.sessions[1]


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), ApplicationError("wamp.error.authentication_failed")],
    ids=["away", "cannot look"],
)
def test_a_router_that_cannot_tell_is_no_refusal(
    sessions: Sessions, router: Endpoint, error: Exception
) -> None:
    borrowing = sessions.borrow(ALICE)
    router.sessions[0].joined(Failure(error))
    assert isinstance(result(borrowing), Unreachable)


def test_a_router_that_says_nothing_is_not_waited_for(
    sessions: Sessions, router: Endpoint, clock: Clock
) -> None:
    borrowing = sessions.borrow(ALICE)
    clock.advance(identity._JOIN_SECONDS)
    assert isinstance(result(borrowing), Unreachable)
    assert router.sessions[0].ended


def test_a_session_is_kept_while_it_is_used_and_a_while_longer(
    sessions: Sessions, router: Endpoint, clock: Clock
) -> None:
    kept = borrowed(sessions, router, ALICE)
    clock.advance(10 * identity._IDLE_SECONDS)
    assert not kept.session.ended
    kept.give_back()
    clock.advance(identity._IDLE_SECONDS - 1)
    assert result(sessions.borrow(ALICE)) is kept
    clock.advance(2)
    assert not kept.session.ended
    kept.give_back()
    clock.advance(identity._IDLE_SECONDS)
    assert kept.session.ended


def test_the_longest_unused_makes_room(sessions: Sessions, router: Endpoint) -> None:
    alice, bob = (borrowed(sessions, router, who) for who in (ALICE, BOB))
    assert isinstance(result(sessions.borrow(CAROL)), Busy)
    bob.give_back()
    alice.give_back()
    result(sessions.borrow(ALICE)).give_back()
    assert borrowed(sessions, router, CAROL).session is router.sessions[2]
    assert (alice.session.ended, bob.session.ended) == (False, True)


def test_who_does_not_wait_leaves_nothing_behind(
    sessions: Sessions, router: Endpoint, clock: Clock
) -> None:
    borrowing = sessions.borrow(ALICE)
    borrowing.addErrback(lambda _: None)
    borrowing.cancel()
    borrowed(sessions, router, BOB)
    # It makes room before it has joined, and does not stay when it has.
    sessions.borrow(CAROL)
    router.sessions[0].joined()
    assert router.sessions[0].ended
    router.sessions[2].joined()
    assert not router.sessions[2].ended


def test_a_session_that_was_lost_is_not_given_out_again(
    sessions: Sessions, router: Endpoint
) -> None:
    kept = borrowed(sessions, router, ALICE)
    kept.session.onDisconnect()
    again = borrowed(sessions, router, ALICE)
    assert again is not kept
    kept.give_back()
    assert result(sessions.borrow(ALICE)) is again


def test_the_end_of_the_program_ends_all(sessions: Sessions, router: Endpoint) -> None:
    kept = [borrowed(sessions, router, who) for who in (ALICE, BOB)]
    sessions.close()
    assert all(one.session.ended for one in kept)
