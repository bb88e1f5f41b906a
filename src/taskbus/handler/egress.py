"""Connections to places that somebody else names: none to where only the bus can reach.

A name is resolved once, all its addresses are judged, and the connection is made to one of those: a
name server that has another answer for the next who asks (DNS rebinding) gains nothing by it.
"""

import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from taskbus.model.errors import HandlerUnreachable, TaskFailure, TaskTimeout

Network = IPv4Network | IPv6Network
Resolve = Callable[..., Sequence[Any]]
Address = tuple[int, Any]

_FAMILIES = (int(socket.AF_INET), int(socket.AF_INET6))
# What IANA's registries of special-purpose addresses list as not for everybody, and what leads to
# such an address in another form: a gateway would translate it back.
_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "a carrier's NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "v4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_V6 = ip_network("2000::/3")


class AddressForbidden(TaskFailure):
    """A place that the bus does not connect to."""

    uri = "taskbus.error.address_forbidden"


def flaw_of(address: str) -> str:
    """Why the bus does not connect there: as ``loopback``; empty where it does."""
    found = ip_address(address.partition("%")[0])
    for network, what in _SPECIAL:
        if found.version == network.version and found in network:
            return what
    return "reserved" if found.version == 6 and found not in _GLOBAL_V6 else ""


class Egress:
    """The way out."""

    def __init__(self, allowed: Sequence[str] = (), resolve: Resolve = socket.getaddrinfo) -> None:
        """``allowed``: networks, as ``10.1.0.0/16``, that are open all the same."""
        self._allowed = [ip_network(network) for network in allowed]
        self._resolve = resolve

    def connect(self, host: str, port: int, deadline: float, is_plain: bool) -> socket.socket:
        """A connection to one of the host's addresses; ``deadline`` as ``time.monotonic`` counts.

        ``is_plain``: without TLS, so only to the networks that are allowed by name. Raises
        AddressForbidden, HandlerUnreachable or TaskTimeout.
        """
        addresses = self.addresses(host, port, is_plain)
        problem = "it has no address"
        for family, address in addresses:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TaskTimeout(f"cannot reach {host}:{port} in time")
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(left)
            try:
                sock.connect(address)
            except OSError as error:
                sock.close()
                problem = error.strerror or str(error)
            else:
                return sock
        if deadline <= time.monotonic():
            raise TaskTimeout(f"cannot reach {host}:{port} in time")
        raise HandlerUnreachable(f"cannot reach {host}:{port}: {problem}")

    def addresses(self, host: str, port: int, is_plain: bool) -> list[Address]:
        """Where the host is, each address judged; one that is forbidden forbids the host."""
        try:
            found = self._resolve(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise HandlerUnreachable(f"cannot resolve {host}: {error}") from None
        addresses: list[Address] = []
        for family, _, _, _, address in found:
            if problem := self._problem(family, address, is_plain):
                raise AddressForbidden(
                    f"does not connect to {host}: {problem}",
                    remedy="choose a public https address, or let the operator list its network "
                    "under webhooks.allow in the settings",
                )
            if (family, address) not in addresses:
                addresses.append((family, address))
        return addresses

    def _problem(self, family: int, address: Any, is_plain: bool) -> str:
        if family not in _FAMILIES:
            return "neither IPv4 nor IPv6"
        plain = str(address[0]).partition("%")[0]
        if any(ip_address(plain) in network for network in self._allowed):
            return ""
        if flaw := flaw_of(plain):
            return f"{plain} is {flaw}"
        return "http without TLS is for networks that are allowed by name" if is_plain else ""
