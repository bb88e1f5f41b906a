"""A process that uses a store: ``python -m tests.support.store_user DEED URL [...]``.

It says ``ready``, waits for a line on stdin, does its deed and writes what came of it.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from taskbus.adapter.memory import MemoryBroker, MemoryQueue
from taskbus.core.admission import Admission, touched
from taskbus.core.follow import FollowUps
from taskbus.core.intake import Intake, prepare
from taskbus.core.lease import claim
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import Change, Job, State
from taskbus.port.clock import Clock
from taskbus.port.sides import Sides
from taskbus.port.store import Store
from taskbus.wire import open_sides
from tests.support.processes import line, python, say
from tests.support.values import added, applied, running, start, succeeded


def in_processes(count: int, deed: str, url: str) -> list[list[str]]:
    """What each of so many processes says that do the same at the same moment."""
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = [
            stack.enter_context(python("-m", "tests.support.store_user", deed, url))
            for _ in range(count)
        ]
        assert [line(process) for process in processes] == ["ready"] * count
        for process in processes:
            say(process, "go")
        outputs = [process.communicate()[0].split() for process in processes]
        assert [process.returncode for process in processes] == [0] * count
        return outputs


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


def end_all(sides: Sides) -> None:
    """End every queued job that nobody else does, follow it, and write what that lets go on."""
    store = sides.store
    follow_ups = FollowUps(store, sides.links, time.time)
    for job in reversed(store.jobs([State.QUEUED], limit=1000)):
        if store.advance([start(job)]) == [True]:
            over = applied(store, succeeded(start(job).after))
            for placement in follow_ups.after([over]):
                print(placement.job)


def go_through_jobs(store: Store) -> None:
    """Add, start and settle jobs one by one, and write their ids."""
    for _ in range(12):
        job = applied(store, succeeded(applied(store, start(added(store)))))
        print(job.id)


class _Silence:
    """A bell that nobody hears."""

    def ring(self) -> None:
        pass


def submit_the_same(sides: Sides, clock: Clock = time.time) -> None:
    """Submit 100 jobs with keys, one after the other, and write their ids."""
    api = ApiMap([Entry("com.x.y", "python", "a:b")])
    intake = Intake(sides.store, sides.keys, MemoryQueue(MemoryBroker()), _Silence())
    for nth in range(50):
        for key in ({"idempotency_key": f"key {nth}"}, {"unique": f"name {nth}"}):
            request = {"uri": "com.x.y", "args": [nth], **key}
            for answer in intake.accept([[prepare(api, clock, request, {})]]):
                assert isinstance(answer, list)
                print(*answer)


def fill_disk(store: Store, ballast: str) -> None:
    """Write until the disk is full, make room, go on; all that was taken has to be there."""
    Path(ballast).write_bytes(bytes(1_000_000))
    taken = [running(store)]
    for begin_anew in (True, False):
        refused = 0
        while refused < 3:
            try:
                taken.append(added(store, args=f'["{"x" * 5000}"]'))
            except StoreUnavailable:
                refused += 1
            assert len(taken) < 1000, "the disk does not get full"
        try:
            # What cannot be written is refused, and undone.
            if store.advance([succeeded(taken[0], "x" * 900_000)]) == [True]:
                raise AssertionError("a full disk took a result")
        except StoreUnavailable:
            pass
        assert store.job(taken[0].id) == taken[0]
        assert [job.id for job in store.jobs(limit=1000)] == [job.id for job in taken[::-1]]
        if begin_anew:
            os.unlink(ballast)
    assert store.position() == 1 + len(taken)
    print("whole")


def share_lane(sides: Sides, uri: str, most: str, mine: str) -> None:
    """Claim the job ``mine``, say what became of it and wait for a line; then run whatever is
    queued, with at most so many in the lane, until every job has ended.
    """
    entry = Entry(uri, "exec", ("true",), concurrency=int(most))
    store, limits = sides.store, sides.limits
    admission = Admission(store, limits, time.time, lambda: ApiMap([entry]), "me")
    nobody = MemoryQueue(MemoryBroker())  # All look into the store.

    def advance(changes: list[Change]) -> Job | None:
        done = store.advance(changes)
        for lane in touched(changes, done):
            admission.look(lane, nobody)
        return changes[-1].after if all(done) else None

    def begin(job: str) -> Job | None:
        changes = claim(store.job(job), _Me(), time.time(), 60)
        return advance(admission.admit(changes, time.time())) if isinstance(changes, list) else None

    job = None
    while job is None:
        job = begin(mine)
    print(job.state, flush=True)
    sys.stdin.readline()
    if job.state is State.RUNNING:
        assert advance([succeeded(job)])
    while set(store.counts()) != {State.SUCCEEDED}:
        for queued in store.jobs([State.QUEUED]):
            job = begin(queued.id)
            if job is not None and job.state is State.RUNNING:
                assert advance([succeeded(job)])
    nobody.close()


# These deeds take more than the store itself.
_OF_SIDES = ("submit_the_same", "end_all", "share_lane")


def main() -> None:
    """Open the store only when told: some tests want that to happen all at once."""
    deed, url, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    sides = open_sides(url)
    globals()[deed](sides if deed in _OF_SIDES else sides.store, *arguments)


if __name__ == "__main__":
    main()
