"""Pick: somebody wants one job run now, by a worker of their own."""

from taskbus.core.replay import replay
from taskbus.model.errors import NotRunnable, NotUnique
from taskbus.model.job import REPLAYABLE, Change, Job, State, move
from taskbus.port.clock import Clock
from taskbus.port.keys import Keys
from taskbus.port.store import Store, existing

_DUE_LATER = frozenset({State.SCHEDULED, State.RETRYING})
# So many others in a row were faster.
_MOST_RACES = 10


def pick(store: Store, keys: Keys, clock: Clock, job_id: str, actor: str, again: bool) -> None:
    """Make the job one that a worker can claim at once: what is due later is due now, and what has
    ended without success is replayed where it is to run ``again``. The queue hears nothing of it,
    so that no other worker does, before a chore tells it.

    Raises JobNotFound, NotReplayable, NotUnique, and NotRunnable where it has ended or waits for
    others. That another worker runs it is left for the claim to find.
    """
    for _ in range(_MOST_RACES):
        job = existing(store, job_id)
        change = _change(job, clock(), actor, again)
        if change is None or all(store.advance([change])):
            return
        for held in keys.holders([key.name for key in change.keys], clock()).values():
            raise NotUnique(job_id, held.job)
    raise NotRunnable(job_id, "others change it all the time", "try again")


def _change(job: Job, now: float, actor: str, again: bool) -> Change | None:
    if job.state in (State.QUEUED, State.RUNNING):
        return None
    if job.state in _DUE_LATER:
        return move(job, State.QUEUED, now, reason="wanted now", actor=actor)
    if job.state is State.WAITING:
        what = f"room under the limit of {job.lane}" if job.lane else "the end of others"
        raise NotRunnable(job.id, f"it waits for {what}", "run it once it is queued")
    if again:
        return replay(job, actor, now)
    remedy = "add --again" if job.state in REPLAYABLE else "submit it anew"
    raise NotRunnable(job.id, f"it has ended, and is {job.state}", remedy)
