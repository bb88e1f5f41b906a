"""A thread that takes the same step again and again, and that no error ends."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from taskbus.model.errors import TaskbusError

log = logging.getLogger(__name__)

_PAUSE = 1.0


def for_ever(name: str, step: Callable[[], Any]) -> None:
    """Start it. ``step`` waits for its time itself; after an error there is a pause."""
    pause = threading.Event()

    def loop() -> None:
        while True:
            try:
                step()
            except TaskbusError as error:
                log.warning("%s: %s", name, error)
                pause.wait(_PAUSE)
            except Exception:
                log.exception("%s: unexpected error, going on", name)
                pause.wait(_PAUSE)

    threading.Thread(target=loop, name=name, daemon=True).start()
