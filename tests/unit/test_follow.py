"""What follows a job's end."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue, MemoryStore
from taskbus.adapter.memory_links import MemoryLinks
from taskbus.core import follow
from taskbus.core.cancel import cancelled
from taskbus.core.chores import Chores
from taskbus.core.follow import Ends, FollowUps
from taskbus.core.lease import MOST_LOSSES, claim
from taskbus.core.plan import Plan
from taskbus.core.replay import replay
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import FINAL, Change, Job, State, move
from taskbus.model.json import dump
from taskbus.port.store import existing
from tests.support.links import waiting_for
from tests.support.values import a_job, added, applied, failed, running, start, succeeded

URI = "com.x.plain"
API = ApiMap([Entry(URI, "python", "a:b")])
NOW = 2000.0


class Everybody:
    """Liveness: all workers are dead."""

    def identity(self) -> str:
        return "me"

    def is_dead(self, identity: str) -> bool:
        return True


class Site:
    """A store with jobs that end as the test likes, and whoever follows their ends."""

    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.queue = MemoryQueue(self.broker)
        self.links = MemoryLinks(self.store)
        self.now = NOW
        self.follow_ups = FollowUps(self.store, self.links, self.clock)
        ends = Ends(self.follow_ups, self.store, self.queue)
        self.chores = Chores(self.store, self.queue, self.clock, *ends.chores())

    def clock(self) -> float:
        return self.now

    def submit(self, **request: Any) -> list[Job]:
        """The job and all that follow it, in the order of the request."""
        plan = Plan(API, lambda: 1000.0, {})
        plan.add({"uri": URI} | request)
        self.store.add(plan.submissions)
        return [one.job for one in plan.submissions]

    def end(self, job: Job, state: State = State.SUCCEEDED, follow: bool = True) -> Job:
        """The job, ended so; and followed, unless whoever ends it dies at once."""
        over = ended(self.store, existing(self.store, job.id), state)
        if follow and over.tied:
            self.follow_ups.after([over])
        return over

    def state(self, job: Job) -> State:
        return existing(self.store, job.id).state

    def states(self, jobs: list[Job]) -> list[State]:
        return [self.state(job) for job in jobs]

    def reason(self, job: Job) -> str:
        return str(json.loads(self.store.events(job.id)[-1].data)["reason"])

    def kinds(self, job: Job) -> list[str]:
        return [event.kind for event in self.store.events(job.id)]


def ended(store: MemoryStore, job: Job, state: State) -> Job:
    if state is State.CANCELLED and job.state is not State.RUNNING:
        return applied(store, cancelled(job, "ann", 1002.0))
    job = applied(store, start(job))
    if state is State.SUCCEEDED:
        return applied(store, succeeded(job))
    if state is State.FAILED:
        return applied(store, failed(job))
    if state is State.DEAD:
        lost = job._replace(losses=MOST_LOSSES - 1)
        [change] = dead(lost)
        return applied(store, change)
    return applied(store, cancelled(job, "ann", 1002.0))


def dead(job: Job) -> list[Change]:
    changes = claim(job, Everybody(), 1002.0, 60.0)
    assert isinstance(changes, list)
    return changes


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.queue.close()


# --- one job after one ---------------------------------------------------------------------------

BOTH = {"on_success": {"uri": URI}, "on_failure": {"uri": URI}, "on_end": {"uri": URI}}


@pytest.mark.parametrize(
    ("state", "goes_on"),
    [
        (State.SUCCEEDED, [True, False, True]),
        (State.FAILED, [False, True, True]),
        (State.DEAD, [False, True, True]),
        (State.CANCELLED, [False, False, True]),
    ],
)
def test_each_end_lets_those_go_on_that_wait_for_it(
    site: Site, state: State, goes_on: list[bool]
) -> None:
    first, *after = site.submit(**BOTH)
    over = site.end(first, state, follow=False)
    assert site.states(after) == [State.WAITING] * 3
    placements = site.follow_ups.after([over])
    wanted = [State.QUEUED if one else State.CANCELLED for one in goes_on]
    assert site.states(after) == wanted
    queued = [job.id for job, one in zip(after, goes_on, strict=True) if one]
    assert [placement.job for placement in placements] == queued
    assert [one.job for one in site.store.unplaced(1e9, 9)][1:] == queued
    assert existing(site.store, first.id) == over._replace(tied=0)


def test_every_end_is_known() -> None:
    assert follow.MET.keys() == FINAL


def test_why_a_job_goes_on_or_does_not_is_in_its_journal(site: Site) -> None:
    first, good, bad, _ = site.submit(**BOTH)
    site.end(first)
    assert site.reason(good) == f"job {first.id}, the last before it, is succeeded"
    why = f"it waited for the failure of job {first.id}, which is succeeded"
    assert site.reason(bad) == why
    over = existing(site.store, bad.id)
    assert over.finished == NOW
    assert json.loads(over.error or "")["error"] == "taskbus.error.cancelled"
    assert json.loads(over.error or "")["message"] == why
    assert [json.loads(site.store.events(job.id)[-1].data)["actor"] for job in (good, bad)] == [
        "follow-up"
    ] * 2


def test_a_job_that_is_tried_again_has_not_ended(site: Site) -> None:
    first, after = site.submit(retries=1, on_end={"uri": URI})
    applied(site.store, failed(applied(site.store, start(first))))
    site.now += 60
    site.chores.run()
    assert site.state(first) is State.QUEUED
    assert site.state(after) is State.WAITING


def test_a_delay_begins_with_the_end_before_it(site: Site) -> None:
    first, later, at, past = site.submit(
        on_end=[{"uri": URI, "delay": 5}, {"uri": URI, "run_at": 2060}, {"uri": URI, "run_at": 1}]
    )
    site.end(first)
    assert site.states([later, at, past]) == [State.SCHEDULED, State.SCHEDULED, State.QUEUED]
    dues = [existing(site.store, job.id).due for job in (later, at, past)]
    assert dues == [NOW + 5, 2060.0, NOW]
    site.now = NOW + 5
    site.chores.run()
    assert site.states([later, at]) == [State.QUEUED, State.SCHEDULED]


# --- those after those ---------------------------------------------------------------------------


def test_the_rest_of_a_chain_ends_with_its_first_failure(site: Site) -> None:
    one, two, three, four = site.submit(
        on_success={"uri": URI, "on_success": {"uri": URI, "on_success": {"uri": URI}}}
    )
    site.end(one)
    site.end(two, State.FAILED)
    assert site.states([three, four]) == [State.CANCELLED] * 2
    assert two.id in site.reason(three)
    assert site.reason(four) == f"it waited for the success of job {three.id}, which is cancelled"
    assert site.links.tied(1e9, 9) == []


def test_those_after_a_cancelled_one_are_looked_at_in_turn(site: Site) -> None:
    first, dropped, *after = site.submit(on_failure={"uri": URI} | BOTH)
    site.end(first)
    assert site.state(dropped) is State.CANCELLED
    assert site.states(after) == [State.CANCELLED, State.CANCELLED, State.QUEUED]


def test_more_than_a_few_steps_are_left_to_the_chore(site: Site) -> None:
    plan = Plan(API, site.clock, {})
    ids: list[str] = []
    for _ in range(500):
        ids.append(plan.add({"uri": URI}, "", ids[-1:], "success"))
    site.store.add(plan.submissions)
    jobs = [one.job for one in plan.submissions]
    site.end(jobs[0], State.FAILED)
    assert 100 < site.store.counts()[State.CANCELLED] < 400
    for _ in range(3):
        site.now += 60
        site.chores.run()
    assert site.store.counts() == {State.FAILED: 1, State.CANCELLED: 499}
    assert site.links.tied(1e9, 9) == []


# --- one job after many --------------------------------------------------------------------------


def a_group(site: Site, count: int, on: str = "end") -> tuple[list[Job], Job]:
    members = [added(site.store, tied=1) for _ in range(count)]
    return members, waiting_for(site.store, members, on)


def test_it_runs_once_all_have_ended_however(site: Site) -> None:
    members, then = a_group(site, 4)
    for job, state in zip(members, sorted(FINAL), strict=True):
        assert site.state(then) is State.WAITING
        site.end(job, state)
    assert site.state(then) is State.QUEUED
    assert site.kinds(then) == ["waiting", "queued"]


def test_for_success_only_it_ends_with_the_first_failure(site: Site) -> None:
    members, then = a_group(site, 4, "success")
    site.end(members[0])
    site.end(members[1], State.DEAD)
    assert site.state(then) is State.CANCELLED
    assert members[1].id in site.reason(then)
    site.end(members[2], State.FAILED)
    site.end(members[3])
    assert site.kinds(then) == ["waiting", "cancelled"]


def test_many_that_end_together_are_followed_together(site: Site) -> None:
    members, then = a_group(site, 120)
    over = [site.end(job, follow=False) for job in members]
    assert [one.job for one in site.follow_ups.after(over)] == [then.id]
    assert site.links.tied(1e9, 999) == []


def test_the_last_two_may_end_at_the_same_moment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find that no link is left; one of them queues it."""
    (one, two), then = a_group(site, 2)
    over = [site.end(job, follow=False) for job in (one, two)]
    other = FollowUps(site.store, site.links, site.clock)
    free, placements = site.links.free, []

    def meanwhile(jobs: Any) -> list[Job]:
        found = free(jobs)
        monkeypatch.undo()
        placements.extend(other.after([over[1]]))
        return found

    site.links.meet([two.id], ["end"])
    monkeypatch.setattr(site.links, "free", meanwhile)
    placements.extend(site.follow_ups.after([over[0]]))
    assert [one.job for one in placements] == [then.id]
    assert site.kinds(then) == ["waiting", "queued"]


