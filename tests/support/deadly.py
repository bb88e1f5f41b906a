"""A real program of the bus that SIGKILL ends at a chosen step of its work.

``python -m tests.support.deadly STEP NTH PROGRAM ARGUMENT...``: it dies when it comes to the step
for the nth time. Programs: ``taskbus`` with its arguments, ``intake SETTINGS REQUEST COUNT`` and
``chores SETTINGS``.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from taskbus import cli, wire
from taskbus.adapter.beanstalkd import BeanstalkdQueue
from taskbus.adapter.doorbell import Doorbell
from taskbus.core.chores import Chores
from taskbus.core.intake import Intake, prepare
from taskbus.model.job import FINAL, Change, State
from taskbus.model.settings import Settings
from taskbus.port.store import Store
from taskbus.worker.attempt import Attempt

_HURRY = 3600.0

Call = Callable[..., Any]


class _Step(NamedTuple):
    """Before or after a call of this method, where its arguments and its result are these."""

    method: str
    when: str
    is_it: Callable[[tuple[Any, ...], Any], bool] = lambda *_: True


def _has(states: set[State]) -> Callable[[tuple[Any, ...], Any], bool]:
    """A commit that brings a job into one of these."""

    def is_it(arguments: tuple[Any, ...], _result: Any) -> bool:
        return any(change.after.state in states for change in _moves(arguments))

    return is_it


def _is_note(arguments: tuple[Any, ...], _result: Any) -> bool:
    return not _moves(arguments)


def _moves(arguments: tuple[Any, ...]) -> list[Change]:
    return [change for change in arguments[0] if change.before.state is not change.after.state]


_CLAIM, _END = _has({State.RUNNING}), _has({*FINAL, State.RETRYING})
STEPS = {
    # A worker's sentence, in its order.
    "reserved": _Step("queue.take", "after", lambda _, found: found is not None),
    "claiming": _Step("store.advance", "before", _CLAIM),
    "claimed": _Step("store.advance", "after", _CLAIM),
    "handed over": _Step("attempt.__init__", "after"),
    "words came": _Step("store.advance", "before", _is_note),
    "words stored": _Step("store.advance", "after", _is_note),
    "renewed": _Step("store.renew", "after"),
    "result came": _Step("store.advance", "before", _END),
    "settled": _Step("store.advance", "after", _END),
    "deleting": _Step("queue.request", "before", lambda given, _: given[0] is not None),
    "deleted": _Step("queue.request", "after", lambda given, _: given[0] is not None),
    # Who accepts jobs.
    "adding": _Step("store.add", "before"),
    "added": _Step("store.add", "after"),
    "offered": _Step("queue.offer", "after"),
    "put": _Step("queue.put", "after"),
    # The chores.
    "due": _Step("store.advance", "after", _has({State.QUEUED})),
    "placed": _Step("store.placed", "after"),
}


def arm(step: _Step, nth: int) -> None:
    """Make it deadly."""
    owner, method = step.method.split(".")
    if owner != "store":
        target: Any = {"queue": BeanstalkdQueue, "attempt": Attempt}[owner]
        setattr(target, method, _deadly(step, nth, getattr(target, method), skip=1))
        return
    opened = wire.open_sides

    def open_deadly(url: str) -> Any:
        sides = opened(url)
        found = getattr(sides.store, method)
        setattr(sides.store, method, _deadly(step, nth, found, skip=0))
        return sides

    wire.open_sides = open_deadly


def _deadly(step: _Step, left: int, method: Call, skip: int) -> Call:
    """``skip``: so many arguments are none of the step's business."""

    def come(arguments: tuple[Any, ...], result: Any) -> None:
        nonlocal left
        left -= step.is_it(arguments[skip:], result)
        if left == 0:
            die()

    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        if step.when == "before":
            come(arguments, None)
        result = method(*arguments, **options)
        if step.when == "after":
            come(arguments, result)
        return result

    return call


def die() -> None:
    """At once, as by ``kill -9``."""
    os.kill(os.getpid(), signal.SIGKILL)


def taskbus(*arguments: str) -> None:
    """The command."""
    sys.exit(cli.main(arguments))


def intake(settings_file: str, request: str, count: str) -> None:
    """Accept so many calls in one commit; their ids are told before, and ``accepted`` after it."""
    settings = wire.read_settings(Path(settings_file))
    api = wire.read_api_map(settings)
    calls = [[prepare(api, time.time, json.loads(request), {})] for _ in range(int(count))]
    for [one] in calls:
        print(one.job.id, flush=True)
    sides = wire.make_sides(settings)
    with closing(Doorbell(settings.doorbell)) as bell:
        made = Intake(sides.store, sides.keys, a_queue(settings), bell)
        made.accept(calls)
        print("accepted", flush=True)
        made.flush()


def chores(settings_file: str) -> None:
    """For ever."""
    settings = wire.read_settings(Path(settings_file))
    made = hurrying_chores(wire.make_sides(settings).store, a_queue(settings))
    while True:
        time.sleep(min(made.run(), 0.1))


def hurrying_chores(store: Store, queue: BeanstalkdQueue) -> Chores:
    """Nothing waits for its time, or until it counts as forgotten."""
    return Chores(store, queue, lambda: time.time() + _HURRY)


def a_queue(settings: Settings) -> BeanstalkdQueue:
    """A connection."""
    return BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)


def main() -> None:
    """See above."""
    step, nth, program, *arguments = sys.argv[1:]
    arm(STEPS[step], int(nth))
    programs: dict[str, Call] = {"taskbus": taskbus, "intake": intake, "chores": chores}
    programs[program](*arguments)


if __name__ == "__main__":
    main()
