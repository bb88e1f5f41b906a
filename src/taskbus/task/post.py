"""One POST to a place that a stranger has named: checked, bounded, and no redirects."""

import http.client
import ssl
import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from taskbus.handler.egress import Egress
from taskbus.handler.timely import timely_response
from taskbus.model.errors import HandlerUnreachable, TaskTimeout

_EXCERPT = 1000


class Reply(NamedTuple):
    """What came back: the start of its body, and when it asks to be left alone until."""

    status: int
    excerpt: bytes
    retry_after: str | None


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    egress: Egress,
    tls: ssl.SSLContext,
    seconds: float,
) -> Reply:
    """The answer, whatever its status. Raises AddressForbidden, HandlerUnreachable or TaskTimeout,
    after so many seconds for all of it.
    """
    deadline = time.monotonic() + seconds
    parts = urlsplit(url)
    is_plain = parts.scheme == "http"
    host = parts.hostname or ""
    port = parts.port or (80 if is_plain else 443)
    connection = http.client.HTTPConnection(host, port)
    connection.response_class = partial(timely_response, deadline)  # type: ignore[assignment]
    try:
        sock = egress.connect(host, port, deadline, is_plain)
        # A connection that has its socket looks for no other one.
        connection.sock = sock
        if not is_plain:
            connection.sock = tls.wrap_socket(sock, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {**headers, "Host": parts.netloc})
        response = connection.getresponse()
        return Reply(response.status, _excerpt(response), response.getheader("Retry-After"))
    except TimeoutError:
        raise TaskTimeout(f"no answer within {seconds:g} seconds") from None
    except (OSError, http.client.HTTPException) as error:
        raise HandlerUnreachable(f"no answer: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _excerpt(response: http.client.HTTPResponse) -> bytes:
    """The start of the body. That it does not come, or not whole, changes nothing."""
    try:
        return response.read1(_EXCERPT)
    except (OSError, http.client.HTTPException):
        return b""
