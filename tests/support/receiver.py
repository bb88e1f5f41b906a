"""A real receiver of webhooks: one server, whose paths answer as the test wants."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from standardwebhooks import Webhook

from tests.support.http_server import Request, serving
from tests.support.site import eventually

Behaviour = Callable[[Request], None]


class Receiver:
    """What came to each path; a path without a behaviour answers 204."""

    def __init__(self) -> None:
        self.url = ""
        self.behaviours: dict[str, Behaviour] = {}
        self._come: list[Request] = []
        self._let_go = threading.Event()

    def at(self, path: str, behaviour: Behaviour | None = None) -> str:
        """The URL of this path, which answers so."""
        if behaviour is not None:
            self.behaviours[path] = behaviour
        return f"{self.url}/{path}"

    def answer(self, request: Request) -> None:
        """For the server."""
        self._come.append(request)
        behaviour = self.behaviours.get(request.path.lstrip("/"))
        if behaviour is None:
            request.reply(204, b"")
        else:
            behaviour(request)

    def hang(self, _request: Request) -> None:
        """A behaviour: no answer until the end of the test."""
        self._let_go.wait()

    def let_go(self) -> None:
        """Whoever hangs ends."""
        self._let_go.set()

    def requests(self, path: str) -> list[Request]:
        """Those that came to this path."""
        return [one for one in self._come if one.path == f"/{path}"]

    def await_events(self, path: str, count: int = 1) -> list[dict[str, Any]]:
        """The bodies of the first that come to this path."""
        found = eventually(lambda: len(self.requests(path)) >= count and self.requests(path))
        assert found is not False
        return [json.loads(one.body) for one in found[:count]]


def answering(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """A behaviour: always the same."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: request.reply(status, body, **named)


def verified(request: Request, secret: str) -> Any:
    """The event, whose signature is good by this secret."""
    return Webhook(secret).verify(request.body, dict(request.headers.items()))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that is up."""
    receiver = Receiver()
    with serving(receiver.answer) as (url, _):
        receiver.url = url.removesuffix("/rpc")
        try:
            yield receiver
        finally:
            receiver.let_go()
