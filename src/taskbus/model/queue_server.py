"""Settings of the queue server: each key with its field and its check."""

from collections.abc import Callable, Mapping
from typing import Any

from taskbus.model.errors import InvalidArgument
from taskbus.model.network import check_networks
from taskbus.model.options import check_flag, check_queue
from taskbus.model.program import check_programs

# Who needs no access key: nobody, or who is on this machine.
OPEN_TO = (KEYS, LOOPBACK) = ("keys", "loopback")


def _open_to(value: Any) -> str:
    if value in OPEN_TO:
        return str(value)
    raise InvalidArgument(
        "open_to",
        value,
        "nobody that can be let in",
        'write "keys" for access keys, or "loopback" for whoever is on this machine',
    )


OF_QUEUE_SERVER: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "enabled": ("queue_server", check_flag),
    "open_to": ("queue_server_open_to", _open_to),
    "queue": ("queue_server_queue", check_queue),
    "allow": ("queue_server_allow", check_networks),
    "exec": ("queue_server_exec", check_programs),
}
