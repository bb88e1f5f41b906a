"""How routes describe themselves: parts of OpenAPI 3.1 operations, and the schemas they share."""

from collections.abc import Mapping
from typing import Any

from taskbus.model.job import State
from taskbus.model.options import (
    FOLLOW_UPS,
    HIGHEST_PRIORITY,
    LARGEST_MEMORY,
    LONGEST_DELAY,
    LONGEST_NAME,
    LONGEST_RETENTION,
    LONGEST_TIMEOUT,
    LONGEST_WINDOW,
    MOST_ERRORS,
    MOST_RETRIES,
    MOST_TAGS,
    PRIORITIES,
)

JSON = "application/json"
Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
ID: Schema = {"type": "string", "pattern": "^[0-9a-hjkmnp-tv-z]{26}$"}
_SECONDS: Schema = {"type": ["number", "null"]}
_ARGS: Schema = {"type": "array", "items": {}}
_KWARGS: Schema = {"type": "object", "additionalProperties": True}


def ref(name: str) -> Schema:
    """One of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def an_object(required: str = "", /, **properties: Schema) -> Schema:
    """An object with these properties and no others; ``required`` are names between blanks."""
    needed = {"required": required.split()} if required else {}
    return {
        "type": "object",
        "properties": properties,
        **needed,
        "additionalProperties": False,
    }


def parameter(name: str, where: str, what: str, schema: Schema = TEXT) -> Schema:
    """``where``: query, header or path."""
    needed = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "description": what, "schema": schema, **needed}


def body(schema: Schema, required: bool = True) -> Schema:
    """What is sent as JSON."""
    return {"required": required, "content": {JSON: {"schema": schema}}}


def answer(what: str, schema: Schema | None = None, **headers: str) -> Schema:
    """What comes back. A header's ``_`` is a dash."""
    told: dict[str, Any] = {"description": what}
    if schema is not None:
        told["content"] = {JSON: {"schema": schema}}
    if headers:
        told["headers"] = {
            name.replace("_", "-"): {"description": of, "schema": TEXT}
            for name, of in headers.items()
        }
    return told


def operation(summary: str, *parameters: Schema, answers: Mapping[int, Any], **more: Any) -> Schema:
    """``answers`` by status: each an ``answer``, or the text of an error."""
    responses = {
        str(status): _problem(told) if isinstance(told, str) else told
        for status, told in answers.items()
    }
    return {"summary": summary, "parameters": [*parameters], "responses": responses, **more}


def number(least: float, most: float, what: str = "") -> Schema:
    """A number within bounds."""
    told = {"description": what} if what else {}
    return {"type": "number", "minimum": least, "maximum": most, **told}


def whole(least: int, most: int, what: str = "") -> Schema:
    """A whole number within bounds."""
    return {**number(least, most, what), "type": "integer"}


def text(what: str = "") -> Schema:
    """A short text."""
    told = {"description": what} if what else {}
    return {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME, **told}


def _problem(what: str) -> Schema:
    return {
        "description": what,
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }


PROBLEM = _problem("an error, in the same form as all others")
WAIT = parameter(
    "wait",
    "query",
    "answer when the job has ended, or after so many seconds; the header Prefer: wait=10 does it, "
    "too",
    {"type": "integer", "minimum": 0, "maximum": 300},
)
PREFER = parameter("Prefer", "header", "wait=10: as the parameter wait")
JOB = parameter("id", "path", "the job's id", TEXT)
IF_MATCH = parameter("If-Match", "header", "only where this is still the ETag of the job")
IF_NONE_MATCH = parameter("If-None-Match", "header", "304 where this is still the ETag")

