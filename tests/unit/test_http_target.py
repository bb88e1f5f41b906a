"""What ``http`` in the API map may say, and what the errors say."""

import json
from typing import Any

import pytest

from taskbus.model.apimap import parse_api_map
from taskbus.model.errors import ConfigError
from taskbus.model.http_target import HttpTarget

URL = "http://127.0.0.1:8000/rpc"


def target(*lines: str, uri: str = "com.x.y", site: str = "") -> HttpTarget:
    text = "\n".join([f'[api."{uri}".http]', *lines])
    found = parse_api_map(text, "api.toml", site=site).entries[uri].target
    assert isinstance(found, HttpTarget)
    return found


def refused(*lines: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        target(*lines)
    assert caught.value.about["remedy"]
    return caught.value


def test_a_url_alone_is_a_target_with_the_defaults() -> None:
    text = f'[api."com.x.y"]\nhttp = "{URL}"'
    assert parse_api_map(text, "api.toml").entry("com.x.y").target == HttpTarget(URL)
    assert target(f'url = "{URL}"') == HttpTarget(URL)


def test_every_option() -> None:
    assert target(
        'url = "https://h/{name}"',
        'method = "GET"',
        'headers = {Accept-Language = "en"}',
        'params = {format = "json", limit = 10, share = 0.5}',
        'auth = {bearer = "secrets/stock"}',
        'ca = "ca.pem"',
        "verify = true",
        "connections = 8",
        "waiting = 0",
        "keep_alive = 0",
        "tries = 3",
        "idempotent = true",
        "plain = true",
        uri="com.x.*",
        site="/site",
    ) == HttpTarget(
        url="https://h/{name}",
        method="GET",
        headers=(("Accept-Language", "en"),),
        params=(("format", "json"), ("limit", "10"), ("share", "0.5")),
        auth=("Authorization", "Bearer", "/site/secrets/stock"),
        ca="/site/ca.pem",
        connections=8,
        waiting=0,
        keep_alive=0.0,
        tries=3,
        idempotent=True,
        plain=True,
        prefix="com.x.",
    )


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ('{basic = "a"}', ("Authorization", "Basic", "/site/a")),
        ('{header = "X-Api-Key", file = "/run/a"}', ("X-Api-Key", "", "/run/a")),
    ],
)
def test_ways_to_prove_who_calls(auth: str, expected: tuple[str, str, str]) -> None:
    assert target(f'url = "{URL}"', f"auth = {auth}", site="/site").auth == expected


def test_the_forker_gets_it_as_json() -> None:
    made = target(
        f'url = "{URL}"', "params = {a = 1}", 'headers = {b = "c"}', 'auth = {basic = "d"}'
    )
    fields: list[Any] = json.loads(json.dumps(made))
    assert json.dumps(HttpTarget(*fields)) == json.dumps(made)


@pytest.mark.parametrize(
    "line",
    [
        'method = "HEAD"',
        'method = "get"',
        "method = 1",
        'headers = "a: b"',
        'headers = {"a b" = "c"}',
        'headers = {"" = "c"}',
        'headers = {a = "b\\r\\nc: d"}',
        'headers = {a = ""}',
        'headers = {a = " b"}',
        'headers = {a = "é"}',
        "headers = {a = 1}",
        'headers = {Authorization = "Bearer x"}',
        'headers = {content-length = "1"}',
        'headers = {Transfer-Encoding = "chunked"}',
        'headers = {Taskbus-Job = "1"}',
        'headers = {traceparent = "1"}',
        'headers = {a = "1", A = "2"}',
        "params = 1",
        "params = {a = true}",
        "params = {a = [1]}",
        "params = {args = 1}",
        'auth = "secret"',
        "auth = {}",
        'auth = {bearer = "a", basic = "b"}',
        "auth = {bearer = 1}",
        'auth = {bearer = ""}',
        'auth = {header = "X-Key"}',
        'auth = {header = "Content-Length", file = "a"}',
        'auth = {digest = "a"}',
        "verify = 0",
        'ca = ""',
        "connections = 0",
        "connections = 1001",
        "connections = true",
        "waiting = 5",
        "keep_alive = -1",
        "keep_alive = nan",
        "keep_alive = true",
        "tries = 0",
        "tries = 11",
        'idempotent = "yes"',
        "plain = 1",
        "timeout = 5",
    ],
)
def test_bad_values_are_named_with_their_line(line: str) -> None:
    error = refused("", 'url = "https://h/"', f"{line}  # here")
    assert error.message.startswith(f"api.toml:4: com.x.y: http.{line.split()[0]}")


@pytest.mark.parametrize("line", ['ca = "ca.pem"', "verify = false", "verify = true"])
def test_options_of_tls_are_for_tls(line: str) -> None:
    assert "api.toml:3: com.x.y: http." in refused(f'url = "{URL}"', line).message


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['ca = "a"', "verify = false"], "http.ca: without verification"),
        (
            ['headers = {x-key = "1"}', 'auth = {header = "X-Key", file = "a"}'],
            "the header of auth",
        ),
        (["method = 'GET'", "url = 'https://h/?args=1'"], "http.params: the name of the"),
    ],
)
def test_options_that_contradict_each_other(lines: list[str], said: str) -> None:
    url = [] if any(line.startswith("url") for line in lines) else ["url = 'https://h/'"]
    assert said in refused(*url, *lines).message


@pytest.mark.parametrize("url", ["https://h/{uri}?a={name}", "http://h/{name}.json", "http://h"])
def test_good_urls(url: str) -> None:
    assert target(f'url = "{url}"').url == url


@pytest.mark.parametrize(
    "url",
    ["http://{name}/", "http://h/{other}", "http://h/{", "http://h/}", "http://h/{{uri}}",
     "http://h:{uri}/", "ftp://h/", "h/rpc", "http://h/#a", "http://h/a b"],
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    assert refused(f'url = "{url}"').message.startswith("api.toml:2: com.x.y: http.url")


def test_a_secret_in_the_map_is_refused_and_not_shown() -> None:
    for line in (
        'url = "http://ann:hush@h/"',
        'url = "http://h/"\nheaders = {Authorization = "hush"}',
    ):
        assert "hush" not in str(refused(line))


def test_a_table_needs_a_url() -> None:
    assert "has no url" in refused('method = "GET"').message


def test_two_tables_deep() -> None:
    error = refused(f'url = "{URL}"', "", '[api."com.x.y".http.headers]', 'ok = "1"', "wrong = 1")
    assert error.message.startswith("api.toml:6: com.x.y: http.headers.wrong: not a header's value")
