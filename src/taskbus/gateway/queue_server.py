"""The routes of the queue server: what clients of another one know, answered as that one does."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from taskbus.gateway.local import is_program_here
from taskbus.gateway.own import Own
from taskbus.gateway.php_form import parse_form
from taskbus.gateway.problem import HttpError, as_error, problem_headers, status_of
from taskbus.gateway.queue_server_doc import ADD, COUNTS, JOB, PROGRESS
from taskbus.gateway.route import Answer, Bus, Request, Route, parse_json
from taskbus.model.errors import InvalidArgument, Unauthenticated, shown
from taskbus.model.queue_server import LOOPBACK
from taskbus.model.settings import Settings
from taskbus.task.http_command import TOKEN_HEADER

_JSON = {"Content-Type": "application/json;charset=utf-8", "Cache-Control": "no-store"}
_FORM = "application/x-www-form-urlencoded"
_NOT_FOUND = 404
_JOB_NOT_FOUND = "taskbus.error.job_not_found"
_LONGEST_NUMBER = 15


class QueueServer:
    """Whoever comes with a credential is asked for by it; where the settings open the door to this
    machine, a program on it comes in as the gateway itself.
    """

    def __init__(self, settings: Settings, own: Own) -> None:
        self._is_wanted = settings.queue_server
        self._is_open = settings.queue_server_open_to == LOOPBACK
        self._own = own

    def routes(self) -> list[Route]:
        """None where the settings do not want it."""
        if not self._is_wanted:
            return []
        return [
            _route("POST", "/jobs/add", self.add, ADD),
            _route("GET", "/jobs/status", self.counts, COUNTS),
            _route("GET", "/jobs/status/{id}", self.job, JOB),
            _route("POST", "/jobs/progress/{id}", self.progress, PROGRESS),
        ]

    async def add(self, request: Request, bus: Bus) -> Answer:
        """A new job."""
        told = await self._call(request, bus, "taskbus.queue_server.add", body_of(request))
        return _answer({"status": "OK", "job_id": str(told["number"])})

    async def counts(self, request: Request, bus: Bus) -> Answer:
        """All jobs."""
        told = await self._call(request, bus, "taskbus.queue_server.counts")
        return _answer({"status": 200, "data": told})

    async def job(self, request: Request, bus: Bus) -> Answer:
        """One job."""
        told = await self._call(request, bus, "taskbus.queue_server.job", _number(request))
        return _answer({"status": 200, "data": told})

    async def progress(self, request: Request, _bus: Bus) -> Answer:
        """How far the target of a job is. The token is enough: it is good for this alone."""
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            raise Unauthenticated(
                f"the header {TOKEN_HEADER} is missing",
                field=TOKEN_HEADER,
                remedy="send it as it came with the request of the job",
            )
        told = body_of(request)
        await self._own.call(
            "taskbus.queue_server.progress",
            _number(request), token, _share(told.get("progress")), told.get("message"),
        )  # fmt: skip
        return _answer({"status": "OK"})

    async def _call(self, request: Request, bus: Bus, uri: str, *args: Any) -> Any:
        if not self._is_open or "authorization" in request.headers:
            return await bus.call(uri, *args)
        if not is_program_here(request):
            raise Unauthenticated(
                "this needs an access key: it does not come from a program on this machine",
                field="authorization",
                remedy="send Authorization: Bearer KEY; 'taskbus key create' makes keys",
            )
        return await self._own.call(uri, *args, trace=request.trace)


def body_of(request: Request) -> dict[str, Any]:
    """The object in the body, JSON or a form; raises InvalidArgument."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Many clients send JSON and call it a form, as curl and PHP do where they are told nothing.
    if kind == _FORM and not request.body.lstrip().startswith(b"{"):
        return parse_form(request.body)
    value = parse_json(request.body)
    if not isinstance(value, dict):
        raise InvalidArgument("body", value, "not an object", 'send {"command": {...}}')
    return value


def _route(
    method: str,
    path: str,
    handler: Callable[[Request, Bus], Awaitable[Answer]],
    doc: Mapping[str, Any],
) -> Route:
    """Errors have the form that the other answers have; what is in the query is ignored."""

    async def handle(request: Request, bus: Bus) -> Answer:
        try:
            return await handler(request, bus)
        except Exception as error:  # noqa: BLE001 - the client hears of it
            uri, message, about = as_error(error)
            status = status_of(uri)
            headers = {**problem_headers(status, about), **_JSON}
            if isinstance(error, HttpError):
                headers |= error.headers
            return Answer(status, _refusal(uri, status, message, about), headers)

    return Route(method, path, handle, doc, public=True, open_query=True)


def _refusal(uri: str, status: int, message: str, about: Mapping[str, Any]) -> dict[str, Any]:
    if uri == _JOB_NOT_FOUND:
        return {"status": _NOT_FOUND, "data": "Job not found"}
    known = {name: shown(about[name]) for name in ("field", "value", "remedy") if name in about}
    return {"status": status, "data": message, "error": uri, **known}


def _answer(body: Mapping[str, Any]) -> Answer:
    return Answer(200, body, _JSON)


def _number(request: Request) -> int:
    text = request.params["id"]
    is_number = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    # No job has the number 0.
    return int(text) if is_number else 0


def _share(value: Any) -> Any:
    """A number of a form is a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
