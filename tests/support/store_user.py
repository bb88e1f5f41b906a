"""A process that uses a store: ``python -m tests.support.store_user DEED URL [...]``.

It says ``ready``, waits for a line on stdin, does its deed and writes what came of it.
"""

import os
import signal
import sys
import time

from taskbus.core.lease import claim
from taskbus.model.job import State
from taskbus.port.store import Store
from taskbus.wire import open_store
from tests.support.values import added, applied, start, succeeded


class _Me:
    """Liveness: everybody lives."""

    def identity(self) -> str:
        return f"host/{os.getpid()}/1"

    def is_dead(self, identity: str) -> bool:
        return False


def crash_after_adding(store: Store, count: str) -> None:
    """Add jobs one by one and die at once."""
    ids = [added(store).id for _ in range(int(count))]
    sys.stdout.write("\n".join(ids) + "\n")
    sys.stdout.flush()
    last = added(store)
    os.write(1, f"{last.id}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def add_one(store: Store) -> None:
    """Add a job."""
    print(added(store).id)


def claim_all(store: Store) -> None:
    """Claim and settle every job that there is, and write the ids of those that were ours."""
    for job in reversed(store.jobs(limit=1000)):
        changes = claim(store.job(job.id), _Me(), time.time(), 60)
        if not isinstance(changes, list) or not all(store.advance(changes)):
            continue
        mine = changes[-1].after
        assert mine.state is State.RUNNING
        assert store.advance([succeeded(mine, f'"{os.getpid()}"')]) == [True]
        print(job.id)


def go_through_jobs(store: Store) -> None:
    """Add, start and settle jobs one by one, and write their ids."""
    for _ in range(30):
        job = applied(store, succeeded(applied(store, start(added(store)))))
        print(job.id)


def main() -> None:
    """Open the store only when told: some tests want that to happen all at once."""
    deed, url, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    globals()[deed](open_store(url), *arguments)


if __name__ == "__main__":
    main()
