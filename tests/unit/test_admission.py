"""Who begins under the limits, who waits and who goes on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_limits import MemoryLimits
from taskbus.core.admission import Admission, Sweep, touched
from taskbus.core.cancel import cancel
from taskbus.core.chores import Chores
from taskbus.core.lease import claim, take_over
from taskbus.core.limit import Lane, Valve, as_it_is
from taskbus.core.settle import settle
from taskbus.handler.perform import Outcome, failure_text
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import QueueUnavailable, TaskFailure
from taskbus.model.job import FINAL, Change, Job, State
from taskbus.model.options import Backoff, Rate
from taskbus.model.policy import Policy
from taskbus.port.store import existing
from tests.support.values import added

URI = "com.example.dante.sleeper"


class Names:
    """Liveness: these have died."""

    def __init__(self) -> None:
        self.dead: set[str] = set()

    def identity(self) -> str:
        return "me"

    def is_dead(self, identity: str) -> bool:
        return identity in self.dead


class Site:
    """Store and queue, a clock and an API map that the test changes, and workers in their steps."""

    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.limits = MemoryLimits(self.store)
        self.queue = MemoryQueue(self.broker)
        self.liveness = Names()
        self.now = 1000.0
        self.limit()
        self.valve: Valve = as_it_is
        self.admission = Admission(
            self.store,
            self.limits,
            self.clock,
            lambda: self.api,
            self.liveness.identity(),
            self.through,
        )
        self.sweep = Sweep(self.admission, self.limits, self.queue, self.clock)

    def clock(self) -> float:
        return self.now

    def through(self, lane: Lane) -> Lane:
        return self.valve(lane)

    def limit(self, concurrency: int | None = None, rate: Rate | None = None) -> None:
        """Change the API map."""
        entry = Entry(URI, "exec", ("true",), concurrency=concurrency, rate=rate)
        self.api = ApiMap([entry])

    def submit(self, **fields: Any) -> Job:
        policy = Policy(**{key: fields.pop(key) for key in Policy._fields if key in fields})
        return added(self.store, policy=policy.text, **fields)

    def decide(self, job: Job) -> list[Change]:
        """What a worker decides to whom the queue delivers the job."""
        changes = claim(existing(self.store, job.id), self.liveness, self.now, 60)
        assert isinstance(changes, list)
        return self.admission.admit(changes, self.now)

    def commit(self, changes: list[Change], survives: bool = True) -> bool:
        """The worker's commit, and what it does then unless it dies."""
        done = self.store.advance(changes)
        for lane in touched(changes, done) if survives else ():
            self.admission.look(lane, self.queue)
        return all(done)

    def begin(self, job: Job) -> State:
        """What becomes of the job when the queue delivers it."""
        assert self.commit(self.decide(job))
        return self.state(job)

    def end(self, job: Job, survives: bool = True, error: str = "") -> None:
        """The attempt ends, well unless there is an error."""
        body = failure_text(TaskFailure(error)) if error else '{"args":[],"kwargs":{}}'
        outcome = Outcome(not error, body)
        change = settle(existing(self.store, job.id), outcome, self.now)
        assert self.commit([change], survives)

    def deliver(self) -> list[str]:
        """What the queue has, in its order; no longer there afterwards."""
        jobs = []
        while self.queue.stats().ready:
            self.queue.request()
            delivery = self.queue.take()
            assert delivery is not None
            self.queue.delete(delivery)
            jobs.append(delivery.job)
        return jobs

    def state(self, job: Job) -> State:
        return existing(self.store, job.id).state

    def reason(self, job: Job) -> str:
        return str(json.loads(self.store.events(job.id)[-1].data)["reason"])


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.queue.close()


# Concurrency


def test_without_a_limit_nothing_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.limits, "places", None)
    job = site.submit(concurrency_key="ann", rate_key="ann")
    assert site.begin(job) is State.RUNNING
    site.end(job)
    assert existing(site.store, job.id).lane is None


def test_a_uri_that_the_map_has_no_more_is_not_limited(site: Site) -> None:
    assert site.begin(site.submit(uri="com.example.gone")) is State.RUNNING


def test_one_too_many_waits_and_goes_on(site: Site) -> None:
    site.limit(concurrency=2)
    one, other, third = (site.submit() for _ in range(3))
    assert [site.begin(job) for job in (one, other, third)] == ["running", "running", "waiting"]
    assert existing(site.store, third.id).lane == URI
    assert site.reason(third) == f"limit of {URI}: 2 at a time"
    assert site.deliver() == []
    site.end(other)
    assert site.deliver() == [third.id]
    assert site.reason(third) == "the limit has room: 2 at a time"
    assert site.begin(third) is State.RUNNING


