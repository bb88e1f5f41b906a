"""Webhooks from others: what proves their sender, and what does not."""

import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from taskbus.model.errors import ConfigError, InvalidArgument
from taskbus.model.incoming import (
    GITHUB,
    STANDARD,
    BadSignature,
    Delivery,
    Incoming,
    read_secrets,
    verified,
)
from taskbus.model.options import LONGEST_NAME
from taskbus.model.settings import Settings, parse_settings

SECRET, OTHER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "QUJD" * 8
PLAIN = "s3cret"
BODY = json.dumps({"zen": "Grüße"}, ensure_ascii=False).encode()


def standard(secret: str = SECRET, age: float = 0.0, id_: str = "msg_1") -> dict[str, str]:
    """The headers of a webhook, as Standard Webhooks' own package signs it."""
    when = datetime.now(UTC) - timedelta(seconds=age)
    signature = Webhook(secret).sign(id_, when, BODY.decode())
    stamp = str(int(when.timestamp()))
    return {"webhook-id": id_, "webhook-timestamp": stamp, "webhook-signature": signature}


def github(secret: str = PLAIN) -> dict[str, str]:
    return {
        "x-hub-signature-256": "sha256=" + hmac.digest(secret.encode(), BODY, "sha256").hex(),
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": "push",
    }


def proved(verify: str, headers: dict[str, str], *secrets: str, body: bytes = BODY) -> Delivery:
    return verified(verify, secrets, headers, body, time.time())


def test_a_standard_webhook_is_proved() -> None:
    assert proved(STANDARD, standard(), SECRET) == Delivery("msg_1", "")
    for age in (-290, 290):
        assert proved(STANDARD, standard(age=age), SECRET).id == "msg_1"


def test_one_of_several_signatures_is_enough_and_one_of_several_secrets() -> None:
    headers, old = standard(), standard(OTHER)["webhook-signature"]
    headers["webhook-signature"] = f"v2,x v1a,y {old} {headers['webhook-signature']}"
    assert proved(STANDARD, headers, SECRET).id == "msg_1"
    assert proved(STANDARD, standard(), OTHER, SECRET).id == "msg_1"


def test_a_secret_without_prefix_or_padding_is_the_same() -> None:
    plain = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWQ"
    assert proved(STANDARD, standard(plain), plain).id == "msg_1"


def test_a_webhook_of_github_is_proved() -> None:
    delivery = Delivery("72d3162e-cc78-11e3-81ab-4c9367dc0958", "push")
    assert proved(GITHUB, github(), "old", "s3cret") == delivery


