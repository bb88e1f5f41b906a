"""Everything that can go wrong, as one family: each error has a WAMP error URI of its own.

An error that a caller caused says which field, which value and what to do instead; every door
(WAMP, HTTP, CLI) shows the same three.
"""

from typing import Any

from taskbus.model.portable import is_portable, portable_text

_SHOWN = 200


class TaskbusError(Exception):
    """Base of all errors that cross a door; ``about`` holds field, value, remedy where known."""

    uri: str = "taskbus.error.internal"

    def __init__(self, message: str, **about: Any) -> None:
        super().__init__(message)
        self.message = message
        self.about = {key: value for key, value in about.items() if value is not None}
        if "value" in self.about:
            self.about["value"] = shown(self.about["value"])

    def locate(self, place: str) -> None:
        """Tell where in a larger request the field is: ``uri`` becomes ``on_success.uri``."""
        field = self.about.get("field")
        self.about["field"] = f"{place}.{field}" if field else place
        if field and self.message.startswith(f"{field}:"):
            self.message = f"{place}.{self.message}"
        else:
            self.message = f"{self.about['field']}: {self.message}"

    def __str__(self) -> str:
        remedy = self.about.get("remedy")
        return f"{self.message}; {remedy}" if remedy else self.message


class InvalidArgument(TaskbusError):
    """A field of a request has a value that the bus cannot take."""

    uri = "taskbus.error.invalid_argument"

    def __init__(self, field: str, value: Any, problem: str, remedy: str) -> None:
        super().__init__(
            f"{field}: {problem} (got {shown(value)!r})", field=field, value=value, remedy=remedy
        )


class UnknownUri(TaskbusError):
    """No entry of the API map matches the URI."""

    uri = "taskbus.error.unknown_uri"

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"no entry of the API map matches {uri!r}",
            field="uri",
            value=uri,
            remedy="add it to the API map, or check the spelling with 'taskbus check'",
        )


class KeyTaken(TaskbusError):
    """Another job holds the key."""

    uri = "taskbus.error.key_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"another job holds the key {name!r}",
            value=name,
            remedy="wait for that job's end, or choose another key",
        )


class IdempotencyMismatch(TaskbusError):
    """The key was used for another request."""

    uri = "taskbus.error.idempotency_mismatch"

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            f"idempotency_key: {shown(key)!r} was used for another uri, args or kwargs, "
            f"by job {job_id}",
            field="idempotency_key",
            value=key,
            remedy="send the same request again, or another key",
        )


class NotUnique(TaskbusError):
    """The job is unique, and another one waits or runs in its place."""

    uri = "taskbus.error.not_unique"

    def __init__(self, job_id: str, holder: str) -> None:
        super().__init__(
            f"job {job_id} is unique, and job {holder} waits or runs in its place",
            field="job",
            value=job_id,
            remedy=f"wait for the end of job {holder}, or cancel it",
        )


class JobNotFound(TaskbusError):
    """No job has this id."""

    uri = "taskbus.error.job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"no job has the id {job_id!r}",
            field="job",
            value=job_id,
            remedy="use the id that submitting the job returned",
        )


class JobEnded(TaskbusError):
    """The job has ended already: there is nothing to cancel."""

    uri = "taskbus.error.job_ended"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id} has ended: it is {state}",
            field="job",
            value=job_id,
            remedy="cancel jobs that are scheduled, waiting, queued, running or retrying",
        )


class NotRunnable(TaskbusError):
    """The job cannot be run by whoever wants to, now."""

    uri = "taskbus.error.not_runnable"

    def __init__(self, job_id: str, problem: str, remedy: str) -> None:
        super().__init__(
            f"job {job_id} cannot be run here: {problem}", field="job", value=job_id, remedy=remedy
        )


class NotReporting(TaskbusError):
    """No attempt of the job is under way that hears reports of its progress."""

    uri = "taskbus.error.not_reporting"

    def __init__(self, number: int) -> None:
        super().__init__(
            f"job {number} does not hear of its progress",
            field="job",
            value=number,
            remedy="report while the request is under way that the job has sent",
        )


class NotReplayable(TaskbusError):
    """Only a job that ended without success can be queued again."""

    uri = "taskbus.error.not_replayable"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id} is {state}",
            field="job",
            value=job_id,
            remedy="replay jobs that are failed, dead or cancelled; submit the others anew",
        )


class JobChanged(TaskbusError):
    """The job is not any more what the caller knows."""

    uri = "taskbus.error.job_changed"

    def __init__(self, job_id: str, seq: int) -> None:
        super().__init__(
            f"job {job_id} has changed: its journal is at {seq}",
            field="seq",
            value=seq,
            remedy="look at the job, and ask again",
        )


class Unauthenticated(TaskbusError):
    """Nobody has proved who sends this, or the proof is not good any more."""

    uri = "taskbus.error.unauthenticated"