def test_each_key_counts_for_itself(site: Site) -> None:
    site.limit(concurrency=1)
    ann, other, bob = (site.submit(concurrency_key=key) for key in ("ann", "ann", "bob"))
    assert [site.begin(job) for job in (ann, other, bob)] == ["running", "waiting", "running"]
    site.end(bob)
    assert site.state(other) is State.WAITING
    site.end(ann)
    assert site.deliver() == [other.id]


def test_the_most_urgent_goes_on_first_and_then_the_oldest(site: Site) -> None:
    site.limit(concurrency=1)
    first = site.submit()
    jobs = [site.submit(priority=priority) for priority in (500, 250, 750, 500)]
    order = []
    for job in (first, *jobs):
        site.begin(job)
    site.end(first)
    while found := site.deliver():
        [job_id] = found
        order.append(job_id)
        job = existing(site.store, job_id)
        assert site.begin(job) is State.RUNNING
        site.end(job)
    assert order == [jobs[nth].id for nth in (2, 0, 3, 1)]


@pytest.mark.parametrize("error", ["", "no luck"])
def test_a_failure_gives_the_place_back_too(site: Site, error: str) -> None:
    site.limit(concurrency=1)
    one, other = site.submit(retries=1), site.submit()
    assert [site.begin(one), site.begin(other)] == ["running", "waiting"]
    site.end(one, error=error)
    assert site.deliver() == [other.id]
    assert site.begin(other) is State.RUNNING


def test_two_who_want_the_same_place_do_not_both_get_it(site: Site) -> None:
    site.limit(concurrency=1)
    one, other = site.submit(), site.submit()
    decided = site.decide(one), site.decide(other)
    assert [site.commit(changes) for changes in decided] == [True, False]
    assert site.begin(other) is State.WAITING


def test_a_place_that_came_free_before_somebody_waited_is_not_missed(site: Site) -> None:
    site.limit(concurrency=1)
    one, other = site.submit(), site.submit()
    site.begin(one)
    refused = site.decide(other)
    site.end(one)
    site.commit(refused)
    assert site.deliver() == [other.id]


def test_a_worker_that_takes_over_has_the_place_already(site: Site) -> None:
    site.limit(concurrency=1)
    lost, other = site.submit(), site.submit()
    assert [site.begin(lost), site.begin(other)] == ["running", "waiting"]
    site.liveness.dead.add("me")
    assert site.begin(lost) is State.RUNNING
    assert existing(site.store, lost.id).attempt == 2
    assert site.state(other) is State.WAITING
    assert len(site.limits.places(URI)) == 1
    site.end(lost)
    assert site.deliver() == [other.id]


def test_a_lost_job_that_is_queued_again_holds_no_place(site: Site) -> None:
    site.limit(concurrency=1)
    lost, other = site.submit(), site.submit()
    assert [site.begin(lost), site.begin(other)] == ["running", "waiting"]
    assert site.commit([take_over(existing(site.store, lost.id), site.now, "chores")], False)
    assert site.sweep.run() == 1
    assert [site.begin(other), site.begin(lost)] == ["running", "waiting"]


def test_a_job_whose_workers_all_died_gives_its_place_back(site: Site) -> None:
    site.limit(concurrency=1)
    lost, other = site.submit(), site.submit()
    assert [site.begin(lost), site.begin(other)] == ["running", "waiting"]
    site.liveness.dead.add("me")
    for _ in range(2):
        site.begin(lost)
    assert site.begin(lost) is State.DEAD
    assert site.deliver() == [other.id]


def test_a_waiting_job_can_be_cancelled(site: Site) -> None:
    site.limit(concurrency=1)
    one, other, third = (site.submit() for _ in range(3))
    for job in (one, other, third):
        site.begin(job)
    assert cancel(site.store, site.clock, existing(site.store, other.id), "ann") is State.CANCELLED
    assert existing(site.store, other.id).lane is None
    site.end(one)
    assert site.deliver() == [third.id]


# Rates


def test_a_rate_lets_so_many_begin_at_once_and_then_none(site: Site) -> None:
    site.limit(rate=Rate(2, 60.0))
    one, other, third = (site.submit() for _ in range(3))
    assert site.begin(one) is State.RUNNING
    site.now = 1030.0
    assert [site.begin(other), site.begin(third)] == ["running", "waiting"]
    assert site.reason(third) == f"limit of rate {URI}: 2 in 60 s"
    site.end(one)
    site.end(other)
    site.now = 1059.9
    site.sweep.run()
    assert site.state(third) is State.WAITING
    site.now = 1060.0
    site.sweep.run()
    assert site.deliver() == [third.id]
    assert site.begin(third) is State.RUNNING
    assert existing(site.store, third.id).lane is None
    assert site.begin(site.submit()) is State.WAITING


