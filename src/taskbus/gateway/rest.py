"""REST API v1: jobs and calls."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from autobahn.wamp.exception import ApplicationError, TransportLost

from taskbus.gateway import rest_doc as doc
from taskbus.gateway.problem import problem, problem_headers
from taskbus.gateway.route import Answer, Bus, Request, Route, only
from taskbus.model.apimap import SERVED, ApiMap, Entry
from taskbus.model.errors import InvalidArgument, JobNotFound, TaskbusError, UnknownUri
from taskbus.model.identity import is_job_id
from taskbus.model.job import FINAL, State
from taskbus.model.json import check_field, check_result
from taskbus.model.options import FOLLOW_UPS, PER_CALL, SHARED

_LONGEST_WAIT = 300
_FIELDS = ("uri", "args", "kwargs", *SHARED, *PER_CALL, *FOLLOW_UPS)
_ENDED = frozenset(state.value for state in FINAL)
_CACHE = {"Cache-Control": "private, no-cache"}
_TAG = re.compile(r'\s*(?:W/)?"([0-9]{1,10})"\s*')


class Rest:
    """The routes; ``api`` tells what is answered by a job's id."""

    def __init__(self, api: ApiMap) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        """All of this file."""
        return [
            Route("POST", "/v1/jobs", submit, doc.SUBMIT),
            Route("GET", "/v1/jobs", list_jobs, doc.LIST),
            Route("GET", "/v1/jobs/{id}", get_job, doc.GET),
            Route("GET", "/v1/jobs/{id}/result", get_result, doc.RESULT),
            Route("GET", "/v1/jobs/{id}/events", get_events, doc.EVENTS),
            Route("POST", "/v1/jobs/{id}/cancel", cancel, doc.CANCEL),
            Route("POST", "/v1/jobs/{id}/retry", retry, doc.RETRY),
            Route("POST", "/v1/jobs/{id}/replay", replay, doc.REPLAY),
            Route("POST", "/v1/call/{uri}", self.call, doc.CALL),
        ]

    async def call(self, request: Request, bus: Bus) -> Answer:
        """Call a URI; a client that hangs up cancels it."""
        if "idempotency-key" in request.headers:
            raise InvalidArgument(
                "Idempotency-Key",
                request.headers["idempotency-key"],
                "a call has no idempotency key",
                "submit a job: POST /v1/jobs",
            )
        uri, seconds = request.params["uri"], wait_of(request)
        asked = request.fields("args", "kwargs") if request.body else {}
        args, kwargs = _arguments(asked)
        result = await bus.call_whole(uri, args or [], kwargs or {})
        entry = self._entry(uri)
        is_job = entry is not None and entry.mode == "background"
        if is_job or result.kwresults.get("promoted") is True:
            return await _accepted(bus, str(result.results[0]), seconds)
        if entry is None or entry.kind not in SERVED:
            # Our backends have checked theirs; a component of one's own may answer with bytes.
            check_result(result.results, result.kwresults)
        return Answer(200, {"args": [*result.results], "kwargs": result.kwresults})

    def _entry(self, uri: str) -> Entry | None:
        """What the API map says of it; of the bus' own procedures nothing."""
        try:
            return self._api.entry(uri)
        except UnknownUri:
            return None


async def submit(request: Request, bus: Bus) -> Answer:
    """One job, or many at once."""
    asked, seconds = request.fields(), wait_of(request)
    key = _idempotency_key(request)
    if "jobs" in asked:
        return await _submit_many(only(asked, ("jobs",))["jobs"], key, seconds, bus)
    only(asked, _FIELDS)
    if not isinstance(asked.get("uri"), str):
        # Of a key, control would say that it has no scope for it.
        raise InvalidArgument("uri", asked.get("uri"), "not a URI", "send a URI of the API map")
    if key is not None:
        asked = _keyed(asked, key)
    job: Any = await bus.call("taskbus.job.submit", **asked)
    return await _accepted(bus, job, seconds, 201)


