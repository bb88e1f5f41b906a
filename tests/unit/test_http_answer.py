"""What the answer of an HTTP target means."""

import json
from email.utils import formatdate
from functools import partial
from typing import Any

import pytest

from taskbus.model.errors import (
    HttpFailure,
    InvalidResult,
    TaskFailure,
)
from taskbus.model.task import TaskInput
from tests.support.http_calls import CALL, handler
from tests.support.http_server import Answer, Request, serving


def failure(answer: Answer, **options: Any) -> TaskFailure:
    with serving(answer) as (url, _), pytest.raises(TaskFailure) as caught:
        handler(url, **options)(CALL)
    return caught.value


def test_a_plain_service_answers_any_json() -> None:
    answers = [(200, b'{"error": "is not ours", "x": 1}'), (201, b"[1, 2]"), (204, b"")]

    def answer(request: Request) -> None:
        request.reply(*answers.pop(0))

    with serving(answer) as (url, _):
        run = handler(url, plain=True)
        results = [run(TaskInput("com.x.y")) for _ in range(3)]
    assert [one.args for one in results] == [[{"error": "is not ours", "x": 1}], [[1, 2]], []]


def test_errors_of_a_plain_service() -> None:
    call = TaskInput("com.x.y")
    for status, body, kind, uri in (
        (200, b"<p>", InvalidResult, "taskbus.error.invalid_result"),
        (404, b'{"error": "not_found"}', HttpFailure, "taskbus.error.http.404"),
        (302, b"", HttpFailure, "taskbus.error.http.302"),
    ):
        answer = partial(Request.reply, status=status, body=body)
        with serving(answer) as (url, _), pytest.raises(kind) as caught:
            handler(url, plain=True)(call)
        assert caught.value.uri == uri


@pytest.mark.parametrize("status", [201, 301, 404, 503])
def test_a_status_has_an_error_uri_of_its_own(status: int) -> None:
    assert failure(lambda request: request.reply(status)).uri == f"taskbus.error.http.{status}"


def test_a_redirect_is_told() -> None:
    failed = failure(lambda request: request.reply(302, Location="http://elsewhere/"))
    assert "a redirect to http://elsewhere/, which is not followed" in failed.message


def problem(members: Any, status: int = 422) -> TaskFailure:
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    kind = "application/problem+json; charset=utf-8"
    return failure(lambda request: request.reply(status, body, Content_Type=kind))


def test_a_problem_becomes_an_error() -> None:
    members = {
        "type": "https://example.com/out-of-credit", "title": "No credit", "status": 422,
        "detail": "It costs 50.", "balance": 30, "field": "amount", "remedy": "pay in",
    }  # fmt: skip
    failed = problem(members)
    assert (failed.uri, failed.message) == ("taskbus.error.http.422", "It costs 50.")
    assert failed.about == {
        "status": 422, "problem": members, "field": "amount", "remedy": "pay in",
    }  # fmt: skip


@pytest.mark.parametrize(
    "members",
    [{"error": "com.x.error.sold_out"}, {"type": "urn:wamp:com.x.error.sold_out"},
     {"error": 3, "type": "urn:wamp:com.x.error.sold_out"}],
)  # fmt: skip
def test_a_problem_may_name_a_wamp_error(members: dict[str, Any]) -> None:
    assert problem(members | {"title": "Sold out"}).uri == "com.x.error.sold_out"


@pytest.mark.parametrize(
    ("members", "said"),
    [({}, "HTTP 422"), ([], "HTTP 422: \\[\\]"), (b"{", "HTTP 422: {"),
     ({"detail": 3, "title": "Odd"}, "Odd"), ({"error": "not a uri", "title": "Odd"}, "Odd"),
     ({"error": "odd"}, "HTTP 422"),
     ({"type": "urn:wamp:"}, "HTTP 422"), ({"message": "m", "error_uri": "e"}, "HTTP 422")],
)  # fmt: skip
def test_odd_problems(members: Any, said: str) -> None:
    failed = problem(members)
    assert failed.uri == "taskbus.error.http.422"
    assert said.replace("\\", "") in failed.message


def test_an_error_of_the_contract_comes_before_all() -> None:
    body = b'{"error": "com.x.error.busy", "args": ["later"], "kwargs": {"a": 1}}'
    failed = failure(lambda request: request.reply(503, body, Retry_After="7"))
    assert failed.uri == "com.x.error.busy"
    assert failed.about == {"a": 1, "retry_after": 7.0}


@pytest.mark.parametrize("text", ["soon", "-1", "", "1.5", "٣", "Fri, 31 Dec 99999 23:59:59 GMT"])
def test_a_retry_after_that_is_none(text: str) -> None:
    def answer(request: Request) -> None:
        request.reply(503, Retry_After=text.encode().decode("latin-1"))

    assert "retry_after" not in failure(answer).about


def test_a_retry_after_that_is_a_date() -> None:
    future = formatdate(4_000_000_000, usegmt=True)
    assert failure(lambda one: one.reply(503, Retry_After=future)).about["retry_after"] > 1e9
    assert failure(lambda one: one.reply(503, Retry_After=formatdate(0))).about["retry_after"] == 0
