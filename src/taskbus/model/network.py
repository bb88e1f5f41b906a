"""Networks, as settings name them."""

from ipaddress import ip_network
from typing import Any

from taskbus.model.errors import InvalidArgument


def check_networks(value: Any) -> tuple[str, ...]:
    """A list of networks, as ``["127.0.0.0/8", "fd00::/8"]``."""
    try:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ValueError
        return tuple(str(ip_network(text)) for text in value)
    except ValueError:
        raise InvalidArgument(
            "networks", value, "not a list of networks", 'write ["127.0.0.0/8", "10.1.0.0/16"]'
        ) from None
