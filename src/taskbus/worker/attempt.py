"""One attempt, watched by the parent: hand over the job, collect what the child says, enforce.

Ends when the child's whole process group is gone and its channels are drained.
"""

import base64
import codecs
import os
import signal
from typing import Any

from taskbus.handler.perform import Outcome, failure_text, signal_name
from taskbus.model.errors import TaskKilled, TaskTimeout
from taskbus.model.job import Job
from taskbus.model.json import dump, load
from taskbus.model.portable import is_portable
from taskbus.worker.channel import (
    FAILURE,
    PROGRESS,
    RESULT,
    FrameReader,
)
from taskbus.worker.spares import Child, Spares

Note = tuple[str, dict[str, Any]]

FLUSH_SECONDS = 0.25
_CHUNK = 65536
MOST_OUTPUT = 1024 * 1024
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
    ) -> None:
        """Hands the job to the child; raises OSError when that spare had died."""
        self.job = job
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
        self._output = _Output()
        self._progress: dict[str, Any] | None = None
        self._unsaved: list[Note] = []
        self._ending = ""
        child.start(_given(job, pattern))

    @property
    def wake(self) -> float:
        """When ``enforce`` or ``flush`` has something to do, or the claim is to be kept."""
        wake = min(self._deadline, self.keep_at)
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
        """End a child that is over its time."""
        if now >= self._deadline:
            self._end(self._ending or "timeout", now)

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

    def flush(self, now: float) -> list[Note]:
        """The notes whose time has come to be stored."""
        if self._flush_at is None or now < self._flush_at:
            return []
        return self.notes()

    def notes(self, final: bool = False) -> list[Note]:
        """What was said and is not stored yet; the same again until ``saved``."""
        self._flush_at = None
        self._unsaved += [("output", data) for data in self._output.take(final)]
        if self._progress is not None:
            self._unsaved.append(("progress", self._progress))
            self._progress = None
        return list(self._unsaved)

    def saved(self) -> None:
        """The notes are in the store."""
        self._unsaved = []

    def exited(self, status: int, now: float) -> None:
        """The child is gone: read what it had still written, and judge."""
        while self.read(self.child.sock.fileno(), now):
            pass
        self._drain(now)
        self.outcome = self.outcome or self._reported or self._judge(status)

    def abandoned(self) -> None:
        """The forker is gone, and with it the child's exit status."""
        self.spares.abandon(self.child)
        self.outcome = self._reported or Outcome(
            False, failure_text(TaskKilled("the process that forks the tasks was killed"))
        )

    def kill(self) -> None:
        """Nobody wants the outcome any more."""
        self.spares.kill(self.child, signal.SIGKILL)

    def _drain(self, now: float) -> None:
        """Read what the child, which writes no more, has left in its pipes: they hold no more than
        a chunk, and then comes their end, unless somebody else goes on writing there.
        """
        for fd in (self.child.stdout, self.child.stderr):
            if self.read(fd, now):
                self.read(fd, now)

    def _hear(self, kind: bytes, body: str) -> None:
        if kind == PROGRESS:
            self._progress = load(body)
        elif self._reported is None and kind in (RESULT, FAILURE):
            self._reported = Outcome(kind == RESULT, body)

    def _has_notes(self) -> bool:
        return self._progress is not None or self._output.size > 0

    def _judge(self, status: int) -> Outcome:
        """What the death of a child that reported nothing says."""
        if self._ending == "timeout":
            error: Exception = TaskTimeout(f"did not end within {self.job.timeout:g} seconds")
        elif os.WIFSIGNALED(status):
            name = signal_name(os.WTERMSIG(status))
            hint = " (out of memory, or killed by hand)" if name == "SIGKILL" else ""
            error = TaskKilled(f"the task's process was killed by {name}{hint}", signal=name)
        else:
            code = os.WEXITSTATUS(status)
            error = TaskKilled(f"the task's process exited with status {code} and no result")
        return Outcome(False, failure_text(error))


def _receive(fd: int) -> bytes | None:
    """What is there; empty at the end, None when there is nothing now."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def _given(job: Job, pattern: str) -> bytes:
    """The job as the child reads it; args and kwargs stay the JSON that they are."""
    details = load(job.details) | {"job": job.id, "attempt": job.attempt}
    return (
        f'{{"handler":{dump(pattern)},"uri":{dump(job.uri)},"args":{job.args},'
        f'"kwargs":{job.kwargs},"details":{dump(details)}}}'
    ).encode()


class _Output:
    """What the child wrote, in chunks of JSON: text where it is UTF-8, base64 where it is not, or
    begins with NUL.
    """

    def __init__(self) -> None:
        self._chunks: list[tuple[str, bytes]] = []
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")() for name in ("stdout", "stderr")
        }
        self._total = 0
        self._dropped = 0
        self.size = 0

    def add(self, stream: str, data: bytes) -> None:
        room = max(0, MOST_OUTPUT - self._total)
        kept = data[:room]
        self._dropped += len(data) - len(kept)
        self._total += len(kept)
        self.size += len(kept)
        if self._chunks and self._chunks[-1][0] == stream:
            kept = self._chunks.pop()[1] + kept
        if kept:
            self._chunks.append((stream, kept))

    def take(self, final: bool) -> list[dict[str, Any]]:
        taken = [self._told(stream, data) for stream, data in self._chunks]
        self._chunks, self.size = [], 0
        if final:
            for stream, decoder in self._decoders.items():
                if rest := decoder.getstate()[0]:
                    taken.append({"stream": stream, "base64": base64.b64encode(rest).decode()})
                decoder.reset()
            if self._dropped:
                taken.append({"stream": "stdout", "text": "", "dropped": self._dropped})
                self._dropped = 0
        return [one for one in taken if one.get("text") != "" or "dropped" in one]

    def _told(self, stream: str, data: bytes) -> dict[str, Any]:
        decoder = self._decoders[stream]
        held = decoder.getstate()[0]
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError:
            decoder.reset()
            raw = held + data
        else:
            if is_portable(text):
                return {"stream": stream, "text": text}
            raw = text.encode()
        return {"stream": stream, "base64": base64.b64encode(raw).decode()}