async def _submit_many(jobs: Any, key: str | None, seconds: int | None, bus: Bus) -> Answer:
    if seconds is not None:
        raise InvalidArgument("wait", seconds, "not for many jobs", "wait for each one")
    if key is not None and isinstance(jobs, list):
        jobs = [
            _keyed(one, f"{key}/{nth}") if isinstance(one, dict) else one
            for nth, one in enumerate(jobs)
        ]
    ids: Any = await bus.call("taskbus.job.submit_many", jobs)
    return Answer(201, {"ids": ids})


async def list_jobs(request: Request, bus: Bus) -> Answer:
    """Jobs, the newest first."""
    states = [one for value in request.query.get("state", ()) for one in value.split(",")]
    limit = request.number("limit")
    chosen: dict[str, Any] = {
        "state": states or None,
        "uri": request.one("uri"),
        "tag": request.one("tag"),
        "limit": limit,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    cursor = request.one("cursor")
    if cursor is not None and not is_job_id(cursor):
        raise InvalidArgument("cursor", cursor, "not a cursor", "send the next of the last page")
    jobs: Any = await bus.call("taskbus.job.list", before=cursor, **given)
    more = jobs[-1]["id"] if len(jobs) == (limit or doc.PAGE) else None
    headers = {} if more is None else _link(request, given | {"cursor": more})
    return Answer(200, {"jobs": jobs, "next": more}, headers | _CACHE)


async def get_job(request: Request, bus: Bus) -> Answer:
    """A job, with its arguments and its result."""
    job = await _job(request, bus, wait_of(request))
    return Answer(200, job, _tagged(job))


async def get_result(request: Request, bus: Bus) -> Answer:
    """What the task has returned, or its error."""
    job = await _job(request, bus, wait_of(request))
    state = job["state"]
    if state == State.SUCCEEDED:
        return Answer(200, job["result"], _tagged(job))
    if state not in _ENDED:
        headers = {"Location": _location(job["id"]), "Retry-After": "1", **_tagged(job)}
        return Answer(202, {"id": job["id"], "state": state}, headers)
    error = job["error"] or {}
    status = 410 if state == State.CANCELLED else 409
    told = problem(
        error.get("error", ""), error.get("message", ""), error.get("about", {}), request.id, status
    )
    return Answer(status, told | {"job": job["id"]}, problem_headers(status, {}) | _tagged(job))


async def get_events(request: Request, bus: Bus) -> Answer:
    """A page of the job's journal."""
    given = {"after": request.number("after"), "limit": request.number("limit")}
    asked = {name: value for name, value in given.items() if value is not None}
    events: Any = await bus.call("taskbus.job.events", _id(request), **asked)
    after = events[-1]["seq"] if events else None
    headers = {} if after is None else _link(request, asked | {"after": after})
    return Answer(200, {"events": events, "next": after}, headers | _CACHE)


async def cancel(request: Request, bus: Bus) -> Answer:
    """End a job, or ask its worker to."""
    job = _id(request)
    state: Any = await bus.call("taskbus.job.cancel", job, **_fence(request))
    done = state == State.CANCELLED
    return Answer(200 if done else 202, {"id": job, "state": state}, {"Location": _location(job)})


async def retry(request: Request, bus: Bus) -> Answer:
    """Run it again, or at once where it waits for its time, as it was submitted."""
    job = _id(request)
    await bus.call("taskbus.job.retry", job, **_fence(request))
    return await _accepted(bus, job, wait_of(request))


async def replay(request: Request, bus: Bus) -> Answer:
    """Run it again, with other arguments where they are given."""
    job = _id(request)
    asked = request.fields("args", "kwargs") if request.body else {}
    _arguments(asked)
    await bus.call("taskbus.job.replay", job, **asked, **_fence(request))
    return await _accepted(bus, job, wait_of(request))


def wait_of(request: Request) -> int | None:
    """Seconds that the client wants to wait, at most; None where it does not say."""
    text = request.one("wait")
    if text is not None:
        if text.isascii() and text.isdigit() and int(text[:9]) <= _LONGEST_WAIT:
            return int(text)
        raise InvalidArgument("wait", text, "not a number of seconds", f"use 0 to {_LONGEST_WAIT}")
    for one in request.headers.get("prefer", "").split(","):
        name, _, value = one.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), _LONGEST_WAIT)
    return None


