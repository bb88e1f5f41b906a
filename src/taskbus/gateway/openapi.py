"""The description of all routes: an OpenAPI 3.1 document, and a page that shows it."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from taskbus.gateway.describe import PROBLEM, SCHEMAS, answer, operation, parameter
from taskbus.gateway.route import Answer, Bus, Request, Route

_PAGE = Path(__file__).with_name("docs.html")
_CACHE = {"Cache-Control": "no-cache"}
_SECURITY: Mapping[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "an access key, as 'taskbus key create' prints it",
    },
    "principal": {
        "type": "http",
        "scheme": "basic",
        "description": "one of the router's own principals, with its ticket as password",
    },
}


def documented(routes: Sequence[Route]) -> list[Route]:
    """The routes, and those that describe them all."""
    document = Document()
    every = [*routes, *document.routes()]
    document.describe(every)
    return every


class Document:
    """Made once, of routes that are all known."""

    def __init__(self) -> None:
        self._text = b""
        self._tag = ""
        self._page = _PAGE.read_bytes()

    def routes(self) -> list[Route]:
        """All of this file."""
        return [
            Route("GET", "/v1/openapi.json", self.document, _DOCUMENT, public=True),
            Route("GET", "/docs", self.page, _DOCS, public=True),
        ]

    def describe(self, routes: Sequence[Route]) -> None:
        """Take these for all that there is."""
        self._text = json.dumps(document_of(routes), indent=1).encode()
        self._tag = f'"{hashlib.sha256(self._text).hexdigest()[:16]}"'

    async def document(self, _request: Request, _bus: Bus) -> Answer:
        """The document."""
        headers = {"Content-Type": "application/json", "ETag": self._tag, **_CACHE}
        return Answer(200, self._text, headers)

    async def page(self, _request: Request, _bus: Bus) -> Answer:
        """The page. Its script and style are named by their digests: it runs nothing else."""
        page = self._page.decode()
        script = _digest(page, "script")
        style = _digest(page, "style")
        policy = (
            f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        return Answer(200, self._page, headers | _CACHE)


def document_of(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "taskbus",
            "version": version("taskbus"),
            "description": "Any call on the bus can run now or later; either way its caller can "
            "watch it, and nothing accepted is ever lost.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": _SECURITY},
    }


def _operation(route: Route) -> dict[str, Any]:
    told = dict(route.doc)
    responses = dict(told.get("responses", {}))
    responses.setdefault("default", PROBLEM)
    if not route.public:
        responses.setdefault("401", PROBLEM)
    named = {one["name"] for one in told.get("parameters", ()) if one["in"] == "path"}
    missing = [name for name in route.names if name not in named]
    return {
        **told,
        "operationId": f"{route.method.lower()}{route.path.title().translate(_NO_MARKS)}",
        "parameters": [
            *(parameter(name, "path", "") for name in missing),
            *told.get("parameters", ()),
        ],
        "responses": responses,
        "security": [] if route.public else [{"key": []}, {"principal": []}],
    }


def _digest(page: str, tag: str) -> str:
    text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


_NO_MARKS = str.maketrans("", "", "/{}._-")
_DOCUMENT = operation("this document", answers={200: answer("OpenAPI 3.1", {"type": "object"})})
_DOCS = operation(
    "a page that shows it",
    answers={200: {"description": "the page", "content": {"text/html": {}}}},
)
