"""The queue in beanstalkd, through greenstalk. Each queue is a tube, and the body of an entry a
job id.
"""

import math
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import greenstalk

from taskbus.model.errors import QueueUnavailable
from taskbus.model.job import Placement
from taskbus.model.options import DEFAULT_QUEUE
from taskbus.port.queue import Delivery, QueueStats

TUBE = "taskbus"
_MOST_IN_FLIGHT = 500
# greenstalk itself waits for ever; a server that hangs must not hang us. A worker waits so long for
# each of its connections, and looks after none of its jobs meanwhile.
_PATIENCE = 10.0


class _Client(greenstalk.Client[str]):
    """greenstalk, with commands sent ahead of their answers."""

    used = DEFAULT_QUEUE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What was sent, and the answers that are to come.
        self._offered: Sequence[Placement] = ()
        self._answers: Sequence[bytes] = ()

    def offer(self, placements: Sequence[Placement], ttr: int) -> None:
        """Many puts in one write; see ``settle``, which comes before anything else is said."""
        commands, answers = [], []
        for one in placements:
            if one.queue != self.used:
                self.used = one.queue
                commands.append(b"use %b\r\n" % _tube(one.queue).encode())
                answers.append(b"USING")
            job = one.job.encode()
            commands.append(b"put %d 0 %d %d\r\n%b\r\n" % (one.urgency, ttr, len(job), job))
            answers.append(b"INSERTED")
        self._sock.sendall(b"".join(commands))
        self._offered, self._answers = placements, answers

    def settle(self) -> Sequence[Placement]:
        """Read the answers to the last ``offer``, in the order of its commands; what it was."""
        for answer in self._answers:
            greenstalk._parse_response(self._reader.readline(), answer)
        offered, self._offered, self._answers = self._offered, (), ()
        return offered

    is_asked = False
    _is_deleting = False

    def ask(self, done: int | None) -> None:
        """Send a reserve, in one write with the delete of ``done``."""
        deletion = b"" if done is None else b"delete %d\r\n" % done
        self._sock.settimeout(None)
        self._sock.sendall(deletion + b"reserve\r\n")
        self.is_asked = True
        self._is_deleting = done is not None

    def answer(self) -> "greenstalk.Job[str] | None":
        """Read the answer of the reserve; None where only that of the delete has come."""
        if self._is_deleting:
            self._is_deleting = False
            self._read_deleted()
            if not self._has_more():
                return None
        self.is_asked = False
        line = self._reader.readline()
        self._sock.settimeout(_PATIENCE)
        number, size = greenstalk._parse_response(line, b"RESERVED")
        # Whatever somebody else has put there: as it names no job, it is deleted like any other.
        body = self._read_chunk(int(size)).decode("ascii", "backslashreplace")
        return greenstalk.Job(int(number), body)

    def _read_deleted(self) -> None:
        try:
            greenstalk._parse_response(self._reader.readline(), b"DELETED")
        except greenstalk.NotFoundError:
            pass  # The reservation was lost; whoever has the entry now deletes it.

    def _has_more(self) -> bool:
        self._sock.settimeout(0)
        more = self._reader.peek(1)
        self._sock.settimeout(None)
        return bool(more)

    def counts(self, tube: str) -> QueueStats:
        """How many entries a tube has: none where there is no such tube."""
        try:
            found = self.stats_tube(tube)
        except greenstalk.NotFoundError:
            return QueueStats(0, 0, 0)
        return QueueStats(
            int(found["current-jobs-ready"]),
            int(found["current-jobs-reserved"]),
            int(found["current-jobs-delayed"]),
            int(found["current-jobs-buried"]),
        )

    def fileno(self) -> int:
        return self._sock.fileno()


