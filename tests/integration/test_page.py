"""The page's files as the router serves them: raw requests to a real router."""

import gzip
import http.client
import json
import re
from collections.abc import Iterator

import pytest

from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import Router, running_router

pytestmark = pytest.mark.integration

WEB = REPOSITORY / "crossbar/web"
FILES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file())
HASHED = [name for name in FILES if name.startswith("assets/")]
KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with running_router(tmp_path_factory.mktemp("node")) as node:
        yield node


def ask(
    router: Router, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=PATIENCE)
    try:
        # Nothing is added to the path, and nothing is asked for but what the test says.
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_there_is_a_page_with_a_script_and_a_style() -> None:
    assert "index.html" in FILES
    assert {name.rpartition(".")[2] for name in HASHED} >= {"js", "css"}


@pytest.mark.parametrize("name", ["", *FILES])
def test_each_file_is_served_as_it_is(router: Router, name: str) -> None:
    status, headers, body = ask(router, f"/{name}")
    file = WEB / (name or "index.html")
    assert status == 200
    assert body == file.read_bytes()
    assert headers["Content-Type"].startswith(KINDS[file.suffix[1:]])
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("name", HASHED)
def test_what_is_named_by_its_content_is_kept_for_ever(router: Router, name: str) -> None:
    _, headers, _ = ask(router, f"/{name}")
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", ["", "index.html", "icon.svg"])
def test_everything_else_is_asked_for_anew_and_sent_where_it_has_changed(
    router: Router, name: str
) -> None:
    _, headers, _ = ask(router, f"/{name}")
    assert headers["Cache-Control"] == "no-cache"
    etag = headers["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        status, headers, body = ask(router, f"/{name}", If_None_Match=known)
        assert (status, body) == (304, b"")
        assert headers["ETag"] == etag
    assert ask(router, f"/{name}", If_None_Match='"other"')[0] == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/icon.svg"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_answer_has_the_headers(router: Router, path: str, method: str) -> None:
    _, headers, _ = ask(router, path, method, Origin="https://evil.example")
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert {name for name, value in policy.items() if value == "'self'"} == {
        "script-src", "style-src", "img-src", "connect-src",
    }  # fmt: skip
    assert set(policy.values()) == {"'self'", "'none'"}
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    for name in ("Server", "Set-Cookie", "Access-Control-Allow-Origin"):
        assert name not in headers
    assert "evil" not in str(headers)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/index", "/assets", "/assets/", "/icon.svg/", "/icon.svg/x", "//", "/./",
        "/../config.json", "/..%2fconfig.json", "/%2e%2e/config.json", "/assets/../../config.json",
        "/..\\config.json", "/icon%2esvg", "/icon.svg%00", f"/{WEB}/index.html", "/~root", "/.git",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_there_tells_nothing(router: Router, path: str, method: str) -> None:
    status, headers, body = ask(router, path, method)
    assert status == 404
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert body == (b"there is nothing here\n" if method == "GET" else b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_it_can_only_be_read(router: Router, method: str) -> None:
    status, headers, _ = ask(router, "/", method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


def test_a_head_is_a_get_without_its_body(router: Router) -> None:
    for name in FILES:
        _, got, _ = ask(router, f"/{name}")
        status, headers, body = ask(router, f"/{name}", "HEAD")
        assert (status, body) == (200, b"")
        assert without_date(headers) == without_date(got)


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip; q=0", False), ("br", False), ("", False)],
)
def test_it_is_packed_for_who_can_unpack_it(router: Router, accepted: str, is_packed: bool) -> None:
    _, plain, whole = ask(router, f"/{HASHED[0]}")
    _, headers, body = ask(router, f"/{HASHED[0]}", Accept_Encoding=accepted)
    assert plain["Vary"] == headers["Vary"] == "Accept-Encoding"
    assert (headers["Content-Encoding"] == "gzip") is is_packed
    assert (headers["ETag"] != plain["ETag"]) is is_packed
    assert (gzip.decompress(body) if is_packed else body) == whole
    assert (
        ask(router, f"/{HASHED[0]}", Accept_Encoding=accepted, If_None_Match=headers["ETag"])[0]
        == 304
    )


def test_the_services_beside_it_are_still_there(router: Router) -> None:
    assert ask(router, "/docs")[0] == 503  # there is no gateway here
    assert ask(router, "/ws")[0] in (400, 426)


def test_the_document_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    text = (WEB / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text) == []
    assert re.findall(r'(?:src|href)="(?!\./)', text) == []


def without_date(headers: http.client.HTTPMessage) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() != "date"]


def test_a_service_that_is_not_there_yet_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_router(tmp_path_factory.mktemp("node"), without=["call", "v1"]) as node:
        for path, method in [("/call?key=x", "POST"), ("/v1/jobs", "GET"), ("/v1/jobs", "DELETE")]:
            status, headers, body = ask(node, path, method)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert headers["Content-Type"] == "application/problem+json"
            assert json.loads(body)["error"] == "taskbus.error.unreachable"
        assert ask(node, "/v1x")[0] == ask(node, "/x/v1")[0] == 404
        assert ask(node, "/")[0] == 200


def test_the_page_knows_the_names_of_all_services() -> None:
    node = json.loads((REPOSITORY / "crossbar/config.json").read_text())
    paths = node["workers"][0]["transports"][0]["paths"]
    assert {"/", *paths["/"]["extra"]["services"]} == set(paths)
