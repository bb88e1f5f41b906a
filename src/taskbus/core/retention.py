"""How long an ended job is kept, with its journal and its result."""

from typing import NamedTuple

from taskbus.model.job import Job, State
from taskbus.model.policy import Policy

_DAY = 86400.0


class Retention(NamedTuple):
    """Seconds, where neither the API map nor the call says otherwise."""

    succeeded: float = 7 * _DAY
    dead_letters: float = 30 * _DAY


STANDARD_RETENTION = Retention()


def expiry(job: Job, state: State, now: float, retention: Retention) -> float:
    """When a job that ends now in this state is forgotten: not while its idempotency key, which
    answers with its id, is remembered.
    """
    policy = Policy.of(job.policy)
    standard = retention.succeeded if state is State.SUCCEEDED else retention.dead_letters
    expires = now + (standard if policy.retention is None else policy.retention)
    return max(expires, job.created + (policy.idempotency_window or 0.0))
