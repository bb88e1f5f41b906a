"""How routes describe themselves: parts of OpenAPI 3.1 operations, and the schemas they share."""

from collections.abc import Mapping
from typing import Any

from taskbus.model.job import State
from taskbus.model.options import FOLLOW_UPS, HIGHEST_PRIORITY, PRIORITIES

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


def parameter(name: str, where: str, text: str, schema: Schema = TEXT) -> Schema:
    """``where``: query, header or path."""
    needed = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "description": text, "schema": schema, **needed}


def body(schema: Schema, required: bool = True) -> Schema:
    """What is sent as JSON."""
    return {"required": required, "content": {JSON: {"schema": schema}}}


def answer(text: str, schema: Schema | None = None, **headers: str) -> Schema:
    """What comes back. A header's ``_`` is a dash."""
    told: dict[str, Any] = {"description": text}
    if schema is not None:
        told["content"] = {JSON: {"schema": schema}}
    if headers:
        told["headers"] = {
            name.replace("_", "-"): {"description": what, "schema": TEXT}
            for name, what in headers.items()
        }
    return told


def operation(summary: str, *parameters: Schema, answers: Mapping[int, Any], **more: Any) -> Schema:
    """``answers`` by status: each an ``answer``, or the text of an error."""
    responses = {
        str(status): _problem(told) if isinstance(told, str) else told
        for status, told in answers.items()
    }
    return {"summary": summary, "parameters": [*parameters], "responses": responses, **more}


def _problem(text: str) -> Schema:
    return {
        "description": text,
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
    "delay": {"type": "number", "minimum": 0, "description": "not before so many seconds"},
    "run_at": {
        "type": ["string", "number"],
        "description": "not before this time: ISO 8601 with its offset, or seconds since the epoch",
    },
    "timeout": {"type": "number", "description": "seconds that one attempt may take"},
    "retries": {"type": "integer", "minimum": 0, "maximum": 100},
    "backoff": {
        "type": "object",
        "properties": dict.fromkeys(("first", "factor", "longest", "jitter"), NUMBER),
        "additionalProperties": False,
    },
    "retry_on": {"type": "array", "items": TEXT, "description": "only errors with these URIs"},
    "ttr": {"type": "number"},
    "memory": {"type": "integer", "description": "MiB"},
    "cpu": {"type": "number", "description": "seconds of CPU time of one attempt"},
    "queue": TEXT,
    "retention": {"type": "number", "description": "seconds for which it is kept after its end"},
    "unique": {"type": ["boolean", "string"]},
    "tags": {"type": "array", "items": TEXT},
    "context": _KWARGS,
    "idempotency_key": {
        "type": "string",
        "description": "submitted again by the same caller, it is the first job",
    },
    "idempotency_window": {"type": "number"},
    "concurrency_key": TEXT,
    "rate_key": TEXT,
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
        jobs={"type": "array", "items": ref("Request"), "maxItems": 10_000},
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
