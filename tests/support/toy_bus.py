"""A whole bus in one thread: real intake, workers and chores, on a clock that the test moves, with
children that do what they are told.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryBroker, MemoryQueue
from taskbus.core.admission import Admission, Sweep
from taskbus.core.chores import Chores
from taskbus.core.follow import Ends, FollowUps
from taskbus.core.intake import Intake
from taskbus.core.recovery import Recovery
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import QueueUnavailable, StoreUnavailable
from taskbus.model.options import Rate
from taskbus.port.backlog import Backlog
from taskbus.port.keys import Keys
from taskbus.port.limits import Limits
from taskbus.port.links import Links
from taskbus.port.store import Store
from taskbus.worker import forkers, parent
from taskbus.worker.channel import FAILURE, PROGRESS, RESULT, send_frame, wait_readable
from taskbus.worker.parent import Worker
from taskbus.worker.spares import Child, Exit, ForkerGone
from tests.support.mishaps import Died, Mishaps
from tests.support.sides import sides_of

URI, ONE_AT_A_TIME, SELDOM = "com.t.job", "com.t.one_at_a_time", "com.t.seldom"
RATE = Rate(2, 10.0)
TTR = 60.0
FAILED = json.dumps({"error": "com.t.error", "message": "no", "about": {}, "traceback": ""})


class Broker(MemoryBroker):
    """Delays and reservations last as long as the bus's clock says."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._delays: dict[int, float] = {}
        self._kept: dict[int, float] = {}

    def delay(self, entry: Any, seconds: float) -> None:
        """See MemoryBroker."""
        self._delayed[entry.number] = entry
        self._delays[entry.number] = self._clock() + seconds

    def keep(self, number: int) -> None:
        """Its owner has touched it."""
        self._kept[number] = self._clock()

    def pass_time(self) -> None:
        """What is due is ready; what nobody touched for too long is delivered again."""
        now = self._clock()
        for number, due in tuple(self._delays.items()):
            if due <= now:
                del self._delays[number]
                if entry := self._delayed.get(number):
                    self._due(entry)
        for number in tuple(self.reserved):
            if self._kept.setdefault(number, now) + TTR <= now:
                self.lose_reservation(number)

    def lose_reservation(self, number: int) -> None:
        """As after a restart of the server."""
        _, entry = self.reserved.pop(number)
        self._kept.pop(number, None)
        self.add(entry)

    def wipe(self) -> None:
        """Its log is gone, and it was started anew."""
        self.stop()
        self._ready.clear()
        self._delayed.clear()
        self.start()

    def entries(self) -> list[str]:
        """The jobs of which it knows, once for each entry."""
        return [
            *(entry.job for entry in self._ready),
            *(entry.job for _, entry in self.reserved.values()),
            *(entry.job for entry in self._delayed.values()),
        ]


class _Queue(MemoryQueue):
    def touch(self, delivery: Any) -> bool:
        touched = super().touch(delivery)
        if touched:
            self._broker.keep(delivery.number)  # type: ignore[attr-defined]
        return touched


class Toy:
    """A child: it has a job once the parent gave it one, and does nothing by itself."""

    def __init__(self, pid: int, spares: "ToySpares") -> None:
        self.pid = pid
        self.job = ""
        self.attempt = 0
        self.is_over = False
        self._spares = spares
        ours, self._sock = socket.socketpair()
        self._sock.setblocking(False)
        stdout, self._out = os.pipe()
        stderr, self._err = os.pipe()
        for end in (stdout, stderr):
            os.set_blocking(end, False)
        self.parents = Child(pid, ours, stdout, stderr)

    def begin(self) -> bool:
        """Whether it has just been given its job."""
        if self.job or self.is_over:
            return False
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return False
        if not data:
            self.end(0)
            return False
        details = json.loads(data)["details"]
        self.job, self.attempt = details["job"], details["attempt"]
        return True

    def say(self, words: str) -> None:
        """Output and progress."""
        os.write(self._out, words.encode())
        self._send(PROGRESS, json.dumps({"fraction": 0.5, "message": words}))

    def report(self, ok: bool) -> None:
        """The task is over."""
        self._send(RESULT if ok else FAILURE, self.result if ok else FAILED)
        self.end(0)

    @property
    def result(self) -> str:
        """What a success returns."""
        return json.dumps({"args": [self.attempt], "kwargs": {}})

    def end(self, status: int) -> None:
        """The process is dead."""
        if not self.is_over:
            self.is_over = True
            self._sock.close()
            os.close(self._out)
            os.close(self._err)
            self._spares.tell(Exit(self.pid, status))

    def _send(self, kind: bytes, body: str) -> None:
        try:
            send_frame(self._sock.fileno(), kind, body.encode())
        except OSError:
            pass


class ToySpares:
    """A forker and the parent's end of it; see ``taskbus.worker.spares.Spares``."""

    def __init__(self, pids: Iterator[int]) -> None:
        self.toys: list[Toy] = []
        self.is_dry = False
        self._pids = pids
        self._gone = False
        self._heard: list[Exit] = []
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._bell

    def take(self) -> Child | None:
        self._check()
        if self.is_dry:
            return None
        self.toys.append(Toy(next(self._pids), self))
        return self.toys[-1].parents

    def hear(self) -> list[Exit]:
        self._check()
        os.eventfd_read(self._bell)
        heard, self._heard = self._heard, []
        return heard

    def kill(self, child: Child, number: int) -> None:
        self._check()
        for toy in self.toys:
            if toy.pid == child.pid:
                toy.end(number)

    def abandon(self, _child: Child) -> None:
        """Its process group is dead as it is."""

    def close(self) -> None:
        self.die()
        os.close(self._bell)

    def tell(self, exit_: Exit) -> None:
        """The parent hears of this."""
        if not self._gone:
            self._heard.append(exit_)
            os.eventfd_write(self._bell, 1)

    def die(self) -> None:
        """Somebody killed the forker, and so all its children."""
        if not self._gone:
            self._gone = True
            os.eventfd_write(self._bell, 1)
            for toy in self.toys:
                toy.end(9)

    def _check(self) -> None:
        if self._gone:
            raise ForkerGone("the forker is gone")


