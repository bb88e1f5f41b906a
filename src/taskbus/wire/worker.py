"""The worker program, and one job in a terminal."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from taskbus.adapter.beanstalkd import BeanstalkdQueue
from taskbus.adapter.doorbell import Doorbell
from taskbus.adapter.process import Presence, ProcessLiveness
from taskbus.core.command import numbered
from taskbus.core.follow import FollowUps
from taskbus.core.pick import pick
from taskbus.core.tally import Tally
from taskbus.core.webhook_book import Book
from taskbus.model.errors import NotRunnable
from taskbus.model.identity import is_job_id
from taskbus.model.job import Event, Job
from taskbus.model.settings import WORKER, Pool, Settings
from taskbus.port.bell import Bell
from taskbus.port.queue import Queue
from taskbus.port.sides import Sides
from taskbus.port.store import existing
from taskbus.site.folders import user_id
from taskbus.wire import make_sides, make_spans, read_api_map, retention_of, tally_of
from taskbus.worker.chosen import ChosenJob
from taskbus.worker.interrupt import cancel_on_interrupt
from taskbus.worker.parent import Worker
from taskbus.worker.watch import JournalBell


def run_worker(settings: Settings, pool: Pool, name: str, most: int | None) -> None:
    """The worker program: serve until a signal ends it, or until ``most`` jobs are done."""
    presence = Presence(settings.run, name)
    queues = [
        BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr, pool.queues)
        for _ in range(pool.slots if most is None else 1)
    ]
    on_ready = partial(presence.hold, queues=pool.queues)
    bell = Doorbell(settings.doorbell)
    tally = tally_of(settings, name, time.monotonic) if most is None else None
    sides = make_sides(settings)
    _worker(settings, sides, queues, bell, pool.queues, on_ready, tally).serve(most)


def _worker(
    settings: Settings,
    sides: Sides,
    queues: Sequence[Queue],
    bell: Bell,
    own_queues: Collection[str] | None,
    on_ready: Callable[[], object],
    tally: Tally | None = None,
) -> Worker:
    book = Book(sides.records, time.time)
    return Worker(
        store=sides.store,
        limits=sides.limits,
        queues=queues,
        liveness=ProcessLiveness(),
        bell=bell,
        clock=time.time,
        timer=time.monotonic,
        follow_ups=FollowUps(sides.store, sides.links, time.time, retention_of(settings)),
        # What it loads makes its forks slower: no tasks of other pools' queues.
        load_map=lambda: read_api_map(settings, own_queues),
        task_path=[str(settings.tasks)],
        ttr=settings.worker_ttr,
        on_ready=on_ready,
        retention=retention_of(settings),
        spans=make_spans("worker"),
        tally=tally,
        enclose=book.enclose,
        valve=book.valve,
        php=settings.php if settings.php_warm else None,
    )


def run_job(settings: Settings, wanted: str, again: bool, show: Callable[[Event], None]) -> Job:
    """Run one job in this process, as a worker would: ``wanted`` is its id, or the number that the
    queue server gave it. Its journal is shown as it grows. Returns the job after this attempt;
    raises what keeps it from being run, see ``core.pick``.
    """
    _check_may_work(settings, wanted)
    # As the workers: programs of the API map may be named by where the site is.
    os.chdir(settings.site)
    sides = make_sides(settings)
    store = sides.store
    job = existing(store, wanted) if is_job_id(wanted) else numbered(store, int(wanted))
    queue = BeanstalkdQueue(str(settings.queue_socket), settings.worker_ttr)

    def prepare() -> None:
        pick(store, sides.keys, time.time, job.id, "operator", again)

    bell = JournalBell(Doorbell(settings.doorbell), store, job.id, show)
    chosen = ChosenJob(job.id, prepare, queue)
    worker = _worker(settings, sides, [chosen], bell, None, lambda: None)
    with cancel_on_interrupt(store, job.id, "operator"):
        worker.serve(1)
    bell.ring()
    return existing(store, job.id)


def _check_may_work(settings: Settings, wanted: str) -> None:
    """Raises NotRunnable where this process is not what a worker would be."""
    if not settings.data.exists():
        problem = f"the bus of {settings.file} has never been up"
        raise NotRunnable(wanted, problem, "start it with 'taskbus up'")
    user = settings.users.get(WORKER)
    if user is not None and user_id(settings, WORKER) != os.geteuid():
        # Another one's task code must not run with our rights, nor leave files that are ours.
        raise NotRunnable(wanted, f"its workers run as {user}", f"run this as {user}")
