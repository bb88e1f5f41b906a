"""How the routes of ``taskbus.gateway.rest`` are described: OpenAPI operations."""

from taskbus.gateway.describe import (
    ID,
    IF_MATCH,
    IF_NONE_MATCH,
    JOB,
    PREFER,
    WAIT,
    answer,
    body,
    operation,
    parameter,
    ref,
    whole,
)
from taskbus.model.job import State

PAGE, MOST_LISTED = 100, 1000
_MOST = whole(1, MOST_LISTED)
_KEY = parameter(
    "Idempotency-Key",
    "header",
    "a name for this request: sent again, it is answered with the same jobs",
)
_ERRORS = {400: "a field or parameter is wrong", 403: "not within the key's scopes"}
_NO_JOB = {404: "there is no such job, or it is forgotten"}
_FENCED = {409: "the job's state does not allow it", 412: "the job has changed since"}

SUBMIT = operation(
    "submit a job, or many",
    WAIT,
    PREFER,
    _KEY,
    requestBody=body({"oneOf": [ref("Request"), ref("Batch")]}),
    answers={
        201: answer(
            "accepted, and stored",
            {"oneOf": [ref("Accepted"), ref("AcceptedBatch")]},
            Location="of the job",
        ),
        200: answer("with wait: the job, which has ended", ref("Job"), Location="of the job"),
        202: answer("with wait: it has not ended yet", ref("Accepted"), Location="of the job"),
        **_ERRORS,
        404: "no entry of the API map has this URI",
        422: "the idempotency key was used for another request",
    },
)
LIST = operation(
    "jobs, the newest first",
    parameter(
        "state",
        "query",
        "in one of these states",
        {"type": "array", "items": {"enum": [state.value for state in State]}},
    ),
    parameter("uri", "query", "of this URI, or below it: com.example.shop.*"),
    parameter("tag", "query", "with this tag"),
    parameter("limit", "query", f"jobs of a page, {PAGE} where nothing is said", _MOST),
    parameter("cursor", "query", "the next of the page before", ID),
    answers={200: answer("a page", ref("Jobs"), Link="the next page"), **_ERRORS},
)
GET = operation(
    "a job, with its arguments and its result",
    JOB,
    WAIT,
    PREFER,
    IF_NONE_MATCH,
    answers={
        200: answer("the job", ref("Job"), ETag="its seq"),
        304: answer("it has not changed"),
        **_NO_JOB,
    },
)
RESULT = operation(
    "what the task has returned",
    JOB,
    WAIT,
    PREFER,
    IF_NONE_MATCH,
    answers={
        200: answer("the result", ref("Result"), ETag="the job's seq"),
        202: answer("the job has not ended", ref("Accepted"), Retry_After="seconds"),
        304: answer("it has not changed"),
        **_NO_JOB,
        409: "the job has failed; the error is the task's",
        410: "the job was cancelled",
    },
)
EVENTS = operation(
    "the job's journal: its states, progress and output",
    JOB,
    parameter("after", "query", "events with a greater seq", whole(0, 2**31)),
    parameter("limit", "query", "events of a page", _MOST),
    answers={200: answer("a page", ref("Events"), Link="the next page"), **_ERRORS, **_NO_JOB},
)
CANCEL = operation(
    "end a job",
    JOB,
    IF_MATCH,
    answers={
        200: answer("it is cancelled", ref("Accepted")),
        202: answer("its worker is asked to end it", ref("Accepted")),
        **_ERRORS,
        **_NO_JOB,
        **_FENCED,
    },
)
RETRY = operation(
    "run a job again, or at once where it waits for its time, as it was submitted",
    JOB,
    WAIT,
    PREFER,
    IF_MATCH,
    answers={
        200: answer("with wait: the job, which has ended again", ref("Job")),
        202: answer("it is queued", ref("Accepted")),
        **_ERRORS,
        **_NO_JOB,
        **_FENCED,
    },
)
REPLAY = operation(
    "run a job again that ended without success",
    JOB,
    WAIT,
    PREFER,
    IF_MATCH,
    requestBody=body(ref("Arguments"), required=False),
    answers={
        200: answer("with wait: the job, which has ended again", ref("Job")),
        202: answer("it is queued", ref("Accepted")),
        **_ERRORS,
        **_NO_JOB,
        **_FENCED,
    },
)
CALL = operation(
    "call a URI, and wait for its result; who hangs up cancels it",
    parameter("uri", "path", "a URI of the API map, or of the bus itself"),
    WAIT,
    PREFER,
    requestBody=body(ref("Arguments"), required=False),
    answers={
        200: answer(
            "the result; with wait, of a call that has become a job: the job, which has ended",
            {"oneOf": [ref("Result"), ref("Job")]},
        ),
        202: answer("it is a job", ref("Accepted"), Location="of the job"),
        **_ERRORS,
        404: "nobody serves this URI",
        422: "the task has refused the call, with an error of its own",
        500: "the task has failed",
        504: "the task's timeout is over",
    },
)