class StaleSignature(Unauthenticated):
    """The request was signed before another one that counts; signed once more it may be taken."""

    uri = "taskbus.error.stale_signature"


class Forbidden(TaskbusError):
    """The access key has no scope for this."""

    uri = "taskbus.error.forbidden"

    def __init__(self, action: str, uri: Any, field: str = "uri") -> None:
        wanted = f"{action}:{shown(uri)}"
        super().__init__(
            f"{field}: this access key has no scope for {wanted}",
            field=field,
            value=uri,
            remedy=f"use a key with the scope {wanted}, see 'taskbus key create'",
        )


class RateLimited(TaskbusError):
    """The access key has used up its requests; ``retry_after`` tells when there are more."""

    uri = "taskbus.error.rate_limited"

    def __init__(self, rate: str, retry_after: float) -> None:
        super().__init__(
            f"this access key may send {rate} requests",
            value=rate,
            retry_after=retry_after,
            remedy=f"send it again in {retry_after:.1f} seconds",
        )


class KeyNotFound(TaskbusError):
    """No access key has this id."""

    uri = "taskbus.error.key_not_found"

    def __init__(self, id_: str) -> None:
        super().__init__(
            f"no access key has the id {id_!r}",
            field="id",
            value=id_,
            remedy="see 'taskbus key list'",
        )


class ConfigError(TaskbusError):
    """The settings file or the API map is wrong at a place that the message names."""

    uri = "taskbus.error.config"

    def __init__(self, file: str, line: int | None, problem: str, remedy: str) -> None:
        where = f"{file}:{line}" if line else file
        super().__init__(f"{where}: {problem}", field=where, remedy=remedy)


class TaskFailure(TaskbusError):
    """A task failed. Task code may raise it to choose the message, the error URI and details."""

    uri = "taskbus.error.task_failed"

    def __init__(self, message: str, *, error_uri: str | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        if error_uri:
            self.uri = error_uri


class InvalidResult(TaskFailure):
    """A task returned something that cannot be sent (``taskbus.model.portable``)."""

    uri = "taskbus.error.invalid_result"


class TaskTimeout(TaskFailure):
    """A task did not end within its timeout."""

    uri = "taskbus.error.timeout"


class TaskKilled(TaskFailure):
    """The process that ran the task died without a result."""

    uri = "taskbus.error.killed"


class MemoryExceeded(TaskFailure):
    """A job's processes used more memory than it may."""

    uri = "taskbus.error.memory_exceeded"


class CpuExceeded(TaskFailure):
    """A job's processes used more CPU time than it may."""

    uri = "taskbus.error.cpu_exceeded"


class WorkerLost(TaskFailure):
    """The worker that ran the task died, more often than a job is allowed to outlive."""

    uri = "taskbus.error.worker_lost"


class TaskCancelled(TaskFailure):
    """The job was cancelled."""

    uri = "taskbus.error.cancelled"


class HandlerUnreachable(TaskFailure):
    """An http or exec handler could not be reached or started."""

    uri = "taskbus.error.handler_unreachable"


class HttpFailure(TaskFailure):
    """An http handler answered another status than success: ``taskbus.error.http.503``, unless it
    named its error itself.
    """

    uri = "taskbus.error.http"

    def __init__(
        self, message: str, status: int, *, error_uri: str | None = None, **about: Any
    ) -> None:
        super().__init__(
            message, error_uri=error_uri or f"{self.uri}.{status}", status=status, **about
        )
        self.status = status


class TargetBusy(TaskFailure):
    """As many calls as may already wait for an http handler's connections."""

    uri = "taskbus.error.target_busy"


class StoreUnavailable(TaskbusError):
    """The store did not take the write; nothing was accepted."""

    uri = "taskbus.error.store_unavailable"


class QueueUnavailable(TaskbusError):
    """The queue server cannot be reached."""

    uri = "taskbus.error.queue_unavailable"


class Stopped(TaskbusError):
    """The program that had the call was stopped, and could not wait for its end."""

    uri = "taskbus.error.stopped"


class Unsendable(TaskbusError):
    """An answer that the router does not carry."""

    uri = "taskbus.error.unsendable"


class WaitTimeout(TaskbusError):
    """The job had not finished when the caller's waiting time was over; the job goes on."""

    uri = "taskbus.error.wait_timeout"


def shown(value: Any) -> Any:
    """A value short enough for a message, as every door carries it; a long one keeps its start."""
    if isinstance(value, (int, float, bool)) and is_portable(value):
        return value
    if value is None:
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - it has no end, or is not ours
        text = f"a {type(value).__name__} that cannot be shown"
    start = portable_text(text[:_SHOWN])
    return start if len(text) <= _SHOWN else start + "..."
