"""What an HTTP target is asked, and by whom."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from taskbus.handler.http import check_target
from taskbus.handler.perform import failure_text
from taskbus.model.errors import (
    ConfigError,
    InvalidArgument,
)
from taskbus.model.http_target import HttpTarget
from taskbus.model.task import TaskInput
from tests.support.http_calls import CALL, fine, handler
from tests.support.http_server import Request, serving


def asked(task: TaskInput = CALL, more: str = "", **options: Any) -> Request:
    """The request that this call makes."""
    with serving(fine) as (url, requests):
        handler(url + more, **options)(task)
    [request] = requests
    return request


def query(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(request.path).query, keep_blank_values=True)


# What is asked


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_methods_with_a_body_send_the_call_in_it(method: str) -> None:
    request = asked(method=method, params=(("limit", "10"),))
    assert (request.command, request.path) == (method, "/rpc?limit=10")
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "uri": "com.x.y", "args": [1], "kwargs": {"a": "b"}, "details": {},
    }  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_methods_without_a_body_send_it_as_query(method: str) -> None:
    task = TaskInput("com.x.y", [1, "é"], {"a": "b c&d", "n": 2, "t": True, "l": [None], "e": ""})
    request = asked(task, "?fixed=1", method=method, params=(("more", "ä"),))
    assert request.command == method
    assert query(request) == [
        ("fixed", "1"), ("more", "ä"), ("args", '[1,"\\u00e9"]'),
        ("a", "b c&d"), ("n", "2"), ("t", "true"), ("l", "[null]"), ("e", ""),
    ]  # fmt: skip
    assert request.body == b""
    assert "Content-Type" not in request.headers


@pytest.mark.parametrize("name", ["fixed", "more", "args"])
def test_no_caller_says_what_the_entry_has_said(name: str) -> None:
    run = handler("http://127.0.0.1:1/?fixed=", method="GET", params=(("more", "1"),))
    with pytest.raises(InvalidArgument, match=f"^kwargs.{name}: "):
        run(TaskInput("com.x.y", [], {name: 1}))


def test_what_is_too_long_for_a_query() -> None:
    with pytest.raises(InvalidArgument, match="too long for a query"):
        handler("http://127.0.0.1:1/", method="GET")(TaskInput("com.x.y", [], {"a": "b" * 8000}))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("com.x.item", "/rpc/item/com.x.item?n=item"),
        ("com.x.item.price", "/rpc/item.price/com.x.item.price?n=item.price"),
        ("com.x.a/../b?c#&=%2e", "/rpc/" + 2 * "{0}a%2F..%2Fb%3Fc%23%26%3D%252e{1}"),
        ("com.x.é", "/rpc/%C3%A9/com.x.%C3%A9?n=%C3%A9"),
    ],
)
def test_the_uri_goes_into_the_path_and_stays_in_its_place(uri: str, path: str) -> None:
    if "{0}" in path:
        odd = "a%2F..%2Fb%3Fc%23%26%3D%252e"
        path = f"/rpc/{odd}/com.x.{odd}?n={odd}"
    assert asked(TaskInput(uri), "/{name}/{uri}?n={name}", prefix="com.x.").path == path


def test_the_name_of_an_entry_that_is_no_wildcard_is_its_last_part() -> None:
    assert asked(TaskInput("com.x.y"), "/{name}").path == "/rpc/y"


@pytest.mark.parametrize("uri", ["com.x.", "com.x..", "com.x..."])
def test_a_name_that_would_lead_elsewhere(uri: str) -> None:
    with pytest.raises(InvalidArgument, match="no name below"):
        asked(TaskInput(uri), "/{name}", prefix="com.x.")


def test_a_plain_service_gets_keyword_arguments_alone() -> None:
    task = TaskInput("com.x.y", [], {"a": "é", "b": [1]})
    assert json.loads(asked(task, plain=True).body) == {"a": "é", "b": [1]}
    assert query(asked(task, plain=True, method="GET")) == [("a", "é"), ("b", "[1]")]
    with pytest.raises(InvalidArgument, match=r"^args: "):
        handler("http://127.0.0.1:1/", plain=True)(CALL)


def test_headers_of_the_entry_replace_the_standard_ones() -> None:
    headers = asked(headers=(("host", "stock"), ("X-One", "1"), ("user-agent", "me"))).headers
    assert headers.get_all("Host") == ["stock"]
    assert headers.get_all("User-Agent") == ["me"]
    assert headers["X-One"] == "1"
    assert "application/problem+json" in headers["Accept"]


def test_headers_say_which_call_it_is() -> None:
    details = {"job": "01", "attempt": 3, "idempotency_key": "order é\r\n7%"}
    headers = asked(TaskInput("com.x.ü y", details=details)).headers
    assert headers["Taskbus-Uri"] == "com.x.%C3%BC%20y"
    assert (headers["Taskbus-Job"], headers["Taskbus-Attempt"]) == ("01", "3")
    assert headers["Idempotency-Key"] == "order%20%C3%A9%0D%0A7%25"
    headers = asked().headers
    assert headers["Taskbus-Uri"] == "com.x.y"
    assert not {"taskbus-job", "taskbus-attempt", "idempotency-key"} & set(map(str.lower, headers))


def test_the_trace_is_handed_on() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    trace = {"traceparent": parent, "tracestate": "a=b"}
    headers = asked(TaskInput("com.x.y", details={"trace": trace})).headers
    assert (headers["traceparent"], headers["tracestate"]) == (parent, "a=b")


# Who calls


def secret(folder: Path, text: str, mode: int = 0o600) -> str:
    file = folder / "secret"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize(
    ("name", "scheme", "text", "expected"),
    [
        ("Authorization", "Bearer", "abc\n", "Bearer abc"),
        ("Authorization", "Basic", "ann:é b\n", "Basic YW5uOsOpIGI="),
        ("X-Api-Key", "", "abc", "abc"),
    ],
)
def test_a_secret_of_a_file(
    name: str, scheme: str, text: str, expected: str, tmp_path: Path
) -> None:
    auth = (name, scheme, secret(tmp_path, text))
    check_target(HttpTarget("http://h/", auth=auth))
    assert asked(auth=auth).headers[name] == expected


def test_a_secret_may_change(tmp_path: Path) -> None:
    with serving(fine) as (url, requests):
        run = handler(url, auth=("Authorization", "Bearer", secret(tmp_path, "old")))
        run(CALL)
        secret(tmp_path, "new")
        run(CALL)
    assert [one.headers["Authorization"] for one in requests] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize(
    ("scheme", "text", "mode", "said"),
    [
        ("Bearer", "hush", 0o640, "others may read this secret .mode 0640.; run: chmod 600"),
        ("Bearer", "hush", 0o604, "others may read"),
        ("Bearer", "hush\r\nX: y", 0o600, "not a line of visible ASCII"),
        ("Bearer", "hushé", 0o600, "not a line of visible ASCII"),
        ("Bearer", "", 0o600, "not a line of visible ASCII"),
        ("Basic", "hush", 0o600, "not a login; write user:password"),
        ("Bearer", "hush" * 3000, 0o600, "longer than 8192 bytes"),
    ],
)
def test_a_secret_that_is_none(
    scheme: str, text: str, mode: int, said: str, tmp_path: Path
) -> None:
    target = HttpTarget("http://h/", auth=("A", scheme, secret(tmp_path, text, mode)))
    for attempt in (
        lambda: check_target(target),
        lambda: handler(*target[:1], auth=target.auth)(CALL),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            attempt()
        assert "hush" not in failure_text(caught.value)


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    for file in ("nothing", "."):
        with pytest.raises(ConfigError, match=r"cannot be read|others may read"):
            check_target(HttpTarget("http://h/", auth=("A", "", str(tmp_path / file))))
