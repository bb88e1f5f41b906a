"""Whatever goes wrong, in whatever order: no job is lost, doubled or stuck, and the journal tells.

Real intake, workers, chores and remedies; what breaks, who dies and when is Hypothesis's choice.
"""

import json
import re
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.sql import SqlStore
from taskbus.core.cancel import cancel
from taskbus.core.chores import place
from taskbus.core.intake import prepare
from taskbus.core.lease import MOST_LOSSES
from taskbus.core.replay import replay
from taskbus.model.errors import JobEnded, NotReplayable, QueueUnavailable, StoreUnavailable
from taskbus.model.job import FINAL, REPLAYABLE, TRANSITIONS, Event, Job, State
from taskbus.port.store import Store
from tests.support.mishaps import Died
from tests.support.toy_bus import ONE_AT_A_TIME, RATE, SELDOM, TTR, URI, Bus, Toy

_EVER = 1e12
_MOST_ROUNDS = 100
_STATES = {state.value for state in State}

anything = st.integers(0, 10**6)


class Lives(RuleBasedStateMachine):
    """Jobs, and everybody who has to do with them."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = self.make_bus()
        self.stage = self.bus.stage()
        self.stage.__enter__()
        self.bus.on_begin = self.begins
        self.was_wiped = False
        # All workers have been alive and in time.
        self.is_calm = True
        self.words = 0
        self.accepted: list[str] = []
        self.ran: set[tuple[str, int]] = set()
        self.reported: dict[tuple[str, int], bool] = {}

    def make_bus(self) -> Bus:
        store = MemoryStore()
        return Bus(store)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.stage.__exit__(None, None, None)
            self.bus.store.close()

    # What the test knows

    @property
    def store(self) -> Store:
        return self.bus.store

    def jobs(self) -> list[Job]:
        return self.store.jobs(limit=1000)[::-1]

    def pick(self, choice: int, among: list[Any]) -> Any:
        return among[choice % len(among)]

    def begins(self, toy: Toy) -> None:
        """A child has been given a job."""
        assert (toy.job, toy.attempt) not in self.ran, "an attempt was run twice"
        self.ran.add((toy.job, toy.attempt))
        job = self.store.job(toy.job)
        assert job is not None
        assert (job.state, job.attempt) == (State.RUNNING, toy.attempt), "it ran without a claim"

    def attempted(self, deed: Callable[[], object]) -> bool:
        """Whether it was done; what was refused or died half way may have been done or not."""
        try:
            deed()
        except (StoreUnavailable, QueueUnavailable, JobEnded, NotReplayable):
            return False
        except Died:
            self.bus.restart_servants()
            return False
        return True

    # What may happen

    @initialize(slots=st.lists(st.integers(1, 3), min_size=1, max_size=2))
    def open(self, slots: list[int]) -> None:
        for count in slots:
            self.bus.hire(count)

    # Few jobs and much that happens to each of them.
    @precondition(lambda self: len(self.jobs()) < 4)
    @rule(
        uri=st.sampled_from([URI, URI, ONE_AT_A_TIME, SELDOM]),
        count=st.integers(1, 2),
        delay=st.sampled_from([0, 0, 0, 2, 100]),
        retries=st.integers(0, 3),
        priority=st.integers(0, 1000),
    )
    def submit(self, uri: str, count: int, delay: float, retries: int, priority: int) -> None:
        request = {"uri": uri, "delay": delay, "retries": retries, "priority": priority}
        made = [prepare(self.bus.api, self.bus.clock, request, {}) for _ in range(count)]
        if self.attempted(lambda: self.bus.intake.accept([made])):
            self.accepted += [one.job.id for one in made]

    @rule()
    def flush(self) -> None:
        self.attempted(self.bus.intake.flush)

    @rule()
    def do_chores(self) -> None:
        self.attempted(self.bus.chores.run)

    @rule(choice=anything)
    def work(self, choice: int) -> None:
        if awake := [worker for worker in self.bus.workers if not worker.is_hanging]:
            self.bus.step(self.pick(choice, awake))

    @rule(times=st.integers(1, 4))
    def everybody_works(self, times: int) -> None:
        for _ in range(times):
            for worker in tuple(self.bus.workers):
                if not worker.is_hanging and worker in self.bus.workers:
                    self.bus.step(worker)

    @precondition(lambda self: self.bus.toys)
    @rule(choice=anything, ok=st.booleans())
    def a_task_ends(self, choice: int, ok: bool) -> None:
        self.report(self.pick(choice, self.bus.toys), ok)

    def report(self, toy: Toy, ok: bool) -> None:
        if not toy.is_over:
            self.reported[toy.job, toy.attempt] = ok
            toy.report(ok)

    @precondition(lambda self: self.bus.toys)
    @rule(choice=anything)
    def a_task_says_something(self, choice: int) -> None:
        toy = self.pick(choice, self.bus.toys)
        if not toy.is_over:
            self.words += 1
            toy.say(f"<{self.words}>")

    @precondition(lambda self: self.bus.toys)
    @rule(choice=anything, status=st.sampled_from([9, 256]))
    def a_child_dies(self, choice: int, status: int) -> None:
        self.pick(choice, self.bus.toys).end(status)

    @rule(choice=anything)
    def a_forker_dies(self, choice: int) -> None:
        if forkers := [one for worker in self.bus.workers for one in worker.spares()]:
            self.pick(choice, forkers).die()

    @rule(choice=anything, dry=st.booleans())
    def spares_run_out_or_come(self, choice: int, dry: bool) -> None:
        if forkers := [one for worker in self.bus.workers for one in worker.spares()]:
            self.pick(choice, forkers).is_dry = dry

    @rule(choice=anything)
    def a_worker_loads_its_code_anew(self, choice: int) -> None:
        if self.bus.workers:
            self.pick(choice, self.bus.workers)._on_reload()

    @precondition(lambda self: self.bus.workers)
    @rule(choice=anything)
    def a_worker_dies(self, choice: int) -> None:
        self.is_calm = False
        self.bus.kill(self.pick(choice, self.bus.workers))

    @precondition(lambda self: self.bus.workers)
    @rule(choice=anything, hanging=st.booleans())
    def a_worker_hangs_or_goes_on(self, choice: int, hanging: bool) -> None:
        self.is_calm = False
        self.pick(choice, self.bus.workers).is_hanging = hanging

    @precondition(lambda self: len(self.bus.workers) < 3)
    @rule(slots=st.integers(1, 3))
    def a_worker_comes(self, slots: int) -> None:
        self.bus.hire(slots)

    @rule(seconds=st.sampled_from([0.3, 1.0, 6.0, 30.0, TTR + 1, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.is_calm &= seconds < 1.0
        self.bus.now += seconds
        self.bus.broker.pass_time()

    @rule(choice=anything)
    def somebody_cancels(self, choice: int) -> None:
        if jobs := [job for job in self.jobs() if job.state not in FINAL]:
            self.cancel(self.pick(choice, jobs))

    def cancel(self, job: Job) -> None:
        self.attempted(lambda: cancel(self.bus.shaky_store, self.bus.clock, job, "ann"))

    @rule(choice=anything)
    def somebody_replays(self, choice: int) -> None:
        if jobs := [job for job in self.jobs() if job.state in REPLAYABLE]:
            self.replay(self.pick(choice, jobs))

    def replay(self, job: Job) -> None:
        def again() -> None:
            change = replay(job, "ann", self.bus.now)
            if all(self.bus.shaky_store.advance([change])):
                place(self.bus.shaky_store, self.bus.queue(), [change.after.placement])

        self.attempted(again)

    @rule(choice=anything)
    def somebody_discards(self, choice: int) -> None:
        if jobs := [job for job in self.jobs() if job.state in FINAL]:
            self.discard(self.pick(choice, jobs))

    def discard(self, job: Job) -> None:
        if job.state in FINAL:
            gone = self.store.remove([job.id])
            self.accepted = [one for one in self.accepted if one not in gone]

    @precondition(lambda self: self.bus.broker.entries())
    @rule(choice=anything)
    def the_queue_delivers_twice(self, choice: int) -> None:
        job = self.store.job(self.pick(choice, self.bus.broker.entries()))
        if job is not None:
            queue = self.bus.queue()
            self.attempted(lambda: queue.put([job.placement]))
            queue.close()

    @precondition(lambda self: self.bus.broker.reserved)
    @rule(choice=anything)
    def a_reservation_is_lost(self, choice: int) -> None:
        self.bus.broker.lose_reservation(self.pick(choice, sorted(self.bus.broker.reserved)))

    @rule(running=st.booleans())
    def the_queue_stops_or_starts(self, running: bool) -> None:
        if running:
            self.bus.broker.start()
        else:
            self.bus.broker.stop()

    @rule()
    def the_queue_loses_everything(self) -> None:
        """As when its log was wiped and it was started anew."""
        self.was_wiped = True
        self.bus.broker.wipe()

    @rule(
        calls=st.integers(0, 6),
        kind=st.sampled_from(["refused", "unheard", "died", "died after"]),
        method=st.sampled_from(["", "advance"]),
    )
    def something_will_go_wrong(self, calls: int, kind: str, method: str) -> None:
        self.is_calm &= "died" not in kind
        self.bus.mishaps.arm(calls, kind, method)

    @rule(
        calls=st.integers(0, 6),
        choice=anything,
        deed=st.sampled_from(["cancel", "replay", "discard", "chores", "work", "time"]),
        method=st.sampled_from(["", "advance", "renew"]),
    )
    def somebody_will_be_quicker(self, calls: int, choice: int, deed: str, method: str) -> None:
        """Before a later call of somebody else goes through."""

        def meanwhile() -> None:
            jobs = self.jobs()
            if deed == "chores":
                self.attempted(self.bus.new_chores().run)
            elif deed == "time":
                self.time_passes(TTR + 1)
            elif deed == "work":
                helper = self.bus.hire(1)
                for _ in range(2):
                    self.bus.step(helper)
            elif jobs:
                getattr(self, deed)(self.pick(choice, jobs))

        self.bus.mishaps.arm(calls, "meanwhile", method, meanwhile)

    # What has to hold, always

    @invariant()
    def journals_tell_what_is_true(self) -> None:
        for job in self.jobs():
            events = self.store.events(job.id)
            assert [event.seq for event in events] == list(range(1, job.seq + 1))
            states = [event for event in events if event.kind in _STATES]
            assert states[-1].kind == job.state
            check_life(states)
            check_words(events)
            self.check_outcome(job, states[-1])

    def check_outcome(self, job: Job, last: Event) -> None:
        result = self.store.result(job.id)
        assert (result is not None) == (job.state is State.SUCCEEDED)
        told = json.loads(last.data)
        if result is not None:
            assert json.loads(result)["args"] == [job.attempt] == [told["attempt"]]
            assert self.reported[job.id, job.attempt]
        elif job.state is State.FAILED:
            assert not self.reported.get((job.id, job.attempt), False)

    @invariant()
    def nothing_accepted_is_forgotten(self) -> None:
        assert set(self.accepted) <= {job.id for job in self.jobs()}
        known = {*self.bus.broker.entries()}
        to_place = {one.job for one in self.store.unplaced(_EVER, 10**6)}
        due = {job.id for job in self.store.due(_EVER, 10**6)}
        for job in self.jobs():
            # Recovery finds the others, whatever became of the queue: when the bus comes to rest.
            if job.state not in {*FINAL, State.WAITING} and not self.was_wiped:
                found = known | to_place if job.state is State.QUEUED else known | due
                assert job.id in found, f"nobody will ever look at the {job.state} job"

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.store.jobs([State.RUNNING], ONE_AT_A_TIME)) <= 1
        begun = sorted(
            event.at
            for job in self.store.jobs(uri=SELDOM)
            for event in self.store.events(job.id)
            if event.kind == State.RUNNING
        )
        for first, later in zip(begun, begun[RATE.attempts :], strict=False):
            assert later >= first + RATE.seconds

    @invariant()
    def only_workers_that_die_or_hang_lose_jobs(self) -> None:
        for job in self.jobs():
            assert job.losses <= (0 if self.is_calm else MOST_LOSSES)
            assert (job.state is State.DEAD) == (job.losses == MOST_LOSSES)

    @invariant()
    def whoever_wants_an_end_gets_it(self) -> None:
        for job in self.jobs():
            assert job.state is not State.RETRYING or job.cancel is None

    def come_to_rest(self) -> None:
        """Everybody is well again, and time passes: every job ends, and nothing is left."""
        self.bus.mishaps.disarm()
        self.bus.broker.start()
        self.bus.restart_servants()
        for worker in self.bus.workers:
            worker.is_hanging = False
            for spares in worker.spares():
                spares.is_dry = False
        self.bus.hire(1)
        for _ in range(_MOST_ROUNDS):
            if self.is_at_rest():
                break
            self.bus.chores.run()
            for worker in self.bus.workers:
                self.bus.step(worker)
            for toy in self.bus.toys:
                self.report(toy, ok=True)
            self.check()
            self.bus.now += 7.0
            self.bus.broker.pass_time()
        assert self.is_at_rest(), (self.jobs(), self.bus.broker.entries())
        self.check()

    def check(self) -> None:
        """All that has to hold."""
        self.journals_tell_what_is_true()
        self.nothing_accepted_is_forgotten()
        self.only_workers_that_die_or_hang_lose_jobs()
        self.limits_hold()
        self.whoever_wants_an_end_gets_it()

    def is_at_rest(self) -> bool:
        return (
            all(job.state in FINAL for job in self.jobs())
            and not self.bus.broker.entries()
            and not self.store.unplaced(_EVER, 1)
            and all(slot.idle for worker in self.bus.workers for slot in worker._slots)
        )


def check_life(states: list[Event]) -> None:
    """Only transitions of the table, and an end is an end unless somebody replays."""
    for earlier, later in pairwise(states):
        assert State(later.kind) in TRANSITIONS[State(earlier.kind)]
        is_replay = json.loads(later.data)["reason"] == "replayed"
        assert is_replay == (earlier.kind in FINAL)
    attempts = [json.loads(one.data)["attempt"] for one in states if one.kind == State.RUNNING]
    assert attempts == list(range(1, len(attempts) + 1))


def check_words(events: list[Event]) -> None:
    """What a task wrote is told once, and in its order."""
    told = "".join(json.loads(one.data)["text"] for one in events if one.kind == "output")
    words = [int(word) for word in re.findall("<([0-9]+)>", told)]
    assert words == sorted(set(words))


class LivesInSqlite(Lives):
    """The same, slower."""

    def make_bus(self) -> Bus:
        self.folder = tempfile.TemporaryDirectory(prefix="tb")
        store = SqlStore(f"sqlite:///{Path(self.folder.name) / 'taskbus.db'}")
        return Bus(store)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.folder.cleanup()


def lived(machine: type[Lives], examples: int, steps: int) -> None:
    # The same examples each time: a failure here is the last change's. More of them, and not
    # derandomized, look further.
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, derandomize=True, deadline=None,
            suppress_health_check=list(HealthCheck), database=None,
            phases=(Phase.generate, Phase.shrink),
        ),
    )  # fmt: skip


def test_lives_in_memory() -> None:
    lived(Lives, 300, 50)


def test_lives_in_sqlite() -> None:
    lived(LivesInSqlite, 25, 30)