async def _accepted(bus: Bus, job: str, seconds: int | None, status: int = 202) -> Answer:
    """The job's id; the whole job where the client has waited and it has ended."""
    headers = {"Location": _location(job)}
    if seconds is None:
        return Answer(status, {"id": job}, headers)
    headers["Preference-Applied"] = f"wait={seconds}"
    try:
        found = await _ended(bus, job, seconds)
    except (ApplicationError, TransportLost, TaskbusError):
        # Accepted it is, whatever keeps us from looking at it, as a key that may not read it.
        return Answer(202, {"id": job}, headers)
    if found["state"] in _ENDED:
        return Answer(200, found, headers | _tagged(found))
    return Answer(202, {"id": job, "state": found["state"]}, headers)


async def _job(request: Request, bus: Bus, seconds: int | None) -> dict[str, Any]:
    if seconds is None:
        found: dict[str, Any] = await bus.call("taskbus.job.get", _id(request))
        return found
    return await _ended(bus, _id(request), seconds)


async def _ended(bus: Bus, job: str, seconds: int) -> dict[str, Any]:
    """The job once it has ended, or as it is after so many seconds."""
    try:
        await bus.call("taskbus.job.wait", job, timeout=seconds)
    except ApplicationError:
        pass  # The task's own error, or that it was not to be waited for: the job tells.
    found: dict[str, Any] = await bus.call("taskbus.job.get", job)
    return found


def _id(request: Request) -> str:
    job = request.params["id"]
    if not is_job_id(job):
        raise JobNotFound(job)
    return job


def _arguments(asked: Mapping[str, Any]) -> tuple[Any, Any]:
    args, kwargs = asked.get("args"), asked.get("kwargs")
    if args is not None and not isinstance(args, list):
        raise InvalidArgument("args", args, "not a list", "send the positional arguments as a list")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise InvalidArgument("kwargs", kwargs, "not an object", "send them as an object")
    check_field("args", args)
    check_field("kwargs", kwargs)
    return args, kwargs


def _idempotency_key(request: Request) -> str | None:
    """As it is, or in quotes, as a structured header has it."""
    text = request.headers.get("idempotency-key")
    if text is not None and len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text


def _keyed(asked: Mapping[str, Any], key: str) -> dict[str, Any]:
    own = asked.get("idempotency_key")
    if own not in (None, key):
        raise InvalidArgument(
            "idempotency_key", own, "is not what the header says", "send one of the two"
        )
    return {**asked, "idempotency_key": key}


def _fence(request: Request) -> dict[str, int]:
    """The journal's number at which the client knows the job."""
    text = request.headers.get("if-match", "*")
    if text.strip() == "*":
        return {}
    found = _TAG.fullmatch(text)
    if found is None:
        raise InvalidArgument("If-Match", text, "not an ETag of a job", 'send it as If-Match: "3"')
    return {"seq": int(found[1])}


def _tagged(job: Mapping[str, Any]) -> dict[str, str]:
    return {"ETag": f'"{job["seq"]}"', **_CACHE}


def _location(job: str) -> str:
    return f"/v1/jobs/{job}"


def _link(request: Request, query: Mapping[str, Any]) -> dict[str, str]:
    target = f"{request.path}?{urlencode(query, doseq=True)}"
    return {"Link": f'<{target}>; rel="next"'}
