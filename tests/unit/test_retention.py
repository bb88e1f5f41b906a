"""How long ended jobs are kept, and who forgets them."""

from typing import Any

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_expiry import MemoryExpiry
from taskbus.adapter.memory_keys import MemoryKeys
from taskbus.core.cancel import cancelled
from taskbus.core.chores import Chores
from taskbus.core.forget import forgetting
from taskbus.core.lease import MOST_LOSSES, claim
from taskbus.core.replay import replay
from taskbus.core.retention import Retention, expiry
from taskbus.core.settle import settle
from taskbus.handler.perform import Outcome
from taskbus.model.job import Change, Job, Key, State
from taskbus.model.policy import Policy
from tests.support.values import a_job, add, applied, submission

RETENTION = Retention(100.0, 200.0)
FAILURE = '{"error":"com.x.error","message":"no","about":{}}'


class AllDead:
    """Liveness: no worker lives."""

    def identity(self) -> str:
        return "host/2/2"

    def is_dead(self, identity: str) -> bool:
        return True


def in_hand(**fields: Any) -> Job:
    return a_job(state=State.RUNNING, attempt=1, worker="host/1/1", lease=1.0, **fields)


def dead(job: Job) -> Change:
    changes = claim(job._replace(losses=MOST_LOSSES - 1), AllDead(), 5000.0, 60, RETENTION)
    assert isinstance(changes, list)
    return changes[-1]


def unwanted(job: Job) -> Change:
    changes = claim(job._replace(cancel="ann"), AllDead(), 5000.0, 60, RETENTION)
    assert isinstance(changes, list)
    return changes[-1]


ENDS = {
    "succeeded": lambda job: settle(job, Outcome(True, "{}"), 5000.0, RETENTION),
    "failed": lambda job: settle(job, Outcome(False, FAILURE), 5000.0, RETENTION),
    "cancelled": lambda job: cancelled(job, "ann", 5000.0, RETENTION),
    "killed": lambda job: settle(
        job._replace(cancel="ann"), Outcome(False, FAILURE), 5000.0, RETENTION
    ),
    "dead": dead,
    "unwanted": unwanted,
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_says_when_the_job_is_forgotten(end: str) -> None:
    standard = 5100.0 if end == "succeeded" else 5200.0
    assert ENDS[end](in_hand()).after.expires == standard
    own = ENDS[end](in_hand(policy=Policy(retention=7.0).text)).after
    assert own.expires == 5007.0
    if end != "succeeded":
        assert replay(own, "ann", 5001.0).after.expires is None


def test_what_goes_on_is_not_forgotten() -> None:
    job = in_hand(retries=3)
    assert settle(job, Outcome(False, FAILURE), 5000.0, RETENTION).after.expires is None
    changes = claim(job, AllDead(), 5000.0, 60, RETENTION)
    assert isinstance(changes, list)
    assert [change.after.expires for change in changes] == [None, None]


def test_a_job_is_kept_while_its_idempotency_key_is_remembered() -> None:
    policy = Policy(retention=0.0, idempotency_window=3600.0).text
    job = in_hand(created=1000.0, policy=policy)
    assert expiry(job, State.SUCCEEDED, 1010.0, RETENTION) == 4600.0
    assert expiry(job, State.SUCCEEDED, 9999.0, RETENTION) == 9999.0


def test_the_chores_forget() -> None:
    store, queue, now = MemoryStore(), MemoryQueue(MemoryBroker()), 1000.0
    keys = MemoryKeys(store)
    more = forgetting(store, keys, MemoryExpiry(store), lambda: now)
    chores = Chores(store, queue, lambda: now, *more)
    jobs = [a_job() for _ in range(1200)]
    store.add([submission(jobs[0], [Key("key", jobs[0].id, 1050.0)])])
    add(store, *jobs[1:])
    for job in jobs:
        applied(store, cancelled(job, "ann", now, RETENTION))
    chores.run()
    assert store.counts()[State.CANCELLED] == 1200
    assert keys.holders(["key"], 0.0)
    now = 1100.0
    chores.run()
    assert keys.holders(["key"], 0.0) == {}
    # Somebody may still wait for its result.
    now = 1200.0
    chores.run()
    assert store.counts()[State.CANCELLED] == 1200
    now = 1220.0
    assert [chores.run() > 0 for _ in range(3)] == [False, False, True]
    assert store.jobs() == []
    queue.close()
