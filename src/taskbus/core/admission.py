"""Who may begin under the limits, who waits, and who goes on."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskbus.core.chores import BITE, Chore, place
from taskbus.core.limit import Lane, Valve, as_it_is, free, lane_named, lanes_of, taken
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import UnknownUri
from taskbus.model.job import Change, State, move
from taskbus.port.clock import Clock
from taskbus.port.limits import Limits
from taskbus.port.queue import Queue
from taskbus.port.store import Store

_LOOK_SECONDS = 0.5
# How often lanes are looked at whose places come free when an attempt ends: who ends it also lets
# the next one go on, unless it dies in between or the API map changes.
_FULL_SECONDS = 2.0
_SHORTEST_SECONDS = 0.02
# Who was let go on that long ago and has not begun is not waited for by the others.
_STUCK_SECONDS = 10.0
_FORGET_SECONDS = 60.0


class Look(NamedTuple):
    """What became of looking at a lane: how many went on, and when it is worth looking again."""

    moved: int
    again: float


class Admission:
    """The limits of the API map as it is now.

    Nobody is waited for in vain: whoever gives a place back looks who waits for it, and whoever
    began to wait looks whether a place has become free meanwhile.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        clock: Clock,
        api: Callable[[], ApiMap],
        actor: str,
        valve: Valve = as_it_is,
    ) -> None:
        """``actor``: who lets jobs go on, as the journal tells it."""
        self._valve = valve
        self._store = store
        self._limits = limits
        self._clock = clock
        self._api = api
        self._actor = actor

    def admit(self, claim: list[Change], now: float) -> list[Change]:
        """A claim's changes, with a place in each of the job's lanes; or the changes that let the
        job wait. Whoever else is about to take the same place makes the store refuse them.
        """
        start = claim[-1]
        if start.after.state is not State.RUNNING:
            return claim
        try:
            lanes = lanes_of(start.before, self._api().of_job(start.before.uri))
        except UnknownUri:
            return claim
        if not lanes:
            return claim
        job, places, held_lane = start.before.id, [], None
        for lane in map(self._valve, lanes):
            rest = free(lane, taken(self._limits.places(lane.name), now, job))
            if not rest:
                return [*claim[:-1], self._wait(start, lane, now)]
            places.append(lane.place(random.choice(rest), job, now))  # noqa: S311 - no secret
            if lane.seconds is None:
                held_lane = lane.name
        after = start.after._replace(lane=held_lane)
        return [*claim[:-1], start._replace(after=after, places=tuple(places))]

    def look(self, lane_name: str, queue: Queue, least: int = 0) -> Look:
        """Let those go on for whom the lane has places, but at least so many if it has any.

        Raises QueueUnavailable; a chore queues them then.
        """
        now = self._clock()
        lane = lane_named(lane_name, self._api())
        if lane is None:
            moved = self._go_on(lane_name, BITE, queue, "there is no limit any more", now)
            return Look(moved, now if moved == BITE else now + _FULL_SECONDS)
        lane = self._valve(lane)
        places = self._limits.places(lane_name)
        count = len(free(lane, taken(places, now)))
        ends = [one.until for one in places if one.until is not None and one.until > now]
        if not count:
            return Look(0, min(ends, default=now + _FULL_SECONDS))
        count = min(BITE, max(least, count - self._limits.coming(lane_name)))
        moved = self._go_on(lane_name, count, queue, f"the limit has room: {lane.rule}", now)
        wait = _FULL_SECONDS if lane.seconds is None else min(lane.seconds, _FULL_SECONDS)
        # The places of a rate come free one after the other, as they were taken.
        return Look(moved, max(min([*ends, now + wait]), now + _SHORTEST_SECONDS))

    def _wait(self, start: Change, lane: Lane, now: float) -> Change:
        return move(
            start.before, State.WAITING, now, reason=f"limit of {lane.name}: {lane.rule}",
            actor=start.after.worker or "worker", lane=lane.name,
        )  # fmt: skip

    def _go_on(self, lane: str, count: int, queue: Queue, reason: str, now: float) -> int:
        changes = [
            move(job, State.QUEUED, now, reason=reason, actor=self._actor, lane=lane)
            for job in (self._limits.first(lane, count) if count > 0 else ())
        ]
        if changes:
            done = self._store.advance(changes, durable=False)
            pairs = zip(changes, done, strict=True)
            place(self._store, queue, [change.after.placement for change, ok in pairs if ok])
        return len(changes)


def touched(changes: Sequence[Change], done: Sequence[bool]) -> set[str]:
    """The lanes to look at after these changes: where a place came free, where a job waits."""
    found = set()
    for (before, after, *_), ok in zip(changes, done, strict=True):
        if not ok or before.state is after.state:
            continue
        if before.lane is not None and before.state is State.RUNNING:
            found.add(before.lane)
        if after.lane is not None and after.state is State.WAITING:
            found.add(after.lane)
    return found


class Sweep:
    """Looks at every lane that jobs wait for: rates give places by the time, limits change, and
    whoever should have looked may have died.
    """

    def __init__(self, admission: Admission, limits: Limits, queue: Queue, clock: Clock) -> None:
        self._admission = admission
        self._limits = limits
        self._queue = queue
        self._clock = clock
        self._look_at: dict[str, float] = {}
        self._moved_at: dict[str, float] = {}

    def chores(self) -> tuple[Chore, ...]:
        """For the table of chores."""
        return (
            Chore("let jobs go on that wait for a limit", _LOOK_SECONDS, self.run, self.next_look),
            Chore("forget places of rates", _FORGET_SECONDS, self.forget),
        )

    def run(self) -> int:
        """Look at the lanes whose time has come; returns how many jobs went on."""
        now = self._clock()
        crowded = self._limits.crowded()
        self._look_at = {lane: self._look_at.get(lane, now) for lane in crowded}
        self._moved_at = {lane: self._moved_at.get(lane, now) for lane in crowded}
        total = 0
        for lane, at in self._look_at.items():
            if at <= now:
                is_stuck = now - self._moved_at[lane] >= _STUCK_SECONDS
                moved, self._look_at[lane] = self._admission.look(lane, self._queue, int(is_stuck))
                if moved:
                    self._moved_at[lane] = now
                total += moved
        return total

    def next_look(self) -> float | None:
        """When the next lane is worth looking at."""
        return min(self._look_at.values(), default=None)

    def forget(self) -> int:
        """Rows of rates that nobody uses any more, whatever the hosts' clocks say."""
        return self._limits.forget(self._clock() - _FORGET_SECONDS)
