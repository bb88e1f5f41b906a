"""One attempt, watched by the parent: hand over the job, collect what the child says, enforce.

Ends when the child's whole process group is gone and its channels are drained.
"""

import math
import os
import signal
from typing import Any

from taskbus.core.untraced import NO_SPAN
from taskbus.handler.perform import Outcome, failure_text, signal_name
from taskbus.model.errors import TaskFailure, TaskKilled, TaskTimeout
from taskbus.model.job import Job, Note
from taskbus.model.json import dump, load
from taskbus.model.task import MOST_WARNINGS
from taskbus.model.trace import with_trace
from taskbus.port.spans import Span
from taskbus.worker.channel import FAILURE, PROGRESS, RESULT, WARNING, FrameReader
from taskbus.worker.output import Output
from taskbus.worker.spares import Child, Spares
from taskbus.worker.usage import LOOK_SECONDS, Limits

FLUSH_SECONDS = 0.25
_CHUNK = 65536
_GRACE = 5.0


class Attempt:
    """One claimed job in one child. The worker's loop tells it what to read and what time it is."""

    def __init__(
        self,
        job: Job,
        pattern: str,
        child: Child,
        spares: Spares,
        now: float,
        keep_every: float,
        before: list[dict[str, Any]] | None = None,
        span: Span = NO_SPAN,
        enclosed: Any = None,
    ) -> None:
        """Hands the job to the child, with how those ``before`` it have ended and with what is
        ``enclosed`` for its task alone; raises OSError when that spare had died.
        """
        self.job = job
        self.pattern = pattern
        self.span = span
        self.child = child
        self.outcome: Outcome | None = None
        self.open = {child.sock.fileno(), child.stdout, child.stderr}
        self.spares = spares
        self._deadline = now + job.timeout
        self._keep_every = keep_every
        self.keep_at = now + keep_every
        self._flush_at: float | None = None
        self._frames = FrameReader()
        self._reported: Outcome | None = None
        self._output = Output()
        self._progress: str | None = None
        self._warnings = 0
        self._unsaved: list[Note] = []
        self._told: tuple[int, str | None] = (0, None)
        self._ending = ""
        self._limits = Limits.of(job, child.pid)
        self._look_at = now + LOOK_SECONDS if self._limits else math.inf
        self._overrun: TaskFailure | None = None
        child.start(_given(job, pattern, before, span, enclosed))

    @property
    def wake(self) -> float:
        """When ``enforce`` or ``flush`` has something to do, or the claim is to be kept."""
        wake = min(self._deadline, self.keep_at, self._look_at)
        return wake if self._flush_at is None else min(wake, self._flush_at)

    def read(self, fd: int, now: float) -> bool:
        """Read what is there; False when there is nothing more now, or ever."""
        data = _receive(fd) if fd in self.open else None
        if data is None:
            return False
        child = self.child
        if not data:
            self.open.discard(fd)
        elif fd == child.stdout or fd == child.stderr:
            self._output.add("stdout" if fd == child.stdout else "stderr", data)
        else:
            for kind, body in self._frames.feed(data):
                self._hear(kind, body.decode())
            if self._reported is not None:
                self._drain(now)
        if self._reported is not None and not self.open & {child.stdout, child.stderr}:
            # No process is left that could write more: no need to see this one exit.
            self.outcome = self._reported
        if not data:
            return False
        if self._flush_at is None and self._has_notes():
            self._flush_at = now + FLUSH_SECONDS
        return True

    def enforce(self, now: float) -> None:
        """End a child that is over its time, or uses too much."""
        if now >= self._deadline:
            self._end(self._ending or "timeout", now)
        elif now >= self._look_at and self._limits is not None:
            self._look_at = now + LOOK_SECONDS
            self._overrun = self._limits.exceeded()
            if self._overrun is not None:
                self._look_at = math.inf
                self._limits.kill()
                self.kill()

    def cancel(self, actor: str, now: float) -> None:
        """Somebody wants it to end."""
        if self.job.cancel is None:
            self.job = self.job._replace(cancel=actor)
            self._unsaved.append(("cancelling", {"actor": actor}))
            self._flush_at = now
            self._end("cancel", now)

    def _end(self, why: str, now: float) -> None:
        """First TERM to the whole group, to clean up, then KILL."""
        self.spares.kill(self.child, signal.SIGKILL if self._ending else signal.SIGTERM)
        self._ending = why
        self._deadline = now + _GRACE

    def kept(self, now: float) -> None:
        """The claim was renewed."""
        self.keep_at = now + self._keep_every

    def rest(self, now: float) -> None:
        """The store is away: the claim is renewed later, and words wait for the next ones."""
        self.kept(now)
        self._flush_at = None

    def flush(self, now: float) -> list[Note]:
        """The notes whose time has come to be stored."""
        if self._flush_at is None or now < self._flush_at:
            return []
        return self.notes()

    def notes(self, final: bool = False) -> list[Note]:
        """What was said and is not stored yet; the same again until ``saved``."""
        self._flush_at = None
        self._unsaved += [("output", data) for data in self._output.take(final)]
        self._told = len(self._unsaved), self._progress
        # Only the newest progress, also where the store has been away for long.
        progress = [] if self._progress is None else [("progress", load(self._progress))]
        return self._unsaved + progress

    def saved(self) -> None:
        """What ``notes`` has returned last is in the store."""
        count, progress = self._told
        del self._unsaved[:count]
        if self._progress == progress:
            self._progress = None

    def exited(self, status: int, now: float) -> None:
        """The child is gone: read what it had still written, and judge."""
        self._hear_out(now)
        if self.outcome is None:
            self.outcome = Outcome(False, failure_text(self._judge(status)))

    def abandoned(self, now: float) -> None:
        """The forker is gone, and with it the child's exit status."""
        self.spares.abandon(self.child)
        self._hear_out(now)
        self.outcome = self.outcome or Outcome(
            False, failure_text(TaskKilled("the process that forks the tasks was killed"))
        )

    def kill(self) -> None:
        """Nobody wants the outcome any more."""
        self.spares.kill(self.child, signal.SIGKILL)

    def _hear_out(self, now: float) -> None:
        """The child is dead: read what it had still said."""
        while self.read(self.child.sock.fileno(), now):
            pass
        self._drain(now)
        self.outcome = self.outcome or self._reported

    def _drain(self, now: float) -> None:
        """Read what the child, which writes no more, has left in its pipes: they hold no more than
        a chunk, and then comes their end, unless somebody else goes on writing there.
        """
        for fd in (self.child.stdout, self.child.stderr):
            if self.read(fd, now):
                self.read(fd, now)

    def _hear(self, kind: bytes, body: str) -> None:
        if kind == PROGRESS:
            self._progress = body
        elif kind == WARNING:
            self._warnings += 1
            if self._warnings <= MOST_WARNINGS:
                self._unsaved.append(("warning", load(body)))
        elif self._reported is None and kind in (RESULT, FAILURE):
            self._reported = Outcome(kind == RESULT, body)
            if kind == FAILURE and (why := self._ended_for()) is not None:
                # It fails because it has to end: by exit() in its handler of TERM, for example, or
                # as the program that it runs was killed a moment before itself.
                self._reported = Outcome(False, failure_text(why))

    def _has_notes(self) -> bool:
        return bool(self._unsaved) or self._progress is not None or self._output.has_news

    def _ended_for(self) -> TaskFailure | None:
        """What we have ended it for, if that counts as its error."""
        if self._overrun is None and self._ending == "timeout":
            return TaskTimeout(f"did not end within {self.job.timeout:g} seconds")
        return self._overrun

    def _judge(self, status: int) -> TaskFailure:
        """What the death of a child that reported nothing says."""
        if (why := self._ended_for()) is not None:
            return why
        if not os.WIFSIGNALED(status):
            code = os.WEXITSTATUS(status)
            return TaskKilled(f"the task's process exited with status {code} and no result")
        if os.WTERMSIG(status) == signal.SIGXCPU and self._limits is not None:
            return self._limits.killed_by_kernel()
        name = signal_name(os.WTERMSIG(status))
        hint = " (out of memory, or killed by hand)" if name == "SIGKILL" else ""
        return TaskKilled(f"the task's process was killed by {name}{hint}", signal=name)


def _receive(fd: int) -> bytes | None:
    """What is there; empty at the end, None when there is nothing now."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def _given(
    job: Job,
    pattern: str,
    before: list[dict[str, Any]] | None,
    span: Span,
    enclosed: Any,
) -> bytes:
    """The job as the child reads it; args and kwargs stay the JSON that they are."""
    details = load(job.details) | {"job": job.id, "attempt": job.attempt}
    details = with_trace(details, span.trace)
    if before is not None:
        details["after"] = before
    if enclosed is not None:
        details["enclosed"] = enclosed
    return (
        f'{{"handler":{dump(pattern)},"uri":{dump(job.uri)},"args":{job.args},'
        f'"kwargs":{job.kwargs},"details":{dump(details)}}}'
    ).encode()
