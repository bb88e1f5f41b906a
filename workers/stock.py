"""A service that http entries of the API map can call: ``python3 workers/stock.py 8000``.

A WSGI application, so any WSGI server can run it; the same in PHP is stock.php.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import make_server

LEVELS = {"apple": 7, "pear": 0}


class Refused(Exception):
    """Answered as an error of the call."""

    def __init__(self, status: str, name: str, message: str, **about: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": f"com.example.stock.error.{name}", "args": [message], "kwargs": about}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Take a call as JSON, answer its result or its error."""
    try:
        status, body = "200 OK", answer(environ)
    except Refused as refused:
        status, body = refused.status, refused.body
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


def answer(environ: dict[str, Any]) -> dict[str, Any]:
    """The call's result."""
    try:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        call = json.loads(environ["wsgi.input"].read(size))
        name = call["uri"].rpartition(".")[2]
        args, kwargs = call["args"], call["kwargs"]
    except (ValueError, TypeError, KeyError, AttributeError):
        words = 'POST {"uri": ..., "args": [...], "kwargs": {...}, "details": {...}}'
        raise Refused("400 Bad Request", "bad_request", words) from None
    sku = args[0] if args else None
    if not isinstance(sku, str) or sku not in LEVELS:
        words = "send the name of something in stock"
        raise Refused("404 Not Found", "unknown", words, field="args[0]")
    if name == "level":
        return {"args": [LEVELS[sku]]}
    if name == "take":
        left = LEVELS[sku] - kwargs.get("count", 1)
        if left < 0:
            words = f"only {LEVELS[sku]} of {sku}"
            raise Refused("409 Conflict", "sold_out", words, left=LEVELS[sku])
        # The same with each attempt of a job: whoever stores what is done can tell a repetition.
        return {"args": [left], "kwargs": {"by": environ.get("HTTP_TASKBUS_JOB")}}
    raise Refused("404 Not Found", "no_such_call", f"there is no {name}")


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), application).serve_forever()
