"""A program on the bus, once its parts are put together."""

from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed

from taskbus.adapter.process import Presence
from taskbus.bus.program import Program, Service
from taskbus.model.settings import Settings
from taskbus.wire import read_text

# Less than what supervisord adds to the longest call.
GRACE_SECONDS = 5.0
_AGAIN_SECONDS = 0.2


class Ready:
    """A program's presence. One that it has displaced has the name until that has left."""

    def __init__(self, folder: Path, name: str) -> None:
        self._presence = Presence(folder, name)
        self._about: dict[str, Any] | None = None

    def say(self, **about: Any) -> None:
        """Say ready, with these facts, at once or as soon as the name is free."""
        self._about = about
        self._hold()

    def drop(self) -> None:
        """Not ready any more."""
        self._about = None
        self._presence.drop()

    def _hold(self) -> None:
        if self._about is not None and not self._presence.hold(**self._about):
            reactor: Any = installed
            reactor.callLater(_AGAIN_SECONDS, self._hold)


def serve(
    settings: Settings,
    principal: str,
    service: Service,
    ready: Ready,
    patience: float,
) -> None:
    """Run the service as this principal until a signal ends it; see ``bus.program``."""
    ticket = read_text(settings.secrets / principal).strip()
    program = Program(
        installed, settings.router_socket, (principal, ticket), service, ready.drop, patience
    )
    program.run()
