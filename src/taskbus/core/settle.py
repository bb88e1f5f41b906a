"""How an attempt's end becomes the job's next state."""

from taskbus.core.cancel import cancelled
from taskbus.core.retention import STANDARD_RETENTION, Retention, expiry
from taskbus.core.retry import backoff, is_worth, wish
from taskbus.handler.perform import Outcome
from taskbus.model.job import Change, Job, Note, State, move, note
from taskbus.model.json import load
from taskbus.model.policy import Policy


def conclude(
    job: Job, words: list[Note], outcome: Outcome, now: float, retention: Retention
) -> list[Change]:
    """The changes that store the attempt's last words, where there are any, and then end it."""
    said = [note(job, now, words)] if words else []
    return [*said, settle(said[-1].after if said else job, outcome, now, retention)]


def settle(
    job: Job, outcome: Outcome, now: float, retention: Retention = STANDARD_RETENTION
) -> Change:
    """The change that ends the attempt: succeeded, cancelled, retrying with a due time, failed.

    A task that was asked to end and succeeded nevertheless has succeeded.
    """
    actor = job.worker or "worker"
    ended = {"worker": None, "lease": None}
    if outcome.ok:
        return move(
            job, State.SUCCEEDED, now, reason="returned", actor=actor,
            finished=now, expires=expiry(job, State.SUCCEEDED, now, retention),
            error=None, result=outcome.body, **ended,
        )  # fmt: skip
    if job.cancel is not None:
        return cancelled(job, job.cancel, now, retention)
    told = load(outcome.body)
    data = {"error": told["error"], "message": told["message"]}
    failures = job.failures + 1
    policy = Policy.of(job.policy)
    if failures <= job.retries and is_worth(told["error"], policy.retry_on):
        due = now + max(backoff(failures, policy=policy.backoff), wish(told["about"]))
        return move(
            job, State.RETRYING, now, reason="failed, will be tried again", actor=actor,
            data=data | {"due": due}, due=due, failures=failures, error=outcome.body, **ended,
        )  # fmt: skip
    return move(
        job, State.FAILED, now, reason="failed", actor=actor,
        data=data, finished=now, expires=expiry(job, State.FAILED, now, retention),
        failures=failures, error=outcome.body, **ended,
    )  # fmt: skip
