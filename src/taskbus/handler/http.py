"""``http = "http://host/path"``, or a table: the call as a request, the answer as its result.

In a backend, connections are kept for the next call. A worker's child makes one call and has
nothing to keep. Lean: the forker imports this.
"""

import http.client
import time
from _thread import allocate_lock
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

from taskbus.handler import Handler
from taskbus.handler.contract import LARGEST_ANSWER
from taskbus.handler.http_answer import Heard, judge, media_type
from taskbus.handler.http_lines import CONNECT_SECONDS, Line, Lines, connect, tls_of
from taskbus.handler.http_progress import MEDIA_TYPE, Streamed
from taskbus.handler.http_request import Asked, Asking
from taskbus.handler.secret import proof
from taskbus.model.errors import (
    ConfigError,
    HandlerUnreachable,
    HttpFailure,
    InvalidResult,
    TaskFailure,
    TaskTimeout,
)
from taskbus.model.http_target import HttpTarget
from taskbus.model.task import TaskInput, TaskResult

_CHUNK = 65536
_PORTS = {"http": 80, "https": 443}
# Statuses of a target, or what is in front of it, that has not got to the call.
_PASSING = frozenset({429, 502, 503, 504})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


def http_handler(target: str | Sequence[Any], timeout: float | None) -> Handler:
    """A handler that sends each call to the target. Redirects are not followed: they are errors."""
    goal = HttpTarget(target) if isinstance(target, str) else HttpTarget(*target)
    try:
        door = _Door(goal, timeout)
    except ConfigError as wrong:
        return _failing(wrong)

    def run(task: TaskInput) -> TaskResult:
        call = _Call(door, task)
        with task.leash.tied(call.cut) if task.leash else nullcontext():
            return call.run()

    return run


def check_target(target: HttpTarget) -> None:
    """Raises ConfigError where a file that it names is not as it has to be."""
    tls_of(target)
    if target.auth:
        proof(*target.auth[1:])


def _failing(wrong: ConfigError) -> Handler:
    """Its calls fail, those of the other entries do not."""

    def fail(_task: TaskInput) -> TaskResult:
        raise wrong

    return fail


class _Door:
    """What all calls of one target share."""

    def __init__(self, target: HttpTarget, timeout: float | None) -> None:
        parts = urlsplit(target.url)
        self.target = target
        self.timeout = timeout
        self.name = target.url.partition("?")[0]
        self.ask = Asking(target)
        self.idle = Lines(target.keep_alive)
        self.is_reused = timeout is not None and target.keep_alive > 0
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = tls_of(target)

    def open(self, deadline: float | None) -> Line:
        """A new connection; raises OSError."""
        return connect(self._host, self._port, self._tls, deadline)


class _Call:
    """One call, in as many tries as the target may be given."""

    def __init__(self, door: _Door, task: TaskInput) -> None:
        self._door = door
        self._task = task
        self._asked = door.ask(task)
        self._deadline = None if door.timeout is None else time.monotonic() + door.timeout
        self._line: Line | None = None
        self._is_sent = False
        self._is_cut = False
        # Free when the call is cut.
        self._over = allocate_lock()
        self._over.acquire()

    def cut(self, _hard: bool) -> None:
        """In another thread: end it."""
        if not self._is_cut:
            self._is_cut = True
            self._over.release()
        if (line := self._line) is not None:
            line.cut()

    def run(self) -> TaskResult:
        """The result; raises TaskFailure."""
        target, failures = self._door.target, 0
        while True:
            try:
                return self._once()
            except (HandlerUnreachable, HttpFailure) as failed:
                failures += 1
                if failures >= target.tries or not self._is_worth(failed):
                    raise
                pause = _FIRST_PAUSE * 2 ** (failures - 1)
                pause = max(pause, failed.about.get("retry_after", 0.0))
                if pause > self._most_pause():
                    raise
                if self._over.acquire(timeout=pause):
                    raise

    def _is_worth(self, failed: TaskFailure) -> bool:
        """Whether to try again can help, and can do no harm."""
        if self._is_cut:
            return False
        if isinstance(failed, HttpFailure) and failed.status not in _PASSING:
            return False
        return not self._is_sent or self._door.target.may_be_repeated

    def _most_pause(self) -> float:
        if self._deadline is None:
            return _LONGEST_PAUSE
        return min(_LONGEST_PAUSE, self._deadline - time.monotonic())

    def _once(self) -> TaskResult:
        door = self._door
        try:
            heard = self._heard()
        except (OSError, http.client.HTTPException) as error:
            raise self._missed(error) from error
        return judge(heard, door.name, door.target.plain)

    def _missed(self, error: Exception) -> TaskFailure:
        """Why there is no answer."""
        door, words = self._door, f"{type(error).__name__}: {error}"
        if isinstance(error, TimeoutError):
            if self._deadline and (self._is_sent or time.monotonic() >= self._deadline):
                return TaskTimeout(f"{door.name} did not answer within {door.timeout:g} seconds")
            words = f"no connection within {CONNECT_SECONDS:g} seconds"
        return HandlerUnreachable(f"cannot reach {door.name}: {words}", value=door.name)

    def _heard(self) -> Heard:
        """The answer, over a kept connection where there is one. The other side may have closed
        that, which costs no try where the call can be repeated.
        """
        if self._door.is_reused and (kept := self._door.idle.take()) is not None:
            try:
                return self._over_line(kept)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                if self._is_cut or not self._door.target.may_be_repeated:
                    raise
        self._is_sent = False
        return self._over_line(self._door.open(self._deadline))

    def _over_line(self, line: Line) -> Heard:
        line.deadline, self._line = self._deadline, line
        done = False
        try:
            if self._is_cut:
                line.cut()
            self._is_sent = True
            heard, done = _exchange(line, self._door, self._asked, self._task)
            return heard
        finally:
            self._line = None
            if done and not self._is_cut:
                self._door.idle.give_back(line)
            else:
                line.close()


def _exchange(line: Line, door: _Door, asked: Asked, task: TaskInput) -> tuple[Heard, bool]:
    """One request and its answer, and whether the connection is good for another one."""
    connection = http.client.HTTPConnection("")
    connection.sock = line
    headers = asked.headers if door.is_reused else asked.headers | {"Connection": "close"}
    connection.request(door.target.method, asked.path, asked.body, headers)
    response = connection.getresponse()
    try:
        body = _read(response, None if door.target.plain else task)
        heard = Heard(response.status, response.headers, body)
        return heard, door.is_reused and not response.will_close
    finally:
        response.close()


def _read(response: http.client.HTTPResponse, task: TaskInput | None) -> bytes:
    """The answer; what it tells before of its progress is told on, where there is a task."""
    if task and media_type(response.headers) == MEDIA_TYPE:
        streamed = Streamed(task)
        while chunk := response.read1(_CHUNK):
            streamed.feed(chunk)
        _check_whole(response, streamed.answer)
        streamed.end()
        return streamed.answer
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise InvalidResult(f"the answer is larger than {LARGEST_ANSWER} bytes")
    _check_whole(response, body)
    return bytes(body)


def _check_whole(response: http.client.HTTPResponse, body: bytes | bytearray) -> None:
    if response.length:
        raise http.client.IncompleteRead(bytes(body), response.length)