def test_a_retry_counts_for_the_rate_again(site: Site) -> None:
    site.limit(rate=Rate(1, 60.0))
    job = site.submit(retries=1, backoff=Backoff(first=0.0))
    assert site.begin(job) is State.RUNNING
    site.end(job, error="no luck")
    Chores(site.store, site.queue, site.clock).queue_due()
    assert site.begin(job) is State.WAITING


def test_each_rate_key_counts_for_itself(site: Site) -> None:
    site.limit(rate=Rate(1, 60.0))
    jobs = [site.submit(rate_key=key) for key in ("ann", "ann", "bob", None)]
    states = [site.begin(job) for job in jobs]
    assert states == ["running", "waiting", "running", "running"]


def test_no_place_is_held_while_a_rate_is_waited_for(site: Site) -> None:
    site.limit(concurrency=1, rate=Rate(1, 60.0))
    one, other = site.submit(), site.submit()
    assert site.begin(one) is State.RUNNING
    assert site.begin(other) is State.WAITING
    assert existing(site.store, other.id).lane == URI
    site.end(one)
    assert site.deliver() == [other.id]
    assert site.begin(other) is State.WAITING
    assert existing(site.store, other.id).lane == f"rate {URI}"
    assert site.limits.places(URI) == []
    site.now = 1060.0
    site.sweep.run()
    assert site.begin(other) is State.RUNNING
    assert len(site.limits.places(URI)) == len(site.limits.places(f"rate {URI}")) == 1


def test_no_turn_is_used_up_while_a_place_is_waited_for(site: Site) -> None:
    site.limit(concurrency=1, rate=Rate(2, 60.0))
    one, other = site.submit(), site.submit()
    assert [site.begin(one), site.begin(other)] == ["running", "waiting"]
    site.end(one)
    assert site.begin(other) is State.RUNNING
    assert len(site.limits.places(f"rate {URI}")) == 2


# Sweeping


def test_nobody_is_looked_at_where_nobody_waits(site: Site) -> None:
    assert site.sweep.run() == 0
    assert site.sweep.next_look() is None


def test_the_chores_wake_when_a_rate_has_a_place(site: Site) -> None:
    site.limit(rate=Rate(1, 60.0))
    site.begin(site.submit())
    site.now = 1001.0
    waiting = site.submit()
    site.begin(waiting)
    chores = Chores(site.store, site.queue, site.clock, *site.sweep.chores())
    chores.run()
    assert site.sweep.next_look() == 1060.0
    site.now = 1059.9
    assert chores.run() == pytest.approx(0.1)
    site.now = 1060.0
    chores.run()
    assert site.state(waiting) is State.QUEUED


def test_each_place_of_a_rate_is_used_as_soon_as_it_is_free(site: Site) -> None:
    site.limit(rate=Rate(2, 1.0))
    begun = site.submit(), site.submit()
    for job, site.now in zip(begun, (1000.0, 1000.1), strict=True):
        assert site.begin(job) is State.RUNNING
    waiting = [site.submit() for _ in range(2)]
    for job in waiting:
        site.begin(job)
    site.now = 1001.0
    assert site.sweep.run() == 1
    assert site.begin(waiting[0]) is State.RUNNING
    assert site.sweep.next_look() == pytest.approx(1001.1)
    site.now = 1001.1
    assert site.sweep.run() == 1


def test_a_full_lane_is_not_looked_at_all_the_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.limit(rate=Rate(1, 60.0))
    for _ in range(2):
        site.begin(site.submit())
    assert site.sweep.run() == 0
    monkeypatch.setattr(site.limits, "places", None)
    for _ in range(20):
        site.now += 1.0
        assert site.sweep.run() == 0


def test_a_worker_that_dies_before_it_looks_is_made_up_for(site: Site) -> None:
    site.limit(concurrency=1)
    one, other = site.submit(), site.submit()
    site.begin(one)
    site.begin(other)
    site.end(one, survives=False)
    assert site.deliver() == []
    assert site.sweep.run() == 1
    assert site.deliver() == [other.id]


def test_a_raised_limit_lets_more_go_on(site: Site) -> None:
    site.limit(concurrency=1)
    jobs = [site.submit() for _ in range(5)]
    for job in jobs:
        site.begin(job)
    assert site.sweep.run() == 0
    site.limit(concurrency=3)
    site.now += 2.0
    assert site.sweep.run() == 2
    assert [site.begin(job) for job in jobs[1:3]] == ["running", "running"]
    assert site.deliver() == [job.id for job in jobs[1:3]]


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"rate": Rate(1, 3600.0)}])
def test_a_limit_that_is_taken_away_lets_all_go_on(site: Site, limits: dict[str, Any]) -> None:
    site.limit(**limits)
    jobs = [site.submit() for _ in range(1203)]
    for job in jobs:
        site.begin(job)
    site.limit()
    moved = [site.sweep.run() for _ in range(4)]
    assert moved == [500, 500, 202, 0]
    assert site.deliver() == [job.id for job in jobs[1:]]