# --- whatever dies between -----------------------------------------------------------------------


class Died(BaseException):
    """The process is gone."""


STEPS: list[Callable[[Site], tuple[object, str]]] = [
    lambda site: (site.links, "of"),
    lambda site: (site.links, "waiting"),
    lambda site: (site.store, "advance"),
    lambda site: (site.links, "meet"),
    lambda site: (site.links, "free"),
    lambda site: (site.links, "untie"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_whoever_dies_between_two_steps_the_chore_goes_on(
    site: Site, step: Callable[[Site], tuple[object, str]], when: str
) -> None:
    first, good, bad, after_bad = site.submit(
        on_success={"uri": URI}, on_failure={"uri": URI, "on_end": {"uri": URI}}
    )
    over = site.end(first, follow=False)
    where, name = step(site)
    real = getattr(where, name)

    def die(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            real(*args, **kwargs)
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, die)
        with pytest.raises(Died):
            site.follow_ups.after([over])
    for _ in range(2):
        site.now += 60
        site.chores.run()
    assert [site.kinds(job) for job in (good, bad, after_bad)] == [
        ["waiting", "queued"],
        ["waiting", "cancelled"],
        ["waiting", "queued"],
    ]
    assert site.links.tied(1e9, 9) == []
    assert site.queue.stats().ready == 3


def test_a_fresh_end_is_left_to_whoever_has_ended_it(site: Site) -> None:
    first, after = site.submit(on_end={"uri": URI})
    site.end(first, follow=False)
    site.now = 1003.0
    site.chores.run()
    assert site.state(after) is State.WAITING
    site.now = 1010.0
    site.chores.run()
    assert site.state(after) is State.QUEUED


def test_twice_is_once(site: Site) -> None:
    first, good, bad, any_ = site.submit(**BOTH)
    over = site.end(first, State.FAILED)
    before = [existing(site.store, job.id) for job in (first, good, bad, any_)]
    assert site.follow_ups.after([over]) == []
    assert [existing(site.store, job.id) for job in (first, good, bad, any_)] == before


def test_the_queue_is_down(site: Site) -> None:
    first, after = site.submit(on_end={"uri": URI})
    site.broker.stop()
    site.end(first)
    assert site.state(after) is State.QUEUED
    site.broker.start()
    site.now += 60
    site.chores.run()
    assert site.queue.stats().ready == 2


def test_the_store_is_down(site: Site) -> None:
    first, after = site.submit(on_end={"uri": URI})
    over = site.end(first, follow=False)
    site.store.available = False
    with pytest.raises(StoreUnavailable):
        site.follow_ups.after([over])
    site.store.available = True
    site.chores.run()
    assert site.state(after) is State.QUEUED


def test_one_that_was_cancelled_while_it_waited_stays_so(site: Site) -> None:
    first, after, last = site.submit(on_success={"uri": URI, "on_end": {"uri": URI}})
    site.end(after, State.CANCELLED)
    assert site.state(last) is State.QUEUED
    site.end(first)
    assert site.kinds(after) == ["waiting", "cancelled"]
    assert site.links.tied(1e9, 9) == []


def test_a_replay_that_succeeds_brings_nobody_back(site: Site) -> None:
    """Those that its failure has cancelled are replayed by hand, and run at once."""
    first, after = site.submit(on_success={"uri": URI})
    over = site.end(first, State.FAILED)
    applied(site.store, replay(existing(site.store, over.id), "ann", NOW))
    site.end(first)
    assert site.state(after) is State.CANCELLED
    again = applied(site.store, replay(existing(site.store, after.id), "ann", NOW))
    assert again.state is State.QUEUED
    told = site.follow_ups.before(again)
    assert told is not None
    assert (told[0]["state"], told[0]["result"]) == ("succeeded", {"args": [1], "kwargs": {}})


def test_one_replayed_while_it_would_still_wait_is_let_alone(site: Site) -> None:
    first, after = site.submit(on_success={"uri": URI})
    site.end(after, State.CANCELLED)
    again = applied(site.store, replay(existing(site.store, after.id), "ann", NOW))
    for_a_limit = applied(
        site.store, move(again, State.WAITING, NOW, reason="limit", actor="x", lane="a")
    )
    site.end(first, State.FAILED)
    assert existing(site.store, after.id) == for_a_limit


def test_a_replay_before_the_first_end_was_followed_ends_anew(site: Site) -> None:
    first, after = site.submit(on_success={"uri": URI})
    over = site.end(first, State.FAILED, follow=False)
    applied(site.store, replay(over, "ann", NOW))
    site.now += 60
    site.chores.run()
    assert site.state(after) is State.WAITING
    site.end(first)
    assert site.state(after) is State.QUEUED


# --- what the task is told -----------------------------------------------------------------------


def told(site: Site, job: Job) -> list[dict[str, Any]]:
    found = site.follow_ups.before(existing(site.store, job.id))
    assert found is not None
    return found


def test_a_task_is_told_how_those_before_it_have_ended(site: Site) -> None:
    (good, bad, stopped), then = a_group(site, 3)
    site.end(good)
    site.end(bad, State.FAILED)
    site.end(stopped, State.CANCELLED)
    assert [(one["job"], one["uri"], one["state"]) for one in told(site, then)] == [
        (good.id, good.uri, "succeeded"),
        (bad.id, bad.uri, "failed"),
        (stopped.id, stopped.uri, "cancelled"),
    ]
    first, second, third = told(site, then)
    assert first["result"] == {"args": [1], "kwargs": {}}
    assert second["error"] == {
        "error": "taskbus.error.task_failed", "message": "no luck", "about": {},
    }  # fmt: skip
    assert third["error"]["error"] == "taskbus.error.cancelled"


@pytest.mark.parametrize("details", ["{}", '{"context":{"after":[1]}}'])
def test_who_follows_nobody_is_told_nothing(site: Site, details: str) -> None:
    assert site.follow_ups.before(a_job(details=details)) is None


def test_one_that_is_forgotten_is_named(site: Site) -> None:
    (one, two), then = a_group(site, 2)
    site.end(one)
    site.end(two)
    site.end(then)
    site.store.remove([one.id])
    assert told(site, then)[0] == {"job": one.id, "state": "forgotten"}
    assert told(site, then)[1]["state"] == "succeeded"


def test_what_is_large_is_left_out_with_a_note(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LARGEST_BODY", 50)
    monkeypatch.setattr(follow, "LARGEST_BODIES", 75)
    members, then = a_group(site, 35)
    for size, job in zip([51, 50, 26, 25, *[9] * 31], members, strict=True):
        body = dump({"a": "x" * (size - len('{"a":""}'))})
        over = applied(site.store, succeeded(applied(site.store, start(job)), body))
        site.follow_ups.after([over])
    found = told(site, then)
    assert len(found) == 35
    assert found[0] == {
        "job": members[0].id, "uri": members[0].uri, "state": "succeeded",
        "left_out": "its result, 51 characters of JSON",
    }  # fmt: skip
    assert "result" in found[1]
    assert found[2]["left_out"] == "its result, 26 characters of JSON"
    assert "result" in found[3]
    assert all("left_out" in one for one in found[4:])


def test_a_running_one_that_was_replayed_has_no_end_to_tell(site: Site) -> None:
    (one,), then = a_group(site, 1)
    over = site.end(one, State.FAILED)
    applied(site.store, replay(existing(site.store, over.id), "ann", NOW))
    assert told(site, then) == [{"job": one.id, "uri": one.uri, "state": "queued"}]


def test_jobs_that_nobody_waits_for_cost_nothing(site: Site) -> None:
    job = applied(site.store, succeeded(running(site.store)))
    assert not follow.has_ended(job)