class BeanstalkdQueue:
    """A Queue on one connection, made again when it broke; see ``taskbus.port.queue``."""

    def __init__(
        self,
        address: str | tuple[str, int],
        ttr: int,
        queues: Collection[str] = (DEFAULT_QUEUE,),
    ) -> None:
        """``address``: a Unix socket's path or (host, port). ``ttr``: seconds, at least 2;
        ``queues``: those to take from.
        """
        self._address = address
        self._ttr = ttr
        self._queues = queues
        self._client: _Client | None = None
        self._lock = threading.RLock()
        self._taken: list[Placement] = []

    def put(self, placements: Sequence[Placement]) -> None:
        """See Queue."""
        for few in _in_parts(placements):
            with self._talk() as client:
                client.offer(few, self._ttr)
                client.settle()

    def offer(self, placements: Sequence[Placement]) -> None:
        """See Queue."""
        for few in _in_parts(placements):
            with self._talk() as client:
                client.offer(few, self._ttr)

    def taken(self) -> Sequence[Placement]:
        """See Queue."""
        with self._lock:
            if self._client is not None:
                with self._talk():
                    pass
            taken, self._taken = self._taken, []
            return taken

    def request(self, done: Delivery | None = None) -> None:
        """See Queue."""
        with self._talk() as client:
            if not client.is_asked:
                client.ask(None if done is None else done.number)

    def fileno(self) -> int:
        """See Queue."""
        with self._talk() as client:
            return client.fileno()

    def take(self) -> Delivery | None:
        """See Queue."""
        with self._talk() as client:
            try:
                found = client.answer()
            except (greenstalk.TimedOutError, greenstalk.DeadlineSoonError):
                return None
            return None if found is None else Delivery(found.id, found.body)

    def touch(self, delivery: Delivery) -> bool:
        """See Queue."""
        return self._unless_gone(lambda client: client.touch(_job(delivery)))

    def delete(self, delivery: Delivery) -> bool:
        """See Queue."""
        return self._unless_gone(lambda client: client.delete(delivery.number))

    def release(self, delivery: Delivery, delay: float) -> bool:
        """See Queue."""
        seconds = math.ceil(delay)

        def say(client: _Client) -> None:
            # A release names a priority, and a delivery does not tell the one it came with.
            priority = int(client.stats_job(delivery.number)["pri"])
            client.release(_job(delivery), priority, seconds)

        return self._unless_gone(say)

    def stats(self, *queues: str) -> QueueStats:
        """See Queue."""
        with self._talk() as client:
            tubes = list(map(_tube, queues)) or [tube for tube in client.tubes() if _is_ours(tube)]
            return QueueStats(*map(sum, zip(*map(client.counts, tubes), strict=True)))

    def instance(self) -> str:
        """See Queue."""
        with self._talk() as client:
            return str(client.stats()["id"])

    def close(self) -> None:
        """See Queue."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _unless_gone(self, say: Callable[[_Client], None]) -> bool:
        with self._talk() as client:
            try:
                say(client)
            except greenstalk.NotFoundError:
                return False
            return True

    @contextmanager
    def _talk(self) -> Iterator[_Client]:
        """The connection, made where there is none; after any failure it is thrown away, since
        an answer may still be on its way. The answers to an offer are read first.
        """
        with self._lock:
            try:
                if self._client is None:
                    self._client = _connect(self._address, self._queues)
                self._taken += self._client.settle()
                yield self._client
            # greenstalk asserts that a line is whole, which it is not when the server dies.
            except (OSError, greenstalk.Error, ValueError, AssertionError) as error:
                self.close()
                raise QueueUnavailable(
                    f"beanstalkd at {self._address} {_problem(error)}"
                ) from error


def _connect(address: str | tuple[str, int], queues: Collection[str]) -> _Client:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect(address)
        return _Client(sock, use=_tube(DEFAULT_QUEUE), watch=[_tube(name) for name in queues])
    except BaseException:
        sock.close()
        raise


def _problem(error: Exception) -> str:
    if isinstance(error, greenstalk.BeanstalkdError):
        # Its words are empty: the server says no more than its name.
        return f"refuses: {type(error).__name__}"
    return f"does not answer: {str(error) or type(error).__name__}"


def _in_parts(placements: Sequence[Placement]) -> Iterator[Sequence[Placement]]:
    """No more than the connection carries before an answer has to be read."""
    for start in range(0, len(placements), _MOST_IN_FLIGHT):
        yield placements[start : start + _MOST_IN_FLIGHT]


def _tube(queue: str) -> str:
    return TUBE if queue == DEFAULT_QUEUE else f"{TUBE}.{queue}"


def _is_ours(tube: str) -> bool:
    return tube == TUBE or tube.startswith(f"{TUBE}.")


def _job(delivery: Delivery) -> "greenstalk.Job[str]":
    return greenstalk.Job(delivery.number, delivery.job)
