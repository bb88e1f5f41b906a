"""A command of the queue server: send a request. What is answered is the job's output."""

import base64
import http.client
import os
import ssl
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote_plus, unquote, urljoin, urlsplit

from taskbus.handler.egress import AddressForbidden, Egress
from taskbus.handler.timely import timely_response
from taskbus.model.errors import HandlerUnreachable, TaskFailure, TaskTimeout
from taskbus.model.task import TaskInput, TaskResult
from taskbus.model.trace import trace_headers
from taskbus.task.reports import Reports

# What the target needs to report the job's progress.
NUMBER_HEADER, TOKEN_HEADER = "Taskbus-Job", "Taskbus-Token"

_CHUNK = 65536
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_AGAIN = frozenset({307, 308})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FIRST_ERROR = 400


class _Request(NamedTuple):
    method: str
    url: SplitResult
    body: str

    @property
    def origin(self) -> tuple[Any, ...]:
        return self.url.scheme, self.url.hostname, self.url.port

    @property
    def place(self) -> str:
        """For messages: without a password."""
        return f"{self.url.scheme}://{self.url.netloc.rpartition('@')[2]}{self.url.path}"

    def redirected(self, status: int, location: str) -> "_Request":
        """As browsers, and the clients of most languages, go on."""
        url = urlsplit(urljoin(self.url.geturl(), location))
        if status in _SAME_AGAIN:
            return _Request(self.method, url, self.body)
        return _Request(self.method if self.method in _SAFE else "GET", url, "")


def run(task: TaskInput, allow: Sequence[str]) -> TaskResult:
    """Send what ``core.command`` has checked, ``params`` as a form, and follow redirects; a status
    from 400 on is a failure. ``allow``: networks that are open besides public addresses.
    """
    told = task.kwargs
    deadline = time.monotonic() + told["timeout"]
    egress = Egress(allow)
    with Reports(task) as reports:
        about = {
            NUMBER_HEADER: str(told["number"]),
            TOKEN_HEADER: reports.token,
            **trace_headers(task.details),
        }
        request = _Request(told["method"], urlsplit(told["url"]), form(told["params"]))
        first = request.origin
        for _ in range(_MOST_REDIRECTS + 1):
            headers = about if request.origin == first else {}
            try:
                status, location = _ask(egress, request, headers, deadline)
            except TimeoutError:
                raise TaskTimeout(
                    f"{request.place} did not answer within {told['timeout']:g} seconds"
                ) from None
            if not location:
                break
            request = request.redirected(status, location)
        else:
            raise TaskFailure(f"{request.place}: more than {_MOST_REDIRECTS} redirects")
    if status >= _FIRST_ERROR:
        raise TaskFailure(f"{request.place} answered HTTP {status}", status=status)
    return TaskResult(status=status)


def form(params: Any) -> str:
    """The parameters as a form, lists and objects in it as PHP reads them: ``a[b]=1``."""
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in _pairs(params, ""))


def _pairs(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list)):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            yield from _pairs(member, f"{name}[{key}]" if name else str(key))
    elif value is not None:
        yield name, str(int(value) if isinstance(value, bool) else value)


def _ask(
    egress: Egress, request: _Request, about: dict[str, str], deadline: float
) -> tuple[int, str]:
    """The status, and where it sends us; the body is written to stdout."""
    connection = _connected(egress, request, deadline)
    connection.response_class = partial(timely_response, deadline)  # type: ignore[assignment]
    target = (request.url.path or "/") + (f"?{request.url.query}" if request.url.query else "")
    try:
        connection.request(request.method, target, request.body or None, _headers(request, about))
        response = connection.getresponse()
        location = response.headers.get("Location", "")
        if response.status in _REDIRECTS and location:
            return response.status, location
        while chunk := response.read1(_CHUNK):
            _write(chunk)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return response.status, ""
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise HandlerUnreachable(
            f"cannot reach {request.place}: {type(error).__name__}: {error}", value=request.place
        ) from error
    finally:
        connection.close()


def _connected(egress: Egress, request: _Request, deadline: float) -> http.client.HTTPConnection:
    url = request.url
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or not host:
        raise TaskFailure(f"{request.place} is not an http URL")
    try:
        sock = egress.connect(host, url.port or (443 if url.scheme == "https" else 80), deadline,
                              is_plain=False)  # fmt: skip
    except AddressForbidden as error:
        error.about["remedy"] = "list its network under queue_server.allow in the settings"
        raise
    if url.scheme == "http":
        connection = http.client.HTTPConnection(host, url.port)
        connection.sock = sock
        return connection
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(host, url.port, context=context)
    try:
        connection.sock = context.wrap_socket(sock, server_hostname=host)
    except OSError as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise
        raise HandlerUnreachable(
            f"cannot reach {request.place}: {error}", value=request.place
        ) from error
    return connection


def _headers(request: _Request, about: dict[str, str]) -> dict[str, str]:
    headers = {"User-Agent": "taskbus", "Accept": "*/*", "Connection": "close", **about}
    if request.body:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if request.url.username is not None:
        login = f"{unquote(request.url.username)}:{unquote(request.url.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return headers


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
