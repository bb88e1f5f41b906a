"""What clients of the queue server ask for: bodies become requests of jobs.

::

    {"command":  {"type": "http", "url": ..., "method": "GET", "timeout": 10, "params": {...}}
              or {"type": "exec", "cmd": "program argument"},
     "priority": 500, "context": "default", "retries": 0,
     "callback_done": a command that runs after the job's end,
     "callback_error": a command that runs after its failure}

Their clients know a job by a number. It is a tag of the job, so that both come and go together.
Numbers may be texts, as in a form. What a body has besides is ignored, as its clients expect.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from taskbus.model.builtin import EXEC_COMMAND, HTTP_COMMAND
from taskbus.model.errors import InvalidArgument, JobNotFound
from taskbus.model.job import FINAL, Job, State
from taskbus.model.json import check_field, load
from taskbus.model.options import (
    HIGHEST_PRIORITY,
    LONGEST_NAME,
    LONGEST_TIMEOUT,
    check_retries,
)
from taskbus.model.program import is_allowed, words
from taskbus.model.uri import COMMANDS
from taskbus.port.store import Store

# In an http command's URL: the job's number.
JOB_ID = "__JOBID__"
STANDARD_PRIORITY, STANDARD_CONTEXT = 500, "default"
STANDARD_HTTP_TIMEOUT, STANDARD_EXEC_TIMEOUT = 10.0, 300.0

# A job of an http command ends a little later than that, which has more to tell of a timeout.
_GRACE = 5.0
_LONGEST_CONTEXT = 255
_LONGEST_URL = 8000
_MOST_WORDS = 1000
_WORKER_STATUS = {State.RUNNING: 1, State.SUCCEEDED: 3}
_WAITS, _FAILED = 0, 99
_METHOD = re.compile(r"[A-Z]{1,20}")
_NOT_FOR_URLS = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_LARGEST_INTEGER = 10**15


def tag(number: int) -> str:
    """The tag of the job with this number."""
    return f"queue-server:{number}"


def numbered(store: Store, number: int) -> Job:
    """The job with this number, or JobNotFound."""
    for job in store.jobs((), f"{COMMANDS}.*", "", 1, tag(number)):
        return job
    raise JobNotFound(str(number))


def request(body: Any, number: int, programs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The request, for ``taskbus.core.plan``, of the job with this number.

    ``programs``: the argument lists that ``exec`` may run. Raises InvalidArgument.
    """
    if not isinstance(body, dict):
        raise InvalidArgument("body", body, "not an object", 'send {"command": {...}}')
    check_field("body", body)
    if _is_missing(body, "command"):
        raise InvalidArgument(
            "command", None, "missing", 'send {"command": {"type": "http", "url": "http://..."}}'
        )
    priority = _integer("priority", body.get("priority"), STANDARD_PRIORITY)
    context = _context(body.get("context"))
    shared = {"number": number, "priority": priority, "context": context}
    made = _command("command", body["command"], shared, programs)
    callbacks = {
        on: [_command(field, body[field], shared, programs) | {"tags": [f"callback-of:{number}"]}]
        for field, on in (("callback_done", "on_end"), ("callback_error", "on_failure"))
        if not _is_missing(body, field)
    }
    retries = _integer("retries", body.get("retries"), 0)
    # A context that is too long for a tag finds nothing.
    tags = [tag(number), f"context:{context}"]
    tags = [one for one in tags if len(one) <= LONGEST_NAME]
    return {**made, **callbacks, "retries": check_retries(retries), "tags": tags}


def status(job: Job) -> dict[str, Any]:
    """What the queue server tells of a job. Times are the machine's own, as MySQL writes them."""
    kwargs = load(job.kwargs)
    ended = job.finished if job.state in FINAL else None
    return {
        "id": kwargs["number"],
        "worker_status": _WORKER_STATUS.get(job.state, _FAILED if job.state in FINAL else _WAITS),
        "time_added": _written(job.created),
        "time_completed": None if ended is None else _written(ended),
        "priority": kwargs["priority"],
    }


