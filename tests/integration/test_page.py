"""The start page, in a real browser on a real router."""

import http.client
from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Error, Route

from tests.support.browser import Visit, running_browser, visit
from tests.support.router import REPOSITORY, Router, running_router

pytestmark = pytest.mark.integration

PHONE, DESKTOP = 360, 1280
LEGIBLE = 4.5  # WCAG 2.2, 1.4.3: contrast of ordinary text

# The colours in use, as [foreground, background] pairs of "rgb(r, g, b)".
COLOURS = """() => {
    const painted = element => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" ? painted(element.parentElement) : colour;
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const pairs = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        pairs.push([getComputedStyle(element).color, painted(element)]);
    }
    return pairs;
}"""


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with running_router(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(
    scope="module",
    params=[(width, scheme) for width in (PHONE, DESKTOP) for scheme in ("light", "dark")],
    ids=lambda one: f"{one[0]}-{one[1]}",
)
def visited(router: Router, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    width, scheme = request.param
    screen = {"width": width, "height": 800}
    with visit(browser, f"{router.url}/", viewport=screen, color_scheme=scheme) as seen:
        yield seen


def test_nothing_goes_wrong_and_nothing_comes_from_elsewhere(
    router: Router, visited: Visit
) -> None:
    assert visited.complaints == []
    files = {path.name for path in (REPOSITORY / "crossbar/web").iterdir()} - {"index.html"}
    assert set(visited.requested) == {f"{router.url}/{name}" for name in {"", *files}}


def test_it_is_as_wide_as_the_screen(visited: Visit) -> None:
    width = visited.page.viewport_size
    assert width is not None
    assert visited.page.evaluate("document.documentElement.scrollWidth") == width["width"]


def test_its_text_is_legible(visited: Visit) -> None:
    pairs = {tuple(pair) for pair in visited.page.evaluate(COLOURS)}
    assert len(pairs) > 3
    assert {pair for pair in pairs if contrast(*pair) < LEGIBLE} == set()


def test_light_and_dark_differ(router: Router, browser: Browser) -> None:
    shown = []
    for scheme in ("light", "dark"):
        with visit(browser, f"{router.url}/", color_scheme=scheme) as seen:
            colour = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
            shown.append(luminance(colour))
    assert shown[0] > 0.5 > shown[1]


def test_it_tells_what_it_is_and_where_its_parts_are(visited: Visit) -> None:
    page = visited.page
    assert page.title() == "taskbus"
    assert page.locator("html").get_attribute("lang") == "en"
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.locator(f"role={landmark}").count() == 1, landmark
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(one => Number(one.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_keyboard_reaches_each_link_and_shows_where_it_is(visited: Visit) -> None:
    page = visited.page
    names = page.locator("a").all_inner_texts()
    assert names
    for name in names:
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.inner_text() == name
        assert focused.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
        target = focused.get_attribute("href")
        assert target == "docs" or page.locator(target or "").count() == 1


def test_the_addresses_are_those_of_the_page(router: Router, visited: Visit) -> None:
    host = f"127.0.0.1:{router.port}"
    assert addresses(visited) == {"ws": f"ws://{host}/ws", "call": f"http://{host}/call"}
    assert not visited.page.get_by_text("host:port").is_visible()


def test_behind_a_proxy_the_addresses_are_the_proxys(router: Router, browser: Browser) -> None:
    public = "https://example.com/bus/"

    def forward(route: Route) -> None:
        path = route.request.url.removeprefix(public)
        route.fulfill(response=route.fetch(url=f"{router.url}/{path}"))

    with browser.new_context() as fresh:
        page = fresh.new_page()
        page.route(f"{public}**", forward)
        page.goto(f"{public}?from=elsewhere#call")
        shown = addresses(Visit(page))
        # The icon may still be on its way.
        page.unroute_all(behavior="wait")
    assert shown == {"ws": "wss://example.com/bus/ws", "call": "https://example.com/bus/call"}


def test_without_scripts_it_tells_how_to_make_the_addresses(
    router: Router, browser: Browser
) -> None:
    with visit(browser, f"{router.url}/", java_script_enabled=False) as seen:
        assert addresses(seen) == {"ws": "ws://host:port/ws", "call": "http://host:port/call"}
        assert seen.page.get_by_text("the host and port in this page’s own address").is_visible()
        assert seen.complaints == []


def test_scripts_of_others_do_not_run_in_it(visited: Visit) -> None:
    with pytest.raises(Error, match="Content Security Policy"):
        visited.page.add_script_tag(content="document.title = 'theirs'")
    assert visited.page.title() == "taskbus"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/taskbus.css", "text/css"),
        ("/addresses.js", "/javascript"),  # Python's tables differ: text/ or application/
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_each_file_has_its_type_and_is_not_kept_for_long(
    router: Router, path: str, kind: str
) -> None:
    status, headers, _ = get(router, path)
    assert status == 200
    assert headers["Content-Type"].endswith(kind)
    assert headers["Cache-Control"] == "max-age=300, public"
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", ["/nothing", "/nothing.html", "/icon.svg/x", "/../config.json"])
def test_what_is_not_there_tells_nothing_of_the_machine(router: Router, path: str) -> None:
    """The router's own 404 page names folder and process; a ``default_file`` that is absent too
    makes the answer a plain 404, and one that is there would make it a 200.
    """
    status, _, body = get(router, path)
    assert status == 404
    assert str(REPOSITORY) not in body
    assert "PID" not in body


def addresses(seen: Visit) -> dict[str, str]:
    """What stands on the page for each service."""
    return {
        service: seen.page.locator(f"[data-service={service}]").inner_text()
        for service in ("ws", "call")
    }


def get(router: Router, path: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG, 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of WCAG, 0 to 1."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