class Names:
    """Liveness of workers in one process."""

    def __init__(self, name: str, dead: set[str]) -> None:
        self._name = name
        self._dead = dead

    def identity(self) -> str:
        return self._name

    def is_dead(self, identity: str) -> bool:
        return identity in self._dead


class ToyWorker(Worker):
    """A worker whose loop goes round when the test says so."""

    name = ""
    is_hanging = False

    def _listen(self) -> None:
        self._woken, self._wakeup = socket.socketpair()

    def spares(self) -> list[ToySpares]:
        """Its forkers."""
        return [*(self._forkers or ()), *self._old]

    def die(self) -> None:
        """Everything that the kernel does about a killed process."""
        for spares in self.spares():
            spares.close()
        for slot in self._slots:
            slot.queue.close()
            slot.clear()
        self._woken.close()
        self._wakeup.close()


class Bus:
    """See above. ``store`` and ``broker`` are as they are; everybody on the bus has mishaps."""

    def __init__(self, store: Store) -> None:
        sides = sides_of(store)
        self.now = 1000.0
        self.store = store
        self.broker = Broker(self.clock)
        self.mishaps = Mishaps()
        self.api = ApiMap(
            [
                Entry(URI, "python", "x:y", "background"),
                Entry(ONE_AT_A_TIME, "python", "x:y", "background", concurrency=1),
                Entry(SELDOM, "python", "x:y", "background", rate=RATE),
            ]
        )
        self.workers: list[ToyWorker] = []
        self.toys: list[Toy] = []
        self.on_begin: Callable[[Toy], object] = lambda _: None
        self._dead: set[str] = set()
        self._pids = iter(range(10**9, 2 * 10**9))
        self.shaky_store: Store = self.mishaps.wrap(store, StoreUnavailable)
        self._keys: Keys = self.mishaps.wrap(sides.keys, StoreUnavailable)
        self._backlog: Backlog = self.mishaps.wrap(sides.backlog, StoreUnavailable)
        self._limits: Limits = self.mishaps.wrap(sides.limits, StoreUnavailable)
        shaky_links: Links = self.mishaps.wrap(sides.links, StoreUnavailable)
        self._follow_ups = FollowUps(self.shaky_store, shaky_links, self.clock)
        self.intake = self._new_intake()
        self.chores = self.new_chores()

    def clock(self) -> float:
        return self.now

    def queue(self) -> Any:
        """A connection."""
        return self.mishaps.wrap(_Queue(self.broker), QueueUnavailable, "close")

    def ring(self) -> None:
        """See Bell."""

    def _new_intake(self) -> Intake:
        return Intake(self.shaky_store, self._keys, self.queue(), self)

    def new_chores(self) -> Chores:
        """Another control, so to say."""
        store, queue, liveness = self.shaky_store, self.queue(), Names("control", self._dead)
        recovery = Recovery(store, self._backlog, queue, liveness, self.clock, TTR)
        ends = Ends(self._follow_ups, store, queue)
        admission = Admission(store, self._limits, self.clock, lambda: self.api, "chores")
        sweep = Sweep(admission, self._limits, queue, self.clock)
        others = (*recovery.chores(), *ends.chores(), *sweep.chores())
        return Chores(store, queue, self.clock, *others)

    def restart_servants(self) -> None:
        """A new backend and a new control."""
        self.intake, self.chores = self._new_intake(), self.new_chores()

    def hire(self, slots: int) -> ToyWorker:
        """One more worker."""
        name = f"toy/{len(self._dead) + len(self.workers)}/1"
        worker = ToyWorker(
            store=self.shaky_store,
            limits=self._limits,
            queues=[self.queue() for _ in range(slots)],
            liveness=Names(name, self._dead),
            bell=self,
            clock=self.clock,
            timer=self.clock,
            follow_ups=self._follow_ups,
            load_map=lambda: self.api,
            task_path=(),
            ttr=TTR,
            on_ready=lambda: None,
        )
        worker.name = name
        self.workers.append(worker)
        return worker

    def kill(self, worker: ToyWorker) -> None:
        """With SIGKILL, so to say."""
        self.workers.remove(worker)
        self._dead.add(worker.name)
        worker.die()

    def step(self, worker: ToyWorker) -> None:
        """Once round the loop."""
        try:
            worker.step()
            self._look(worker)
        except Died:
            self._look(worker)
            self.kill(worker)

    def _look(self, worker: ToyWorker) -> None:
        """Which children have begun a job."""
        begun = [toy for spares in worker.spares() for toy in spares.toys if toy.begin()]
        self.toys = [toy for toy in [*self.toys, *begun] if not toy.is_over]
        for toy in begun:
            self.on_begin(toy)

    def close(self) -> None:
        """Let go of every descriptor."""
        for worker in tuple(self.workers):
            self.kill(worker)
        for connection in tuple(self.broker.connections):
            connection.close()

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Workers are made of toys in here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forkers, "Spares", lambda *_: ToySpares(self._pids))
            patch.setattr(parent, "wait_readable", lambda fds, _seconds: wait_readable(fds, 0))
            patch.setattr(parent, "gc", SimpleNamespace(collect=list, freeze=list))
            try:
                yield
            finally:
                self.close()
