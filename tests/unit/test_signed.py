"""Signed requests: taken once, in order, in time, and as they were signed."""

import hashlib
import hmac
from typing import Any

import pytest

from taskbus.core.signed import SignedRequests
from taskbus.model.access import new_token
from taskbus.model.errors import Unauthenticated
from taskbus.model.signed_request import Signature, Signed, parse_signature, sign

ID, TOKEN = new_token()
REQUEST = Signed("POST", "/v1/jobs", "wait=1&x=%20", b'{"uri": "com.example.x"}')
START = 1000.0


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def checks(clock: Clock) -> SignedRequests:
    found = SignedRequests({ID: TOKEN}.get, clock)
    clock.now += 10
    return found


def signed(time: float, nonce: str = "n" * 16, request: Signed = REQUEST) -> Signature:
    told = Signature(ID, int(time), nonce, "")
    return told._replace(signature=sign(TOKEN, told, request))


def refusal(checks: SignedRequests, told: Signature, request: Signed = REQUEST) -> str:
    with pytest.raises(Unauthenticated) as caught:
        checks.check(told, request)
    assert TOKEN not in str(caught.value)
    return caught.value.message


def test_what_is_signed_is_told_line_by_line() -> None:
    lines = [
        "taskbus-hmac-sha256", ID, "1010", "n" * 16, "POST", "/v1/jobs", "wait=1&x=%20",
        hashlib.sha256(REQUEST.body).hexdigest(),
    ]  # fmt: skip
    expected = hmac.digest(TOKEN.encode(), "\n".join(lines).encode(), "sha256").hex()
    assert signed(1010).signature == expected


def test_a_header_is_read() -> None:
    told = signed(1010)
    fields = f"key={told.key},time={told.time}, nonce={told.nonce},signature={told.signature}"
    assert parse_signature(f"Taskbus-HMAC-SHA256  {fields} ") == told
    assert parse_signature("Bearer tb_x") is None


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "key=a",
        f"key=../{ID},time=1010,nonce={'n' * 16},signature={'0' * 64}",
        f"key={ID},time=1010,nonce=short,signature={'0' * 64}",
        f"key={ID},time=-5,nonce={'n' * 16},signature={'0' * 64}",
        f"key={ID},time=1010,nonce={'n' * 16},signature={'0' * 63}",
        f"key={ID},time=1010,nonce={'n' * 16},signature={'0' * 64},key={ID}",
        f"time=1010,key={ID},nonce={'n' * 16},signature={'0' * 64}",
        f"key={ID},time=1010,nonce={'n' * 16}\n,signature={'0' * 64}",
    ],
)
def test_a_header_of_another_form_is_refused(fields: str) -> None:
    with pytest.raises(Unauthenticated, match="malformed"):
        parse_signature(f"taskbus-hmac-sha256 {fields}")


def test_a_signed_request_is_taken_once(checks: SignedRequests, clock: Clock) -> None:
    told = signed(clock.now)
    assert checks.check(told, REQUEST) == TOKEN
    assert "used before" in refusal(checks, told)
    # Many of the same second are no replay.
    assert checks.check(signed(clock.now, "m" * 16), REQUEST) == TOKEN
    assert "used before" in refusal(checks, told)


def test_a_request_that_was_held_back_is_refused(checks: SignedRequests, clock: Clock) -> None:
    early, late = signed(clock.now - 1, "a" * 16), signed(clock.now, "b" * 16)
    checks.check(late, REQUEST)
    assert "signed before a request" in refusal(checks, early)


def test_each_key_has_an_order_of_its_own(clock: Clock) -> None:
    other, token = new_token()
    checks = SignedRequests({ID: TOKEN, other: token}.get, clock)
    clock.now += 10
    checks.check(signed(clock.now), REQUEST)
    told = Signature(other, int(clock.now) - 5, "n" * 16, "")
    told = told._replace(signature=sign(token, told, REQUEST))
    assert checks.check(told, REQUEST) == token


@pytest.mark.parametrize("change", [-301, 301])
def test_a_clock_that_is_far_off_is_told(checks: SignedRequests, clock: Clock, change: int) -> None:
    clock.now += 1000
    assert "more than 300 seconds" in refusal(checks, signed(clock.now + change))


@pytest.mark.parametrize("age", [0, 1, 100])
def test_what_a_gateway_before_may_have_taken_is_refused(checks: SignedRequests, age: int) -> None:
    assert "before the gateway was started" in refusal(checks, signed(START - age))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": "/v1/jobs/"},
        {"path": "/v1/%6aobs"},
        {"query": ""},
        {"query": "x=%20&wait=1"},
        {"path": "/v1/jobs\nwait=1&x=%20", "query": ""},
        {"body": REQUEST.body + b" "},
        {"body": b""},
    ],
)
def test_another_request_under_the_same_signature_is_refused(
    checks: SignedRequests, clock: Clock, change: dict[str, Any]
) -> None:
    assert "signature is wrong" in refusal(checks, signed(clock.now), REQUEST._replace(**change))
    # And it has not used up the nonce of the right one.
    assert checks.check(signed(clock.now), REQUEST) == TOKEN


@pytest.mark.parametrize(
    "change",
    [
        {"time": int(START) + 11},
        {"nonce": "m" * 16},
        {"key": "0" * 12},
        {"signature": "0" * 64},
    ],
)
def test_another_header_than_was_signed_is_refused(
    checks: SignedRequests, clock: Clock, change: dict[str, Any]
) -> None:
    assert "signature is wrong" in refusal(checks, signed(clock.now)._replace(**change))


def test_a_key_that_may_not_sign_is_refused_like_a_wrong_signature(
    checks: SignedRequests, clock: Clock
) -> None:
    told = Signature("0" * 12, int(clock.now), "n" * 16, "")
    assert "signature is wrong" in refusal(checks, told._replace(signature=sign("", told, REQUEST)))


def test_little_is_remembered(checks: SignedRequests, clock: Clock) -> None:
    for _ in range(5):
        clock.now += 1
        checks.check(signed(clock.now), REQUEST)
        assert checks._newest[ID] == (int(clock.now), {"n" * 16})
