"""A program on the bus, once its parts are put together."""

from collections.abc import Callable

from twisted.internet import reactor as installed

from taskbus.bus.program import Program, Service
from taskbus.model.settings import Settings
from taskbus.wire import read_text

# Less than what supervisord adds to the longest call.
GRACE_SECONDS = 5.0


def serve(
    settings: Settings,
    principal: str,
    service: Service,
    on_gone: Callable[[], None],
    patience: float,
) -> None:
    """Run the service as this principal until a signal ends it; see ``bus.program``."""
    ticket = read_text(settings.secrets / principal).strip()
    program = Program(
        installed, settings.router_socket, (principal, ticket), service, on_gone, patience
    )
    program.run()
