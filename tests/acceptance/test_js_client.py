"""The JavaScript client on a running bus, in Node and in Chromium."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import running_browser
from tests.support.javascript import JavaScript, JavaScriptError, node, page
from tests.support.quick import quick_folder
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

NOW, LATER, STEADY = (f"com.example.test.{name}" for name in ("now", "later", "steady"))
ENTRIES = f"""
[api."{NOW}"]
python = "tests.support.tasks:evaluate"
[api."{LATER}"]
python = "tests.support.tasks:evaluate"
mode = "background"
[api."{STEADY}"]
python = "tests.support.tasks:steady"
mode = "background"
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with quick_folder() as folder, running_site(folder, entries=ENTRIES) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def hosts(site: Site, browser: Browser) -> Iterator[dict[str, JavaScript]]:
    """By name; each has connected as ``bus``."""
    bus = f"ws://127.0.0.1:{site.port}"
    login = {"url": f"{bus}/ws", "ticket": site.ticket("browser")}
    complaints: list[str] = []
    with ExitStack() as stack:
        found = {
            "node": stack.enter_context(node()),
            "chromium": stack.enter_context(page(browser, bus, complaints)),
        }
        for one in found.values():
            one.run(
                """async login => {
                    globalThis.states = [];
                    const onState = (state, {error}) => states.push([state, error?.uri]);
                    globalThis.bus = await taskbus.connect({...login, onState});
                }""",
                login,
            )
        yield found
        for one in found.values():
            one.run("() => bus.close()")
    # Connections that cannot be made are shown by the browser itself.
    assert [one for one in complaints if "WebSocket connection to" not in one] == []


@pytest.fixture(params=["node", "chromium"])
def js(hosts: dict[str, JavaScript], request: pytest.FixtureRequest) -> JavaScript:
    return hosts[request.param]


def test_a_call_and_its_values(js: JavaScript) -> None:
    def now(expression: str) -> Any:
        return js.run("(uri, it) => bus.call(uri, [it])", NOW, expression)

    assert now("[1, 2.5, 'snow \\u2603', None, {}, []]") == [1, 2.5, "snow \u2603", None, {}, []]
    assert now("None") is None
    assert now("TaskResult()") is None
    assert now("TaskResult(1, 2, three=3)") == {"args": [1, 2], "kwargs": {"three": 3}}
    assert js.run("uri => bus.call(uri, [], {expression: '6 * 7'})", NOW) == 42
