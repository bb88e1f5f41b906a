"""``http = "http://host/path"``: POST the call as JSON, read the answer as JSON."""

import http.client
import socket
import time
from contextlib import nullcontext
from functools import partial
from urllib.parse import urlsplit

from taskbus.handler import Handler
from taskbus.handler.contract import LARGEST_ANSWER, answer, request
from taskbus.handler.timely import timely_response
from taskbus.model.errors import HandlerUnreachable, InvalidResult, TaskFailure, TaskTimeout
from taskbus.model.task import TaskInput, TaskResult

_CHUNK = 65536
_OK = 200


def http_handler(target: str, timeout: float | None) -> Handler:
    """A handler that POSTs each call to the URL. Redirects are not followed: they are errors."""
    parts = urlsplit(target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host = parts.hostname or ""

    def run(task: TaskInput) -> TaskResult:
        deadline = None if timeout is None else time.monotonic() + timeout
        connection = kind(host, parts.port, timeout=timeout)
        if deadline is not None:
            connection.response_class = partial(timely_response, deadline)  # type: ignore[assignment]
        try:
            connection.connect()
            hang_up = partial(_hang_up, connection.sock)
            with task.leash.tied(hang_up) if task.leash else nullcontext():
                connection.request(
                    "POST",
                    path,
                    request(task),
                    {"Content-Type": "application/json", "Connection": "close"},
                )
                response = connection.getresponse()
                return _judge(target, response.status, _read(response))
        except TimeoutError:
            raise TaskTimeout(f"{target} did not answer within {timeout:g} seconds") from None
        except (OSError, http.client.HTTPException) as error:
            raise HandlerUnreachable(
                f"cannot reach {target}: {type(error).__name__}: {error}", value=target
            ) from error
        finally:
            connection.close()

    return run


def _hang_up(sock: socket.socket, _hard: bool) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # The other side was faster.


def _read(response: http.client.HTTPResponse) -> bytes:
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise InvalidResult(f"the answer is larger than {LARGEST_ANSWER} bytes")
    if response.length:
        raise http.client.IncompleteRead(bytes(body), response.length)
    return bytes(body)


def _judge(target: str, status: int, body: bytes) -> TaskResult:
    if status == _OK:
        return answer(body, target)
    try:
        answer(body, target)
    except InvalidResult:
        pass
    text = body[:200].decode(errors="replace")
    raise TaskFailure(f"{target} answered HTTP {status}: {text}", status=status)
