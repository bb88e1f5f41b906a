"""A real HTTP server, in a thread, that answers as the test wants."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; ``body`` is what was sent."""

    protocol_version = "HTTP/1.1"
    body: bytes

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        server: Any = self.server
        server.requests.append(self)
        try:
            server.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """An ordinary answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not on stderr."""


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[Request]]]:
    """The URL of a server that answers so, and the requests it got."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    requests: list[Request] = []
    server.answer, server.requests = answer, requests  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/rpc", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
