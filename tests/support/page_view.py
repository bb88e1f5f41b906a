"""The page in a browser, in the words of who looks at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import visit
from tests.support.page_bus import Bus

OUTLINE = (
    """one => [null, "::after"].map(part => getComputedStyle(one, part).outlineStyle).join()"""
)


@contextmanager
def opened(bus: Bus, browser: Browser, place: str = "#/jobs", **context: Any) -> Iterator[Page]:
    """The page with somebody logged in; nothing may go wrong in it until it is closed."""
    token = context.pop("token", bus.token)
    context.setdefault("viewport", {"width": 1280, "height": 800})
    with visit(browser, f"{bus.url}#token={token}", **context) as seen:
        expect(seen.page.get_by_role("status").filter(has_text="live")).to_be_visible()
        go(seen.page, place)
        yield seen.page
        assert seen.complaints == []


def go(page: Page, place: str) -> None:
    """To what is behind "#" in the address."""
    page.evaluate("place => { location.hash = place }", place)


def job_page(page: Page, state: str) -> Locator:
    """The article about a job, once it is in this state."""
    article = page.locator(f"article.job[data-state={state}]")
    expect(article).to_be_visible()
    return article


def row(page: Page, job: str) -> Locator:
    """A job's in the list."""
    return page.locator(f"tr[data-job='{job}']")


def total(page: Page) -> int:
    """How many lines the log has."""
    told = page.evaluate("document.querySelector('[data-total]')?.dataset.total")
    return int(told or 0)


def log_lines(page: Page) -> list[str]:
    """All lines of the log, as they come to see who scrolls through it."""
    lines: dict[str, str] = page.evaluate(
        """async () => {
            const log = document.querySelector(".log"), found = {};
            log.style.height = "20000px"; // a tall screen: there are fewer steps then
            for (let top = 0; top <= log.scrollHeight; top += log.clientHeight) {
                log.scrollTop = top;
                for (const _ of [1, 2, 3]) await new Promise(drawn => requestAnimationFrame(drawn));
                for (const line of log.querySelectorAll(".line"))
                    found[line.dataset.line] = line.querySelector(".line-text").textContent;
            }
            return found;
        }"""
    )
    return [lines[number] for number in sorted(lines, key=int)]


def press_until(page: Page, key: str, name: str) -> None:
    """Go on to what has this name; it shows that it has the focus."""
    for _ in range(30):
        page.keyboard.press(key)
        focused = page.locator(":focus")
        if focused.count() and name in focused.inner_text():
            style = focused.evaluate(OUTLINE)
            assert "solid" in style
            return
    raise AssertionError(f"{key} does not lead to {name!r}")