def without(name: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda headers: {key: headers[key] for key in headers if key != name}


def with_(**values: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda headers: headers | {key.replace("_", "-"): values[key] for key in values}


@pytest.mark.parametrize(
    "spoil",
    [
        without("webhook-id"),
        without("webhook-timestamp"),
        without("webhook-signature"),
        with_(webhook_id="msg_2"),
        with_(webhook_id="a b"),
        with_(webhook_timestamp="soon"),
        with_(webhook_timestamp="1e9"),
        with_(webhook_timestamp="-1"),
        lambda headers: standard(age=5) | {"webhook-signature": headers["webhook-signature"]},
        with_(webhook_signature=""),
        with_(webhook_signature="v1,"),
        with_(webhook_signature="v1,é"),
        lambda _: standard(OTHER),
        lambda _: standard(age=310),
        lambda _: standard(age=-310),
        lambda headers: with_(webhook_signature=headers["webhook-signature"][3:])(headers),
        lambda _: github("s3cret"),
    ],
)
def test_what_does_not_prove_its_sender_is_refused(
    spoil: Callable[[dict[str, str]], dict[str, str]],
) -> None:
    with pytest.raises(BadSignature):
        proved(STANDARD, spoil(standard()), SECRET)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        standard(),
        github("other"),
        github() | {"x-hub-signature-256": github()["x-hub-signature-256"][7:]},
        github() | {"x-hub-signature-256": github()["x-hub-signature-256"].upper()},
        github() | {"x-hub-signature-256": "sha256="},
    ],
)
def test_nor_is_what_github_has_not_signed(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        proved(GITHUB, headers, "s3cret")


@pytest.mark.parametrize(
    ("verify", "headers", "secret"),
    [(STANDARD, standard(), SECRET), (GITHUB, github(), "s3cret")],
)
def test_another_body_is_refused(verify: str, headers: dict[str, str], secret: str) -> None:
    with pytest.raises(BadSignature):
        proved(verify, headers, secret, body=BODY + b" ")


def test_without_a_secret_nothing_is_proved() -> None:
    for verify, headers in ((STANDARD, standard()), (GITHUB, github())):
        with pytest.raises(BadSignature):
            proved(verify, headers)


def test_what_github_sends_without_an_id_is_no_delivery() -> None:
    with pytest.raises(InvalidArgument, match="x-github-delivery"):
        proved(GITHUB, without("x-github-delivery")(github()), "s3cret")


def test_the_key_of_its_job_is_short_enough() -> None:
    short, long = Delivery("msg_1", ""), Delivery("m" * 200, "")
    assert short.key("shop") == "shop:msg_1"
    assert len({long.key("shop"), long.key("other")}) == 2
    assert len(long.key("shop")) <= LONGEST_NAME


WEBHOOK = Incoming("pay", STANDARD, Path("/etc/pay"), "com.example.paid")


def test_secrets_are_lines() -> None:
    assert read_secrets(WEBHOOK, f"\n {SECRET} \n\n{OTHER}\n") == (SECRET, OTHER)
    assert read_secrets(WEBHOOK._replace(verify=GITHUB), "anything") == ("anything",)


@pytest.mark.parametrize("text", ["", " \n", "whsec_", "whsec_é", "whsec_A", f"{SECRET}\nwhsec_é"])
def test_what_is_no_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"/etc/pay: no secret of \[incoming.pay\]") as refusal:
        read_secrets(WEBHOOK, text)
    assert "é" not in str(refusal.value)


# --- settings ------------------------------------------------------------------------------------


def parse(text: str) -> Settings:
    return parse_settings(text, Path("/srv/bus/taskbus.toml"))


def test_the_settings_name_them() -> None:
    settings = parse("""
[incoming.github]
verify = "github"
secret_file = "github.secret"
submit = "com.example.deploy"
[incoming.pay-2]
verify = "standard"
secret_file = "/etc/pay"
publish = "com.example.paid"
""")
    assert settings.incoming == (
        Incoming("github", GITHUB, Path("/srv/bus/github.secret"), "com.example.deploy"),
        Incoming("pay-2", STANDARD, Path("/etc/pay"), publish="com.example.paid"),
    )


WHOLE = {"verify": "github", "secret_file": "x", "submit": "com.example.x"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verify": "none"}, "incoming.a.verify: not a way to verify"),
        ({"verify": None}, "incoming.a.verify: missing"),
        ({"secret_file": None}, "incoming.a.secret_file: missing"),
        ({"submit": None}, "incoming.a.submit: not one target"),
        ({"publish": "com.example.x"}, "incoming.a.submit: not one target"),
        ({"submit": "Com Example"}, "incoming.a.submit: not a WAMP URI"),
        ({"submit": "taskbus.job.submit"}, "incoming.a.submit: one of the bus itself"),
        ({"queue": "x"}, "unknown setting incoming.a.queue"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], problem: str) -> None:
    said = {name: value for name, value in (WHOLE | change).items() if value is not None}
    lines = "\n".join(f'{name} = "{value}"' for name, value in said.items())
    with pytest.raises(ConfigError, match=problem):
        parse(f"[incoming.a]\n{lines}")


def test_a_name_is_part_of_a_path() -> None:
    with pytest.raises(ConfigError, match="'A b' is not a name for a webhook"):
        parse('[incoming."A b"]')
