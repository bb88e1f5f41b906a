"""One delivery: what is sent, and what each answer means."""

import json
import socket
import ssl
import threading
import time
from typing import Any

import pytest
from standardwebhooks import Webhook

from taskbus.handler.egress import AddressForbidden, Egress
from taskbus.model.errors import HandlerUnreachable, TaskFailure, TaskTimeout
from taskbus.model.task import TaskInput
from taskbus.model.webhook_signature import new_secret
from taskbus.task.deliver import LONGEST_PAUSE, deliver, judge, pause
from taskbus.task.post import Reply, post
from tests.support.certificate import Certificate, make_certificate
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE
from tests.support.receiver import answering

HERE = ["127.0.0.1/32"]
EVENT = {"id": "evt_1", "type": "com.example.x", "data": {"name": "José"}}
NOW = 1_800_000_000.0


def a_task(url: str, *secrets: str, **details: Any) -> TaskInput:
    return TaskInput(
        "taskbus.task.deliver",
        kwargs={"endpoint": "ann", "event": EVENT},
        details={
            "attempt": 2,
            "context": {"timestamp": 1_700_000_000.5},
            "enclosed": {"url": url, "secrets": list(secrets)},
            **details,
        },
    )


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The attempt, as the job's output tells it."""
    [line] = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_what_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = new_secret(), new_secret()
    trace = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    with serving(answering(200, b"thanks")) as (url, requests):
        result = deliver(a_task(url, new, old, trace=trace), HERE, PATIENCE)
    [request] = requests
    for secret in (old, new):
        Webhook(secret).verify(request.body, dict(request.headers.items()))
    assert json.loads(request.body) == {
        "type": "com.example.x",
        "timestamp": "2023-11-14T22:13:20.500000Z",
        "data": {"name": "José"},
    }
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["traceparent"] == trace["traceparent"]
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 300
    attempt = told(capsys)
    assert attempt["ms"] == result.kwargs["ms"]
    assert attempt == {"attempt": 2, "status": 200, "response": "thanks", "ms": attempt["ms"]}


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, "failed"), (307, "failed"), (400, "failed"), (404, "failed"),
     (500, "failed"), (503, "failed"), (429, "throttled"), (502, "throttled"),
     (504, "throttled"), (410, "gone")],
)  # fmt: skip
def test_only_2xx_is_success(status: int, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answering(status, b"\0no\xff", Location="http://127.0.0.1:1/")
    with serving(answer) as (url, requests), pytest.raises(TaskFailure) as caught:
        deliver(a_task(url, new_secret()), HERE, PATIENCE)
    assert caught.value.uri == f"taskbus.error.webhook_{error}"
    assert caught.value.about["status"] == status
    assert len(requests) == 1
    attempt = told(capsys)
    assert (attempt["status"], attempt["error"]) == (status, caught.value.uri)
    assert "no" in attempt["response"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is(status: int) -> None:
    judge(Reply(status, b"", None), NOW)


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_may_ask_for_time(status: int) -> None:
    with pytest.raises(TaskFailure) as caught:
        judge(Reply(status, b"", "120"), NOW)
    assert caught.value.about["retry_after"] == 120


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7.0), (" 0 ", 0.0), ("9" * 30, LONGEST_PAUSE), ("-5", None),
     ("Fri, 15 Jan 2027 08:01:40 GMT", 100.0), ("Fri, 15 Jan 2010 08:00:00 GMT", 0.0),
     ("soon", None), ("", None), ("1e3", None), ("٣", None)],
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert pause(header, NOW) == seconds


def test_nothing_is_sent_to_a_forbidden_address(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answering(200)) as (url, requests), pytest.raises(AddressForbidden):
        deliver(a_task(url, new_secret()), [], PATIENCE)
    assert requests == []
    assert told(capsys)["error"] == "taskbus.error.address_forbidden"


def test_a_receiver_that_hangs() -> None:
    let_go = threading.Event()

    def hang(_request: Request) -> None:
        let_go.wait()

    with serving(hang) as (url, _):
        try:
            with pytest.raises(TaskTimeout):
                deliver(a_task(url, new_secret()), HERE, 0.05)
        finally:
            let_go.set()


def test_a_receiver_that_drips_meets_the_deadline() -> None:
    over = threading.Event()

    def drip(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 200 ")
        while not over.wait(0.01):
            request.wfile.write(b"x")

    with serving(drip) as (url, _):
        try:
            with pytest.raises(TaskTimeout):
                deliver(a_task(url, new_secret()), HERE, 0.3)
        finally:
            over.set()


def test_a_body_that_never_comes_is_not_waited_for_long() -> None:
    over = threading.Event()

    def hold(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 204 Fine\r\nContent-Length: 5\r\n\r\n")
        over.wait()

    with serving(hold) as (url, _):
        try:
            assert deliver(a_task(url, new_secret()), HERE, 0.3).kwargs["status"] == 204
        finally:
            over.set()


def test_no_http_at_all() -> None:
    def nonsense(request: Request) -> None:
        request.wfile.write(b"SSH-2.0-nobody\r\n")
        request.close_connection = True

    with serving(nonsense) as (url, _), pytest.raises(HandlerUnreachable):
        deliver(a_task(url, new_secret()), HERE, PATIENCE)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("host", "is_known", "problem"),
    [("hooks.example", True, ""), ("other.example", True, "Hostname mismatch"),
     ("hooks.example", False, "self-signed certificate")],
)  # fmt: skip
def test_the_certificate_is_verified_against_the_name(
    certificate: Certificate, host: str, is_known: bool, problem: str
) -> None:
    def resolve(_host: str, port: int, **_: Any) -> Any:
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    tls = ssl.create_default_context(cafile=certificate.file if is_known else None)
    with serving(answering(204), certificate.server) as (url, requests):
        url = url.replace("127.0.0.1", host)
        way = Egress(HERE, resolve)
        if problem:
            with pytest.raises(HandlerUnreachable, match=problem):
                post(url, {}, b"{}", way, tls, PATIENCE)
            assert requests == []
        else:
            assert post(url, {}, b"{}", way, tls, PATIENCE).status == 204
            assert requests[0].headers["host"] == url.split("/")[2]
