"""The OpenAPI document and the running site agree."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.access_keys import new_key
from tests.support.browser import running_browser, visit
from tests.support.processes import REPOSITORY
from tests.support.quick import quick_folder
from tests.support.site import Site, running_site
from tests.support.web import Client

pytestmark = pytest.mark.acceptance

METHODS = ("get", "put", "post", "delete", "patch")
EXAMPLES = 5
# Its routes are there where they are wanted.
QUEUE_SERVER = "[queue_server]\nenabled = true\n"
# A stream has no end.
ENDLESS = "/stream|/follow"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with quick_folder() as folder, running_site(folder, QUEUE_SERVER) as site:
        yield site


@pytest.fixture(scope="module")
def operations(site: Site) -> dict[tuple[str, str], Any]:
    document = json.loads(Client(site)("GET", "/v1/openapi.json").body)
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def test_every_route_is_in_the_document(site: Site, operations: dict[Any, Any]) -> None:
    [gateway] = [one for one in site.status()["programs"] if one["name"] == "gateway"]
    assert gateway["note"] == f"{len(operations)} routes"


def test_what_is_in_the_document_is_there_and_wants_a_credential(
    site: Site, operations: dict[Any, Any]
) -> None:
    stranger = Client(site)
    for (method, path), operation in operations.items():
        target = "/".join("x" if one.startswith("{") else one for one in path.split("/"))
        answer = stranger(method.upper(), target)
        if operation["security"]:
            assert answer.status == 401, (method, path)
        else:
            known = ("taskbus.error.no_such_path", "taskbus.error.no_such_method")
            assert not any(one in answer.body.decode() for one in known), (method, path)
        for other in set(METHODS) - {one for one, of in operations if of == path}:
            assert stranger(other.upper(), target).status == 405


def test_the_page_shows_every_route_and_tries_it(site: Site, operations: dict[Any, Any]) -> None:
    base = f"http://127.0.0.1:{site.port}"
    with running_browser() as browser, visit(browser, f"{base}/docs") as seen:
        shown = seen.page.locator("#routes > details")
        shown.first.wait_for()
        assert shown.count() == len(operations)
        jobs = shown.filter(has=seen.page.get_by_text("/v1/jobs", exact=True)).first
        jobs.locator("summary").click()
        assert "Idempotency-Key" in jobs.inner_text()
        assert seen.complaints == []
        assert {urlsplit(one).path for one in seen.requested} == {"/docs", "/v1/openapi.json"}
        assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        seen.page.get_by_label("Access key").fill(new_key(site, "read:*").token)
        reading = shown.filter(has=seen.page.locator("summary b", has_text="GET"))
        listing = reading.filter(has=seen.page.get_by_text("/v1/jobs", exact=True))
        listing.locator("summary").click()
        listing.get_by_label("limit (query)").fill("1")
        listing.get_by_role("button").click()
        answer = listing.locator("form pre")
        answer.filter(has_text="200").wait_for()
        assert '"jobs": []' in answer.inner_text()


def test_whatever_the_document_allows_is_answered_as_it_says(site: Site) -> None:
    token = new_key(site, "*").token
    done = subprocess.run(
        [
            REPOSITORY / ".venv/bin/schemathesis", "run",
            f"http://127.0.0.1:{site.port}/v1/openapi.json",
            "--header", f"Authorization: Bearer {token}",
            "--exclude-path-regex", ENDLESS,
            "--phases", "fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1",
            "--generation-database", "none", "--suppress-health-check", "all",
            # A schema does not say which URIs there are, nor which delay goes with which time.
            "--exclude-checks", "positive_data_acceptance",
            "--continue-on-failure", "--request-timeout", "30", "--no-color",
        ],
        cwd=site.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
