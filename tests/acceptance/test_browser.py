"""A browser logs in and watches a job, with nothing of ours but the bus at the other end.

The page that a browser gets from the bus is tested in ``test_page``.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import running_browser, visit
from tests.support.processes import REPOSITORY
from tests.support.site import Site, running_site

pytestmark = pytest.mark.acceptance

WELCOME, ABORT, CHALLENGE, AUTHENTICATE, ERROR, CALL, RESULT = 2, 3, 4, 5, 8, 48, 50
DENIED = "wamp.error.not_authorized"
TOLD = "com.example.dante.told"
# Passes on what it is told, line by line, until it is told the end.
TELL = """\
while read -r line && [ "$line" != end ]; do echo "$line" >&2; done <"$0"
printf '{"args": ["the end"]}'"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Iterator[int]:
    """What is written here, the job says."""
    os.mkfifo(folder / "pipe")
    end = os.open(folder / "pipe", os.O_RDWR)  # for writing alone, it would wait for a reader
    yield end
    os.close(end)


@pytest.fixture(scope="module")
def site(folder: Path, pipe: int) -> Iterator[Site]:
    command = json.dumps(["sh", "-c", TELL, str(folder / "pipe")])
    entry = f'\n[api."{TOLD}"]\nexec = {command}\nmode = "background"\n'
    with running_site(folder, entries=entry) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@dataclass(frozen=True)
class Application:
    """A page with a WAMP client in it, and what our page told of how to log in by hand."""

    page: Page
    url: str
    messages: list[str]
    ticket: str

    def join(self, hello: list[Any], ticket: str) -> list[Any]:
        """The router's last word: WELCOME or ABORT."""
        word: list[Any] = self.page.evaluate(
            "([url, hello, ticket]) => join(url, hello, ticket)", [self.url, hello, ticket]
        )
        return word

    def log_in(self) -> list[Any]:
        """As our page says."""
        return self.join(json.loads(self.messages[0]), self.ticket)


@pytest.fixture
def application(site: Site, browser: Browser) -> Iterator[Application]:
    """In place of an application's own page: ours lets no script of others into it."""
    script = REPOSITORY / "tests/support/wamp.js"
    with visit(browser, f"http://127.0.0.1:{site.port}/#/connect", bypass_csp=True) as seen:
        seen.page.add_script_tag(path=script)
        yield Application(
            seen.page,
            seen.page.locator("[data-service=ws]").inner_text(),
            seen.page.locator(".messages code").all_inner_texts(),
            (site.var / "secrets/browser").read_text().strip(),
        )
        assert seen.complaints == []


def test_the_messages_on_the_page_log_in_and_call(application: Application) -> None:
    _, challenge, authenticate, _, call, _ = application.messages
    assert json.loads(challenge) == [CHALLENGE, "ticket", {}]
    assert json.loads(authenticate) == [AUTHENTICATE, "the ticket", {}]
    word = application.log_in()
    assert word[0] == WELCOME
    assert word[2]["authrole"] == "browser"
    code, _, _, uri, _ = json.loads(call)
    assert code == CALL
    result = application.page.evaluate(
        """async uri => {
            const [job] = (await call(uri, [0]))[3];
            return call("taskbus.job.wait", [job]);
        }""",
        uri,
    )
    assert result[0] == RESULT
    assert result[3] == [0]


def test_a_browser_watches_a_job_live(application: Application, pipe: int) -> None:
    page = application.page
    assert application.log_in()[0] == WELCOME
    page.evaluate(
        """async uri => {
            const [job] = (await call(uri))[3];
            globalThis.heard = [];
            globalThis.outcome = call("taskbus.job.wait", [job], event => heard.push(event));
            await call("taskbus.job.get", [job]);  // answered after the wait has begun
        }""",
        TOLD,
    )
    # Each line is told only after the browser has shown that it heard the one before.
    lines = ["one\n", "two\n", "three\n"]
    try:
        for line in lines:
            os.write(pipe, line.encode())
            page.wait_for_function(
                "line => heard.some(event => event.kind === 'output' && event.data.text === line)",
                arg=line,
            )
    finally:
        os.write(pipe, b"end\n")  # the site cannot go down before the job has ended
    outcome = page.evaluate("outcome")
    assert outcome[0] == RESULT
    assert outcome[3] == ["the end"]
    heard = page.evaluate("heard")
    assert [event["data"]["text"] for event in heard if event["kind"] == "output"] == lines
    assert [event["seq"] for event in heard] == sorted({event["seq"] for event in heard})


def test_a_failed_job_ends_the_wait_with_its_error(application: Application) -> None:
    assert application.log_in()[0] == WELCOME
    error = application.page.evaluate(
        """async () => {
            const [job] = (await call("com.example.dante.fail", ["no luck"]))[3];
            return call("taskbus.job.wait", [job], () => {});
        }"""
    )
    assert error[0] == ERROR
    assert error[4:6] == ["com.example.dante.error.asked", ["no luck"]]


@pytest.mark.parametrize(
    ("login", "ticket", "reason", "why"),
    [
        ({}, "", "wamp.error.no_auth_method", "anonymous"),
        ({"authmethods": ["anonymous"]}, "", "wamp.error.no_auth_method", "anonymous"),
        ({"authmethods": ["ticket"], "authid": "browser"}, "wrong", DENIED, "ticket"),
        ({"authmethods": ["ticket"], "authid": "browser"}, "", DENIED, "ticket"),
        ({"authmethods": ["ticket"], "authid": "backend"}, "any", DENIED, "principal"),
    ],
)
def test_others_are_refused_and_told_why(
    application: Application, login: dict[str, Any], ticket: str, reason: str, why: str
) -> None:
    word = application.join([1, "realm1", {"roles": {"caller": {}}} | login], ticket)
    assert word[0] == ABORT
    assert word[2] == reason
    assert why in word[1]["message"]