def _command(
    field: str, told: Any, shared: Mapping[str, Any], programs: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """The request of one command. ``field`` names it in errors."""
    if not isinstance(told, dict):
        raise InvalidArgument(field, told, "not an object", 'send {"type": "http", "url": ...}')
    kind = told.get("type")
    try:
        if kind == "http":
            return _http(told, shared)
        if kind == "exec":
            return _exec(told, shared, programs)
        raise InvalidArgument("type", kind, "not a command", "use http or exec")
    except InvalidArgument as error:
        error.locate(field)
        raise


def _http(told: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    timeout = _seconds(told.get("timeout"), STANDARD_HTTP_TIMEOUT)
    kwargs = {
        **shared,
        "url": _url(told.get("url"), shared["number"]),
        "method": _method(told.get("method")),
        "timeout": timeout,
        "params": _params(told.get("params")),
    }
    return _request(HTTP_COMMAND, kwargs, timeout + _GRACE)


def _exec(
    told: Mapping[str, Any], shared: Mapping[str, Any], programs: Sequence[Sequence[str]]
) -> dict[str, Any]:
    timeout = _seconds(told.get("timeout"), STANDARD_EXEC_TIMEOUT)
    argv = _argv(told.get("cmd"))
    if not is_allowed(argv, programs):
        raise InvalidArgument(
            "cmd", told["cmd"], "not a command that the settings allow",
            "add its words to queue_server.exec in the settings"
            if programs
            else "queue_server.exec in the settings is empty: no exec command runs",
        )  # fmt: skip
    return _request(EXEC_COMMAND, {**shared, "argv": argv}, timeout)


def _request(uri: str, kwargs: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    # Priorities have no bounds there: those beyond ours run first, or last.
    priority = min(max(kwargs["priority"], 0), HIGHEST_PRIORITY)
    timeout = min(timeout, LONGEST_TIMEOUT)
    return {"uri": uri, "kwargs": dict(kwargs), "priority": priority, "timeout": timeout}


def _url(value: Any, number: int) -> str:
    if isinstance(value, str) and value and not _NOT_FOR_URLS.search(value):
        url = quote(value.replace(JOB_ID, str(number)).strip(), safe="!#$%&'()*+,/:;=?@[]~")
        try:
            parts = urlsplit(url)
            _ = parts.port  # Raises where it is no port.
        except ValueError:
            parts = urlsplit("")
        if parts.scheme in ("http", "https") and parts.hostname and len(url) <= _LONGEST_URL:
            return url
    raise InvalidArgument("url", value, "not an http URL", 'send "http://host/path"')


def _method(value: Any) -> str:
    method = value.upper() if isinstance(value, str) and value else value
    if method is None or method == "":
        return "GET"
    if isinstance(method, str) and _METHOD.fullmatch(method) and method not in ("CONNECT", "TRACE"):
        return method
    raise InvalidArgument("method", value, "not an HTTP method", "use GET, POST, PUT, DELETE, ...")


def _params(value: Any) -> Any:
    if value is None or value == "":
        return {}
    if isinstance(value, (dict, list)):
        return value
    raise InvalidArgument("params", value, "not an object", 'send {"name": value, ...}')


def _argv(value: Any) -> list[str]:
    argv = words(value) if isinstance(value, str) else value
    if (
        isinstance(argv, list)
        and 0 < len(argv) <= _MOST_WORDS
        and all(isinstance(word, str) and "\0" not in word for word in argv)
    ):
        return argv
    raise InvalidArgument("cmd", value, "not a command", 'send "program argument ..."')


def _context(value: Any) -> str:
    if value is None or value == "":
        return STANDARD_CONTEXT
    if isinstance(value, str) and len(value) <= _LONGEST_CONTEXT:
        return value
    raise InvalidArgument(
        "context", value, "not a text", f"send up to {_LONGEST_CONTEXT} characters"
    )


def _is_missing(body: Mapping[str, Any], field: str) -> bool:
    # PHP writes an empty object as a list, and a form knows empty texts only.
    return body.get(field) in (None, "", [], {})


def _integer(field: str, value: Any, standard: int) -> int:
    if value is None or value == "":
        return standard
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and abs(value) <= _LARGEST_INTEGER and value == int(value):
        return int(value)
    raise InvalidArgument(field, value, "not a whole number", "send a number without a fraction")


def _seconds(value: Any, standard: float) -> float:
    """0 is for as long as it takes."""
    if value is None or value == "":
        return standard
    seconds = value
    if isinstance(value, str):
        try:
            seconds = float(value)
        except ValueError:
            pass
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        if seconds == 0:
            return LONGEST_TIMEOUT
        if 0 < seconds <= LONGEST_TIMEOUT:
            return float(seconds)
    raise InvalidArgument(
        "timeout", value, "not a number of seconds", f"send up to {LONGEST_TIMEOUT:.0f}"
    )


def _written(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