_PARENT: Schema = {
    "type": "string",
    "pattern": "^00-[1-9a-f][0-9a-f]{31}-[1-9a-f][0-9a-f]{15}-[0-9a-f]{2}$",
}
_REQUEST: dict[str, Schema] = {
    "uri": {"type": "string", "description": "a URI of the API map"},
    "args": _ARGS,
    "kwargs": _KWARGS,
    "priority": {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": HIGHEST_PRIORITY},
            {"enum": sorted(PRIORITIES)},
        ],
        "description": "higher runs earlier",
    },
    "delay": number(0, LONGEST_DELAY, "not before so many seconds"),
    "run_at": {
        "oneOf": [{"type": "string"}, number(0, 2**35 - 1)],
        "description": "not before this time: ISO 8601 with its offset, or seconds since the epoch",
    },
    "timeout": number(0.01, LONGEST_TIMEOUT, "seconds that one attempt may take"),
    "retries": whole(0, MOST_RETRIES),
    "backoff": an_object(
        first=number(0, LONGEST_DELAY),
        factor=number(1, 1000),
        longest=number(0, LONGEST_DELAY),
        jitter=number(0, 1),
    ),
    "retry_on": {
        "type": "array",
        "items": TEXT,
        "minItems": 1,
        "maxItems": MOST_ERRORS,
        "description": "only errors with these URIs",
    },
    "ttr": number(3, 86400),
    "memory": whole(1, LARGEST_MEMORY, "MiB"),
    "cpu": number(0.01, LONGEST_TIMEOUT, "seconds of CPU time of one attempt"),
    "queue": text("whose workers run it"),
    "retention": number(0, LONGEST_RETENTION, "seconds for which it is kept after its end"),
    "unique": {"oneOf": [{"type": "boolean"}, text()]},
    "tags": {"type": "array", "items": text(), "maxItems": MOST_TAGS},
    "context": _KWARGS,
    "idempotency_key": text("submitted again by the same caller, it is the first job"),
    "idempotency_window": number(1, LONGEST_WINDOW),
    "concurrency_key": text(),
    "rate_key": text(),
    "trace": {
        "description": "the W3C trace that it belongs to, where that is not the request's",
        "oneOf": [_PARENT, an_object("traceparent", traceparent=_PARENT, tracestate=TEXT)],
    },
    **{
        name: {
            "description": "a request, or a list of them, for jobs that follow this one",
            "oneOf": [ref("Request"), {"type": "array", "items": ref("Request")}],
        }
        for name in FOLLOW_UPS
    },
}

SCHEMAS: dict[str, Schema] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457; error is the WAMP error URI",
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "error": TEXT,
            "field": TEXT,
            "value": {},
            "remedy": TEXT,
            "about": {"type": "object"},
            "request_id": TEXT,
        },
        "required": ["type", "title", "status", "error"],
    },
    "Request": {
        "type": "object",
        "properties": _REQUEST,
        "required": ["uri"],
        "additionalProperties": False,
    },
    "Batch": an_object(
        "jobs",
        jobs={"type": "array", "items": ref("Request"), "description": "up to 10000"},
    ),
    "Arguments": an_object(args=_ARGS, kwargs=_KWARGS),
    "Result": an_object("args kwargs", args=_ARGS, kwargs=_KWARGS),
    "Accepted": an_object("id", id=ID, state={"enum": [state.value for state in State]}),
    "AcceptedBatch": an_object("ids", ids={"type": "array", "items": ID}),
    "Error": {
        "type": ["object", "null"],
        "properties": {"error": TEXT, "message": TEXT, "about": {"type": "object"}},
    },
    "Summary": {
        "type": "object",
        "properties": {
            "id": ID,
            "uri": TEXT,
            "state": {"enum": [state.value for state in State]},
            "priority": {"type": "integer"},
            "queue": TEXT,
            "tags": {"type": "array", "items": TEXT},
            "attempt": {"type": "integer"},
            "seq": {"type": "integer", "description": "counts the job's journal; its ETag"},
            "error": ref("Error"),
            **dict.fromkeys(("created", "due"), NUMBER),
            **dict.fromkeys(("started", "finished", "expires"), _SECONDS),
        },
        "required": ["id", "uri", "state", "seq"],
    },
    "Job": {
        "allOf": [ref("Summary")],
        "type": "object",
        "properties": {
            "args": _ARGS,
            "kwargs": _KWARGS,
            "details": {"type": "object"},
            "result": {"oneOf": [ref("Result"), {"type": "null"}]},
            "followed_by": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["args", "kwargs", "result"],
    },
    "Jobs": an_object(
        "jobs next",
        jobs={"type": "array", "items": ref("Summary")},
        next={
            "type": ["string", "null"],
            "description": "the cursor of the next page, null on the last one",
        },
    ),
    "Event": {
        "type": "object",
        "properties": {
            "job": ID,
            "seq": {"type": "integer"},
            "at": NUMBER,
            "kind": {"type": "string", "description": "a state, progress, output or warning"},
            "data": {"type": "object"},
        },
        "required": ["job", "seq", "at", "kind", "data"],
    },
    "Events": an_object(
        "events next",
        events={"type": "array", "items": ref("Event")},
        next={
            "type": ["integer", "null"],
            "description": "send it as ?after= for the next page; null where this one is empty",
        },
    ),
}
