"""How the store keeps its speed as it grows.

    python -m bench.scale [--jobs 1000000]

fills one store with 1,000 queued jobs and another with many, and does the same work in both, in
turn, so that what the machine does meanwhile bears on both alike.
"""

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.environment import REPO
from taskbus.adapter.sql import SqlStore
from taskbus.model.identity import new_job_id
from taskbus.model.job import Change, Job, Placement, State, Submission, born, move
from taskbus.port.store import Store

FEW = 1000
RESULTS = REPO / "bench" / "scale.md"
_COMMIT = 16
_ROUNDS = 15
_TASKS = 20
# Of the jobs that fill a store, as in one that is in use.
_ENDED, _SCHEDULED = 0.2, 0.1
_BOUND = 2.0


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        few, many = (SqlStore(f"sqlite:///{Path(folder) / name}.db") for name in ("few", "many"))
        sizes = {FEW: _Filled(few, FEW), options.jobs: _Filled(many, options.jobs)}
        text = _report(sizes)
    RESULTS.write_text(text)
    print(text)


class _Filled:
    """A store with so many queued jobs, and some that have ended, and what is done with it."""

    def __init__(self, store: Store, jobs: int) -> None:
        self._store = store
        self._chance = random.Random(jobs)
        placements: list[Placement] = []
        for begin in range(0, jobs, FEW):
            batch = [_submission() for _ in range(min(FEW, jobs - begin))]
            store.add(batch)
            store.add([_later() for _ in range(round(_SCHEDULED * len(batch)))])
            placements += [one.job.placement for one in batch]
            self._end([one.job for one in batch if self._chance.random() < _ENDED])
        store.placed(placements)
        self._ids = [one.job for one in placements]
        self._fresh: Iterator[Job] = iter(())
        self.work: dict[str, Callable[[], object]] = {
            f"enqueue {_COMMIT} jobs, one commit": self._enqueue,
            "claim a job, any of them": self._claim,
            "settle it": self._settle,
            "get a job": lambda: store.job(self._any()),
            "list the newest 100": store.jobs,
            "list 100 from the middle": lambda: store.jobs(before=self._any()),
            "list 100 queued": lambda: store.jobs([State.QUEUED]),
            "list 100 failed, of which there are none": lambda: store.jobs([State.FAILED]),
            "list 100 of one task": lambda: store.jobs(uri="com.example.bench.task_7"),
            "list 100 of an unknown task": lambda: store.jobs(uri="com.example.none"),
            "what is due": lambda: store.due(time.time(), 500),
            "what the queue may not know": lambda: store.unplaced(time.time() - 5, 500),
            "a page of the journal": lambda: store.journal(store.position() - 100, 1000),
        }
        self._running: list[Job] = []

    def _any(self) -> str:
        return self._chance.choice(self._ids)

    def _enqueue(self) -> None:
        self._store.add([_submission() for _ in range(_COMMIT)])

    def _claim(self) -> None:
        job = self._store.job(self._any())
        while job is None or job.state is not State.QUEUED:
            job = self._store.job(self._any())
        change = _started(job)
        assert self._store.advance([change], durable=False) == [True]
        self._running.append(change.after)

    def _settle(self) -> None:
        change = _succeeded(self._running.pop())
        assert self._store.advance([change]) == [True]

    def _end(self, jobs: list[Job]) -> None:
        started = [_started(job) for job in jobs]
        self._store.advance(started, durable=False)
        self._store.advance([_succeeded(change.after) for change in started], durable=False)


def _submission() -> Submission:
    now = time.time()
    job = Job(
        id=new_job_id(), uri=f"com.example.bench.task_{next(_nth) % _TASKS}", state=State.QUEUED,
        priority=500, timeout=300.0, retries=0, args="[1]", kwargs="{}",
        details='{"caller_authid":"bench"}', created=now, due=now, seq=1,
    )  # fmt: skip
    return Submission(job, born(job, "submitted", "bench"))


def _later() -> Submission:
    one = _submission()
    return one._replace(job=one.job._replace(state=State.SCHEDULED, due=one.job.due + 86400))


_nth = itertools.count()


def _started(job: Job) -> Change:
    return move(
        job, State.RUNNING, time.time(), reason="claimed", actor="bench",
        started=time.time(), attempt=1, worker="bench", lease=time.time() + 60,
    )  # fmt: skip


def _succeeded(job: Job) -> Change:
    return move(
        job, State.SUCCEEDED, time.time(), reason="returned", actor="bench",
        finished=time.time(), worker=None, lease=None, result='{"args":[null],"kwargs":{}}',
    )  # fmt: skip


def _report(sizes: dict[int, _Filled]) -> str:
    taken: dict[tuple[str, int], list[float]] = {}
    names = list(next(iter(sizes.values())).work)
    for nth in range(_ROUNDS):
        for name in names:
            for jobs, filled in list(sizes.items())[:: 1 if nth % 2 else -1]:
                begin = time.perf_counter()
                filled.work[name]()
                taken.setdefault((name, jobs), []).append(time.perf_counter() - begin)
    few, many = sizes
    rows = []
    for name in names:
        small, large = (1e6 * statistics.median(taken[name, jobs]) for jobs in (few, many))
        verdict = "met" if large <= _BOUND * small else "MISSED"
        rows.append(f"| {name} | {small:,.0f} | {large:,.0f} | {large / small:.2f} | {verdict} |")
    return "\n".join(
        [
            "# The store as it grows",
            "",
            f"{time.strftime('%Y-%m-%d', time.gmtime())}; SQLite; medians of {_ROUNDS} in "
            f"microseconds; the same work in both stores, in turn. {_ENDED:.0%} of the jobs have "
            f"ended, the others are queued; {_SCHEDULED:.0%} more are scheduled. At most "
            f"{_BOUND:g} times as slow is the target.",
            "",
            f"| | {few:,} jobs | {many:,} jobs | ratio | |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
