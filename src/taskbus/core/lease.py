"""Who may run a job: claims are fenced by the job's sequence number and a lease.

The queue may deliver a job twice (its reservation timed out, the server restarted, an entry was
put twice); only the store decides whether the job runs again.
"""

from typing import Any, NamedTuple

from taskbus.core.cancel import cancelled
from taskbus.core.retention import STANDARD_RETENTION, Retention, expiry
from taskbus.handler.perform import failure_text
from taskbus.model.errors import WorkerLost
from taskbus.model.job import Change, Job, State, move
from taskbus.model.policy import Policy
from taskbus.port.liveness import Liveness

# After that many workers died with it in hand, a job is dead: it may be what kills them.
MOST_LOSSES = 3
_LOOK_AGAIN = 1.0


class Busy(NamedTuple):
    """Another worker has it: look again in ``delay`` seconds."""

    delay: float


class Nothing(NamedTuple):
    """There is nothing to run."""

    reason: str


def claim(
    job: Job | None,
    liveness: Liveness,
    now: float,
    ttr: float,
    retention: Retention = STANDARD_RETENTION,
) -> list[Change] | Busy | Nothing:
    """The changes that take the job for one attempt, with a lease of ``ttr`` seconds from now where
    it has no time of its own.

    They are a claim once the store has applied them all; when the last one's state is not running,
    the job has ended instead.
    """
    if job is None:
        return Nothing("no such job")
    ttr = lease_seconds(job, ttr)
    if job.state is State.QUEUED:
        return [_start(job, liveness.identity(), now, ttr)]
    if job.state is not State.RUNNING:
        return Nothing(job.state)
    if not is_lost(job, liveness, now):
        return Busy(_LOOK_AGAIN)
    taken = take_over(job, now, "worker", retention)
    if taken.after.state is State.QUEUED:
        return [taken, _start(taken.after, liveness.identity(), now, ttr)]
    return [taken]


def lease_seconds(job: Job, ttr: float) -> float:
    """How long a claim of this job lasts, where others last ``ttr`` seconds."""
    return ttr if job.policy == "{}" else Policy.of(job.policy).ttr or ttr


def is_lost(job: Job, liveness: Liveness, now: float) -> bool:
    """Whether nobody keeps this running job's claim."""
    if job.lease is not None and job.lease < now:
        return True
    return job.worker is not None and liveness.is_dead(job.worker)


def take_over(
    job: Job, now: float, actor: str, retention: Retention = STANDARD_RETENTION
) -> Change:
    """The worker died with the job in hand: queued again, unless it has died too often."""
    if job.cancel is not None:
        return cancelled(job, job.cancel, now, retention)
    losses = job.losses + 1
    lost: dict[str, Any] = {"worker": None, "lease": None, "losses": losses}
    if losses < MOST_LOSSES:
        reason = f"worker {job.worker} lost"
        return move(job, State.QUEUED, now, reason=reason, actor=actor, **lost)
    error = failure_text(
        WorkerLost(f"{losses} workers died while they ran this job, the last was {job.worker}")
    )
    return move(
        job, State.DEAD, now, reason="worker lost too often", actor=actor,
        finished=now, expires=expiry(job, State.DEAD, now, retention), error=error, **lost,
    )  # fmt: skip


def _start(job: Job, worker: str, now: float, ttr: float) -> Change:
    return move(
        job, State.RUNNING, now, reason="claimed", actor=worker,
        data={"attempt": job.attempt + 1},
        started=now, attempt=job.attempt + 1, worker=worker, lease=now + ttr,
    )  # fmt: skip