def test_a_lowered_limit_holds_for_those_that_wait_already(site: Site) -> None:
    site.limit(concurrency=3)
    jobs = [site.submit() for _ in range(5)]
    for job in jobs:
        site.begin(job)
    site.limit(concurrency=1)
    for job in jobs[:2]:
        site.end(job)
        assert site.begin(site.submit()) is State.WAITING
    assert site.deliver() == []
    site.end(jobs[2])
    assert site.deliver() == [jobs[3].id]


def test_nobody_goes_on_for_a_place_that_another_is_on_its_way_to(site: Site) -> None:
    site.limit(concurrency=1)
    one, other, third = (site.submit() for _ in range(3))
    for job in (one, other, third):
        site.begin(job)
    site.end(one)
    for _ in range(3):
        site.now += 2.0
        assert site.sweep.run() == 0
    assert site.deliver() == [other.id]
    assert site.begin(other) is State.RUNNING


def test_who_does_not_come_is_not_waited_for_for_ever(site: Site) -> None:
    """The queue has lost it, or nobody works for its queue."""
    site.limit(concurrency=1)
    one, lost, third = (site.submit() for _ in range(3))
    for job in (one, lost, third):
        site.begin(job)
    site.end(one)
    assert site.deliver() == [lost.id]
    moved = 0
    for _ in range(10):
        moved += site.sweep.run()
        site.now += 2.0
    assert moved == 1
    assert site.deliver() == [third.id]
    assert site.begin(third) is State.RUNNING
    assert site.begin(lost) is State.WAITING


def test_while_the_queue_is_down_nobody_is_lost(site: Site) -> None:
    site.limit(concurrency=1)
    one, other = site.submit(), site.submit()
    site.begin(one)
    site.begin(other)
    site.end(one, survives=False)
    site.broker.stop()
    with pytest.raises(QueueUnavailable):
        site.sweep.run()
    site.broker.start()
    site.now += 60.0
    Chores(site.store, site.queue, site.clock).queue_forgotten()
    assert other.id in site.deliver()


def test_places_of_a_rate_are_forgotten_when_nobody_can_need_them(site: Site) -> None:
    site.limit(rate=Rate(5, 1.0))
    site.begin(site.submit())
    site.now += 60.9
    assert site.sweep.forget() == 0
    site.now += 0.1
    assert site.sweep.forget() == 1


def test_all_end_whatever_the_order_of_steps(site: Site) -> None:
    """Two limits, jobs that fail, workers that die between their steps."""
    site.limit(concurrency=2, rate=Rate(3, 5.0))
    jobs = [site.submit(retries=2, priority=250 * (nth % 3)) for nth in range(30)]
    chores = Chores(site.store, site.queue, site.clock, *site.sweep.chores())
    turn = 0
    begun = []
    while any(site.state(job) not in FINAL for job in jobs):
        turn += 1
        assert turn < 5000
        site.now += 0.5
        chores.run()
        for job_id in site.deliver():
            job = existing(site.store, job_id)
            if job.state is State.QUEUED and site.commit(site.decide(job), turn % 3 > 0):
                begun += [site.now] if site.state(job) is State.RUNNING else []
        running = site.store.jobs([State.RUNNING])
        assert len(running) == len(site.limits.places(URI)) <= 2
        if running:
            site.end(running[-1], survives=turn % 2 > 0, error="no luck" if turn % 5 == 0 else "")
    assert all(later - one >= 5.0 for one, later in zip(begun, begun[3:], strict=False))
    assert site.limits.places(URI) == []


def test_a_valve_closes_one_lane_and_opens_it_again(site: Site) -> None:
    site.limit(concurrency=3)
    closed = f"{URI}#bad"
    site.valve = lambda lane: (
        lane._replace(places=0, rule="closed") if lane.name == closed else lane
    )
    bad = [site.submit(concurrency_key="bad") for _ in range(4)]
    assert [site.begin(job) for job in bad] == [State.WAITING] * 4
    assert site.reason(bad[0]) == f"limit of {closed}: closed"
    assert site.begin(site.submit(concurrency_key="good")) is State.RUNNING
    site.now += 5
    assert site.sweep.run() == 0
    site.valve = lambda lane: lane._replace(places=1)
    site.now += 5
    assert site.sweep.run() == 1
    assert site.deliver() == [bad[0].id]
    assert site.begin(bad[0]) is State.RUNNING
    site.valve = as_it_is
    site.end(bad[0])
    assert site.deliver() == [job.id for job in bad[1:]]
