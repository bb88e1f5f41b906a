"""A real Chromium for tests, and visits that write down all that a page does wrong."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

from tests.support.processes import PATIENCE

# As setup.sh looks for it. Playwright would bring a browser of its own, but not from a registry.
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """A page that was opened, and what has been heard of it since."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window, for use in this thread only."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    assert program, f"none of {', '.join(_NAMES)} is here: ./setup.sh test installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, url: str, script: str = "", **context: Any) -> Iterator[Visit]:
    """``url`` opened and loaded in a fresh profile with these options of Playwright's context.
    ``script`` runs before each document's own.

    Complaints are what the console shows in yellow or red, breaches of the content security policy
    among it, exceptions that nobody caught, and requests that failed.
    """
    with browser.new_context(**context) as fresh:
        fresh.add_init_script(script)
        seen = Visit(fresh.new_page())
        seen.page.set_default_timeout(PATIENCE * 1000)
        _listen(seen)
        seen.page.goto(url)
        yield seen


def _listen(seen: Visit) -> None:
    def hear(message: ConsoleMessage) -> None:
        if message.type in ("warning", "error"):
            seen.complaints.append(message.text)

    def look(response: Response) -> None:
        if not response.ok:
            seen.complaints.append(f"{response.url}: {response.status}")

    page = seen.page
    page.on("console", hear)
    page.on("response", look)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("requestfailed", lambda request: seen.complaints.append(f"{request.url}: failed"))
    page.on("request", lambda request: seen.requested.append(request.url))
