"""A real HTTP server, in a thread, that answers as the test wants."""

import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """The requests of one connection, one after the other; ``body`` is what was sent."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    body: bytes

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        server: Any = self.server
        # The same object is used for the connection's next request.
        server.requests.append(copy(self))
        try:
            server.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """An ordinary answer; ``Retry_After`` is the header Retry-After."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not on stderr."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients break off, or do not trust the certificate: that is not for stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(
    answer: Answer, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[Request]]]:
    """The URL of a server that answers so, and the requests it got."""
    server = _Server(("127.0.0.1", 0), Request)
    if tls:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    requests: list[Request] = []
    server.answer, server.requests = answer, requests  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/rpc", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
