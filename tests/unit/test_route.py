"""Routes: which path is whose, and what of a request is understood."""

import json
from typing import Any

import pytest

from taskbus.gateway.problem import HttpError, NoSuchMethod, NoSuchPath, UnsupportedMedia
from taskbus.gateway.route import (
    Answer,
    Bus,
    Headers,
    Request,
    Route,
    Table,
    parse_json,
    parse_query,
)
from taskbus.model.errors import InvalidArgument


async def nothing(_request: Request, _bus: Bus) -> Answer:
    return Answer()


def table(*paths: str) -> Table:
    return Table([Route("GET", path, nothing) for path in paths])


def request(body: bytes = b"", target: str = "/", **headers: str) -> Request:
    path, _, query = target.partition("?")
    lines = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return Request("1", "POST", path, {}, parse_query(query), Headers(lines), body, "127.0.0.1")


def test_a_path_is_found_with_its_parameters() -> None:
    route, params = table("/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/x").find("GET", "/v1/jobs/a")
    assert (route.path, params) == ("/v1/jobs/{id}", {"id": "a"})


def test_a_plain_segment_wins_over_a_named_one() -> None:
    routes = table("/jobs/{id}", "/jobs/status")
    assert routes.find("GET", "/jobs/status")[0].path == "/jobs/status"
    assert routes.find("GET", "/jobs/other")[0].path == "/jobs/{id}"


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/jobs/", "/v1/jobs/a/", "//v1/jobs/a", "/V1/jobs/a", "/v1/jobs/a/x"]
)
def test_what_no_route_has_is_not_there(path: str) -> None:
    with pytest.raises(NoSuchPath):
        table("/v1/jobs/{id}").find("GET", path)


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs/..", "/v1/jobs/%2e%2E", "/v1/jobs/a%2Fb", "/v1/jobs/a%5cb", "/v1/jobs/a%00",
     "/v1/jobs/%ff", "/v1/jobs/%0d%0aX:y", "/v1/./a"],
)  # fmt: skip
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument):
        table("/v1/jobs/{id}").find("GET", path)


def test_a_target_that_is_no_path_is_refused() -> None:
    for target in ("http://x/v1", "*", ""):
        with pytest.raises(HttpError):
            table("/v1").find("GET", target)


def test_a_segment_is_decoded_once() -> None:
    _, params = table("/v1/call/{uri}").find("GET", "/v1/call/a%252Fb%20%C3%A9")
    assert params == {"uri": "a%2Fb é"}


def test_a_method_that_is_not_there_is_told_with_those_that_are() -> None:
    routes = Table([Route(method, "/v1/x", nothing) for method in ("GET", "POST")])
    with pytest.raises(NoSuchMethod) as refused:
        routes.find("DELETE", "/v1/x")
    assert refused.value.headers == {"Allow": "GET, HEAD, POST"}
    assert routes.find("HEAD", "/v1/x")[0].method == "GET"


def test_two_routes_cannot_have_one_path() -> None:
    with pytest.raises(ValueError, match="two routes"):
        table("/v1/{a}", "/v1/{b}")


def test_a_header_is_found_in_any_case_and_joined() -> None:
    headers = Headers({"X-Mine": ["1", "2"]})
    assert (headers["x-MINE"], headers.get("Y"), "x-mine" in headers) == ("1, 2", None, True)


def test_a_query_has_all_its_values() -> None:
    assert parse_query("a=1&b=&a=%20%C3%A9+x") == {"a": ["1", " é x"], "b": [""]}


@pytest.mark.parametrize("query", ["a", "a=%ff", "a=%00", "&".join(["a=1"] * 101)], ids=range(4))
def test_a_query_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_query(query)


def test_a_parameter_is_sent_once() -> None:
    with pytest.raises(InvalidArgument):
        request(target="/?a=1&a=2").one("a")


@pytest.mark.parametrize("text", ["-1", "1.0", "x", "", "١", "9" * 19])
def test_a_number_is_a_number(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Request("1", "GET", "/", {}, {"n": [text]}, Headers({}), b"", "").number("n")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_read(kind: str) -> None:
    assert request(b'{"a": [1, 0.5, "\xc3\xa9"]}', content_type=kind).json() == {"a": [1, 0.5, "é"]}


@pytest.mark.parametrize(
    "headers",
    [{"content_type": "text/plain"}, {"content_type": "application/json-seq"},
     {"content_type": "application/json", "content_encoding": "gzip"}],
    ids=range(3),
)  # fmt: skip
def test_what_is_said_to_be_no_json_is_not_read(headers: dict[str, str]) -> None:
    with pytest.raises(UnsupportedMedia):
        request(b"{}", **headers).json()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1] 2", b"\xff", b"\xef\xbb\xbf{}", b"NaN", b"[Infinity]", b"1e999",
     b'{"a":1,"a":2}', b'"\\ud800"', b'"\\u0000"', b"9" * 30, b"9" * 10_000, b"[" * 100_000,
     b'{"a":' * 500 + b"1" + b"}" * 500],
    ids=range(15),
)  # fmt: skip
def test_json_that_not_everybody_reads_the_same_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse_json(body)


def test_a_body_has_the_fields_that_it_may_have() -> None:
    def fields(value: Any) -> Any:
        return request(json.dumps(value).encode(), content_type="application/json").fields("a", "b")

    assert fields({"a": 1}) == {"a": 1}
    for wrong, field in (({"c": 1}, "c"), ([1], "body"), (1, "body")):
        with pytest.raises(InvalidArgument) as refused:
            fields(wrong)
        assert refused.value.about["field"] == field
