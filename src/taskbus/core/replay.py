"""Replay: a job that ended without success is queued once more, as if it were new. Retry: the same,
or what waits for its time need not wait any longer.
"""

from taskbus.core.keys import unique_key
from taskbus.model.errors import InvalidArgument, NotReplayable
from taskbus.model.job import REPLAYABLE, Change, Job, State, move
from taskbus.model.policy import Policy
from taskbus.model.uri import TASKS, in_namespace


def replay(
    job: Job, actor: str, now: float, args: str | None = None, kwargs: str | None = None
) -> Change:
    """The change that queues it again, with other arguments, JSON, where they are given.

    Attempts count on; retries begin anew. A unique job takes its key again: a store refuses the
    change while another one holds it. Raises NotReplayable where it has succeeded or has not ended,
    InvalidArgument where its arguments cannot be others.
    """
    if job.state not in REPLAYABLE:
        raise NotReplayable(job.id, job.state)
    if in_namespace(job.uri, TASKS) and not (args is None and kwargs is None):
        # What it may be given, has been judged where it was accepted.
        raise InvalidArgument(
            "args" if kwargs is None else "kwargs", args or kwargs, "for a task of the bus itself",
            "replay it with the arguments that it had",
        )  # fmt: skip
    unique = Policy.of(job.policy).unique
    change = move(
        job, State.QUEUED, now, reason="replayed", actor=actor,
        args=job.args if args is None else args,
        kwargs=job.kwargs if kwargs is None else kwargs,
        due=now, started=None, finished=None, expires=None,
        failures=0, losses=0, error=None, cancel=None, tied=1 if unique else job.tied,
    )  # fmt: skip
    return change._replace(keys=(unique_key(change.after, unique),)) if unique else change


def retry(job: Job, actor: str, now: float) -> Change:
    """The change that queues it now; raises NotReplayable where it has succeeded, runs, is queued
    already, or waits for other jobs.
    """
    if job.state in (State.SCHEDULED, State.RETRYING):
        return move(job, State.QUEUED, now, reason="not to wait", actor=actor, due=now)
    return replay(job, actor, now)
