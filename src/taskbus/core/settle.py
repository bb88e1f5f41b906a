"""How an attempt's end becomes the job's next state."""

from taskbus.core.retry import backoff
from taskbus.handler.perform import Outcome
from taskbus.model.job import Change, Job, State, move
from taskbus.model.json import load


def settle(job: Job, outcome: Outcome, now: float) -> Change:
    """The change that ends the attempt: succeeded, retrying with a due time, or failed."""
    actor = job.worker or "worker"
    ended = {"worker": None, "lease": None}
    if outcome.ok:
        return move(
            job, State.SUCCEEDED, now, reason="returned", actor=actor,
            finished=now, error=None, result=outcome.body, **ended,
        )  # fmt: skip
    told = load(outcome.body)
    data = {"error": told["error"], "message": told["message"]}
    # A lost worker's attempt is not one of the task's own failures.
    failures = job.attempt - job.losses
    if failures <= job.retries:
        due = now + backoff(failures)
        return move(
            job, State.RETRYING, now, reason="failed, will be tried again", actor=actor,
            data=data | {"due": due}, due=due, error=outcome.body, **ended,
        )  # fmt: skip
    return move(
        job, State.FAILED, now, reason="failed", actor=actor,
        data=data, finished=now, error=outcome.body, **ended,
    )  # fmt: skip
