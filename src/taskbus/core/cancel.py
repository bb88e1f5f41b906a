"""Cancelling: what waits ends at once, what runs is asked to end by the worker that runs it."""

from taskbus.core.retention import STANDARD_RETENTION, Retention, expiry
from taskbus.handler.perform import failure_text
from taskbus.model.errors import JobEnded, TaskCancelled
from taskbus.model.job import FINAL, Change, Job, State, move
from taskbus.port.clock import Clock
from taskbus.port.store import Store


def cancel(
    store: Store, clock: Clock, job: Job, actor: str, retention: Retention = STANDARD_RETENTION
) -> State:
    """End the job, or ask its worker to: ``CANCELLED``, or ``RUNNING`` until that has done so.

    Raises JobEnded where it has ended otherwise. A job that changes meanwhile is looked at again.
    """
    current: Job | None = job
    while current is not None and current.state is not State.CANCELLED:
        if current.state in FINAL:
            raise JobEnded(current.id, current.state)
        if current.state is State.RUNNING:
            if store.ask_to_end(current, actor):
                return State.RUNNING
        elif all(store.advance([cancelled(current, actor, clock(), retention)])):
            return State.CANCELLED
        current = store.job(job.id)
    return State.CANCELLED


def cancelled(
    job: Job,
    actor: str,
    now: float,
    retention: Retention = STANDARD_RETENTION,
    why: str = "",
) -> Change:
    """The change that ends the job for whoever has asked for it, or for what ``why`` says."""
    error = failure_text(TaskCancelled(why or f"cancelled by {actor}", actor=actor))
    return move(
        job, State.CANCELLED, now, reason=why or "cancelled", actor=actor,
        finished=now, expires=expiry(job, State.CANCELLED, now, retention),
        worker=None, lease=None, error=error,
    )  # fmt: skip
