"""Where the bus connects to when somebody else names the place."""

import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from taskbus.handler.egress import AddressForbidden, Egress, flaw_of
from taskbus.model.errors import HandlerUnreachable, TaskTimeout
from tests.support.processes import PATIENCE

Found = tuple[int, int, int, str, Any]

FORBIDDEN = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "this host": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"],
    "link-local": ["169.254.169.254", "fe80::1", "febf::1", "fe80::1%eth0"],
    "a carrier's NAT": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "224.0.1.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "v4-mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::808:808", "64:ff9b:1::a00:1"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "192.88.99.1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "for documentation": ["192.0.2.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "3fff::1"],
    "for benchmarks": ["198.18.0.1", "198.19.255.255"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.0.170", "::127.0.0.1", "::7f00:1",
                 "100::1", "2001:10::1", "5f00::1", "4000::1", "fec0::1"],
}  # fmt: skip
OPEN = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "128.0.0.1", "169.253.1.1", "172.15.255.255", "172.32.0.0", "192.167.1.1", "198.20.0.1",
    "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888",
]  # fmt: skip


def found(*addresses: str) -> list[Found]:
    """As ``getaddrinfo`` tells it."""
    return [
        (socket.AF_INET6, 1, 6, "", (one, 443, 0, 0))
        if ":" in one
        else (socket.AF_INET, 1, 6, "", (one, 443))
        for one in addresses
    ]


def to(*addresses: str, allowed: Sequence[str] = ()) -> Egress:
    """For a name that has these addresses."""
    return Egress(allowed, lambda *_, **__: found(*addresses))


def soon() -> float:
    return time.monotonic() + PATIENCE


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(("what", "address"), [(k, one) for k, v in FORBIDDEN.items() for one in v])
def test_what_only_the_bus_can_reach_is_forbidden(what: str, address: str) -> None:
    assert flaw_of(address) == what
    with pytest.raises(AddressForbidden, match=f"hooks.example: .* is {what}"):
        to(address).addresses("hooks.example", 443, is_plain=False)


@pytest.mark.parametrize("address", OPEN)
def test_what_everybody_can_reach_is_open(address: str) -> None:
    assert flaw_of(address) == ""
    [(_, (host, *_))] = to(address).addresses("hooks.example", 443, is_plain=False)
    assert host == address


def test_one_forbidden_address_forbids_the_host() -> None:
    with pytest.raises(AddressForbidden, match=r"10\.0\.0\.1 is private"):
        to("8.8.8.8", "10.0.0.1").addresses("hooks.example", 443, is_plain=False)


def test_networks_can_be_allowed() -> None:
    egress = to("10.1.2.3", allowed=["10.1.0.0/16", "fd00::/8"])
    assert len(egress.addresses("inside.example", 443, is_plain=False)) == 1
    with pytest.raises(AddressForbidden):
        to("10.2.0.1", allowed=["10.1.0.0/16"]).addresses("inside.example", 443, is_plain=False)
    # An allowed network opens none that merely leads there.
    with pytest.raises(AddressForbidden, match="v4-mapped"):
        to("::ffff:10.1.2.3", allowed=["10.1.0.0/16"]).addresses("x", 443, is_plain=False)


def test_without_tls_only_to_allowed_networks() -> None:
    with pytest.raises(AddressForbidden, match="without TLS"):
        to("8.8.8.8").addresses("hooks.example", 80, is_plain=True)
    assert to("8.8.8.8", allowed=["8.0.0.0/8"]).addresses("hooks.example", 80, is_plain=True)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_PACKET])
def test_nothing_but_ip(family: int) -> None:
    egress = Egress(["0.0.0.0/0"], lambda *_, **__: [(family, 1, 0, "", "/run/x.sock")])
    with pytest.raises(AddressForbidden, match="neither IPv4 nor IPv6"):
        egress.addresses("x", 443, is_plain=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "[::1]"]
)
def test_whatever_the_resolver_makes_of_a_host_is_judged(host: str) -> None:
    with pytest.raises((AddressForbidden, HandlerUnreachable)) as caught:
        Egress().addresses(host, 443, is_plain=False)
    assert host == "[::1]" or isinstance(caught.value, AddressForbidden)


def test_a_name_that_changes_its_mind_is_asked_once(port: int) -> None:
    asked = []

    def resolve(host: str, port: int, **_: Any) -> list[Found]:
        asked.append(host)
        # It would say something else to whoever asked again in order to connect.
        return [(socket.AF_INET, 1, 6, "", (f"127.0.0.{len(asked)}", port))]

    with Egress(["127.0.0.1/32"], resolve).connect("name.invalid", port, soon(), True) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
    assert asked == ["name.invalid"]


def test_the_next_address_is_tried_where_one_does_not_answer(port: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.2", 0))
        closed = ("127.0.0.2", unused.getsockname()[1])
        both = [(socket.AF_INET, 1, 6, "", one) for one in (closed, ("127.0.0.1", port))]
        egress = Egress(["127.0.0.0/8"], lambda *_, **__: both)
        with egress.connect("two.example", port, soon(), is_plain=True) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
        alone = Egress(["127.0.0.0/8"], lambda *_, **__: both[:1])
        with pytest.raises(HandlerUnreachable, match=r"cannot reach one\.example:443: Connection"):
            alone.connect("one.example", 443, soon(), is_plain=True)


def test_no_address_no_connection() -> None:
    def resolve(*_: Any, **__: Any) -> list[Found]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(HandlerUnreachable, match=r"cannot resolve nowhere\.example"):
        Egress(resolve=resolve).connect("nowhere.example", 443, soon(), is_plain=False)
    with pytest.raises(HandlerUnreachable, match="has no address"):
        to().connect("nothing.example", 443, soon(), is_plain=False)
    with pytest.raises(HandlerUnreachable):
        Egress().connect("a" * 70 + ".example", 443, soon(), is_plain=False)


def test_its_time_is_over() -> None:
    with pytest.raises(TaskTimeout):
        to("8.8.8.8").connect("hooks.example", 443, time.monotonic() - 1, is_plain=False)
