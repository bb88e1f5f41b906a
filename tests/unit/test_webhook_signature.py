"""Webhooks' signatures, as a receiver checks them."""

import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from taskbus.model.errors import InvalidArgument
from taskbus.model.webhook_signature import check_secret, new_secret, sign

BODY = '{"type":"com.example.x","data":{"name":"Jos\u00e9"}}'


def headers(secrets: list[str], body: str = BODY, at: int | None = None) -> dict[str, str]:
    timestamp = int(time.time()) if at is None else at
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, "evt_1", timestamp, body.encode()),
    }


def test_a_receiver_accepts_it() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, headers([secret]))["type"] == "com.example.x"


def test_the_standards_own_example() -> None:
    body = b'{"test": 2432232314}'
    signature = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_replaced_both_are_good() -> None:
    old, new = new_secret(), new_secret()
    both = headers([new, old])
    for secret in (old, new):
        Webhook(secret).verify(BODY, both)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(BODY, headers([new]))


def test_nothing_of_it_can_be_changed() -> None:
    secret = new_secret()
    for wrong in ({"webhook-id": "evt_2"}, {"webhook-timestamp": str(int(time.time()) + 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(BODY, headers([secret]) | wrong)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + " ", headers([secret]))


def test_secrets_are_new_each_time_and_valid() -> None:
    found = {new_secret() for _ in range(100)}
    assert len(found) == 100
    assert all(check_secret(one) == one for one in found)


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "whsec_", "whsec_dG9vIHNob3J0", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
     "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", "whsec_" + "QUFB" * 30],
)  # fmt: skip
def test_a_secret_that_is_none(value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_secret(value)
    assert caught.value.about["field"] == "secret"
    assert "dG9v" not in str(caught.value)
