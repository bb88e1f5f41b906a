"""The routes of the queue server, as the OpenAPI document has them."""

from taskbus.gateway.describe import (
    JSON,
    NUMBER,
    TEXT,
    Schema,
    an_object,
    answer,
    body,
    operation,
    parameter,
    ref,
)
from taskbus.gateway.problem import MEDIA_TYPE
from taskbus.task.http_command import TOKEN_HEADER

_WHOLE = {"type": "integer"}
_COMMAND = {
    "type": "object",
    "description": "http: url, and where wanted method, timeout and params; exec: cmd",
    "properties": {
        "type": {"enum": ["http", "exec"]},
        "url": {"type": "string", "description": "__JOBID__ in it is the job's id"},
        "method": TEXT,
        "timeout": NUMBER,
        "params": {"type": ["object", "array"]},
        "cmd": {"type": ["string", "array"]},
    },
    "required": ["type"],
}
_DONE = "a command that runs once the job has ended"
_ADDED = {
    "type": "object",
    "properties": {
        "command": _COMMAND,
        "priority": {"type": ["integer", "string"], "description": "higher runs earlier"},
        "context": TEXT,
        "retries": {"type": ["integer", "string"]},
        "callback_done": {"type": "object", "description": _DONE},
        "callback_error": {"type": "object", "description": f"{_DONE} without success"},
    },
    "required": ["command"],
}
_OK = {"status": {"const": "OK"}}
_ERRORS = an_object(
    "status data", status=_WHOLE, data=TEXT, error=TEXT, field=TEXT, value={}, remedy=TEXT
)


def _refusing(text: str) -> Schema:
    """What is wrong with the request as such, is told by the server, in its own way."""
    content = {JSON: {"schema": _ERRORS}, MEDIA_TYPE: {"schema": ref("Problem")}}
    return {"description": text, "content": content}


_REFUSED = {
    status: _refusing(text)
    for status, text in (
        (400, "the body is wrong"),
        (401, "it needs an access key"),
        (403, "the access key has no scope for it"),
    )
}
_UNKNOWN = {404: _refusing("there is no such job")}
_ID = parameter("id", "path", "the job_id of the answer to /jobs/add")
ADD = operation(
    "Add a job, as clients of another queue server do; forms are taken, too",
    answers={200: answer("it is stored", an_object("status job_id", **_OK, job_id=TEXT)),
             **_REFUSED},
    requestBody=body(_ADDED),
)  # fmt: skip
COUNTS = operation(
    "How many of these jobs wait and run",
    answers={
        200: answer(
            "their counts",
            an_object(
                "status data",
                status=_WHOLE,
                data=an_object(
                    "waiting working max_threads free_threads",
                    waiting=_WHOLE, working=_WHOLE, max_threads=_WHOLE, free_threads=_WHOLE,
                ),
            ),
        ),
        **_REFUSED,
    },
)  # fmt: skip
JOB = operation(
    "How one of these jobs stands: worker_status is 0, it waits, 1, it runs, 3, it has succeeded, "
    "or 99, it has not",
    _ID,
    answers={
        200: answer(
            "the job",
            an_object(
                "status data",
                status=_WHOLE,
                data=an_object(
                    "id worker_status time_added time_completed priority",
                    id=_WHOLE,
                    worker_status={"enum": [0, 1, 3, 99]},
                    time_added=TEXT,
                    time_completed={"type": ["string", "null"]},
                    priority=_WHOLE,
                ),
            ),
        ),
        **_REFUSED,
        **_UNKNOWN,
    },
)
PROGRESS = operation(
    "What the target of an http command tells of its progress",
    _ID,
    parameter(TOKEN_HEADER, "header", "as it came with the request of the job"),
    answers={
        200: answer("it is told", an_object("status", **_OK)),
        **_REFUSED,
        **_UNKNOWN,
        409: _refusing("the request is not under way any more"),
    },
    requestBody=body(
        {
            "type": "object",
            "properties": {"progress": {"type": ["number", "string"]}, "message": TEXT},
            "required": ["progress"],
        }
    ),
)
