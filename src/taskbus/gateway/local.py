"""Who is on this machine, and so may need no key where the settings say so."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from taskbus.gateway.route import Request

# The router's word for a request that came through another proxy: from wherever.
_BEYOND = "x-forwarded-beyond"


def _is_here(request: Request) -> bool:
    """Whether it comes from this machine. Another proxy on it, that does not tell of itself, cannot
    be told from its clients.
    """
    return _is_loopback(request.client) and _BEYOND not in request.headers


def is_program_here(request: Request) -> bool:
    """The same, and from a program. A web page must not come in through its reader's browser: it
    sends its origin, or, by a name of its own for this address, another host.
    """
    headers = request.headers
    host = _host(headers.get("host", ""))
    is_page = "origin" in headers or headers.get("sec-fetch-site", "none") != "none"
    return _is_here(request) and not is_page and (host == "localhost" or _is_loopback(host))


def _host(text: str) -> str:
    """The name without its port; empty where it is none."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
