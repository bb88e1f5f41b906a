"""Running attempts as the worker's loop does, but with a clock that stands still."""

import json
import os
import select
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from taskbus.model.job import Job, Note
from taskbus.model.json import dump
from taskbus.model.php import PhpSite
from taskbus.worker.attempt import Attempt
from taskbus.worker.channel import wait_readable
from taskbus.worker.spares import Child, Spares
from tests.support import tasks
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.site import alive, eventually
from tests.support.values import a_job, start

PATH = [str(REPOSITORY)]
NAMES = [
    name
    for name, value in vars(tasks).items()
    if getattr(value, "__module__", "") == tasks.__name__
]
HANDLERS = {
    f"com.t.{name.lower()}": {"kind": "python", "target": f"tests.support.tasks:{name}"}
    for name in NAMES
}
TIMEOUT = 100.0
PHP = PhpSite(client=str(REPOSITORY / "clients/php"), tasks=str(REPOSITORY / "tests/support/php"))


def php_spares(classes: Mapping[str, str], spares: int) -> Spares:
    """A forker of PHP, which knows these classes by the patterns of their entries."""
    return Spares(classes, [PHP.tasks], spares, PHP.forker)


def running_job(name: str, *args: Any, **kwargs: Any) -> Job:
    """A claimed job that calls a task of ``tests.support.tasks``."""
    job = a_job(uri=f"com.t.{name}", args=dump(args), kwargs=dump(kwargs), timeout=TIMEOUT)
    return start(job).after


def take(spares: Spares) -> Child:
    """The next spare child, once there is one."""
    while (child := spares.take()) is None:
        assert wait_readable([spares.fileno()], PATIENCE)
        spares.hear()
    return child


def begin(spares: Spares, name: str, *args: Any, **kwargs: Any) -> Attempt:
    """An attempt at time 0."""
    job = running_job(name, *args, **kwargs)
    return Attempt(job, job.uri, take(spares), spares, 0.0, 20.0)


def step(spares: Spares, attempt: Attempt, now: float = 0.0) -> None:
    """Wait for whatever comes next, and see to it."""
    ready = wait_readable([spares.fileno(), *attempt.open], PATIENCE)
    assert ready, "nothing happened"
    for fd in ready:
        if fd != spares.fileno():
            attempt.read(fd, now)
            continue
        for exit_ in spares.hear():
            if exit_.pid == attempt.child.pid:
                attempt.exited(exit_.status, now)


def finish(spares: Spares, attempt: Attempt) -> list[Note]:
    """Until it has an outcome; everything that was said and not taken before."""
    while attempt.outcome is None:
        step(spares, attempt)
    notes = attempt.notes(final=True)
    attempt.child.close()
    return notes


def text_of(notes: Iterable[Note], stream: str = "stdout") -> str:
    """What was written to one stream, where it was text."""
    return "".join(
        str(data.get("text", ""))
        for kind, data in notes
        if kind == "output" and data["stream"] == stream
    )


def printed(spares: Spares, attempt: Attempt) -> str:
    """The first whole line that the task prints."""
    text = ""
    while not text.endswith("\n"):
        assert attempt.outcome is None, attempt.outcome
        step(spares, attempt)
        text += text_of(attempt.notes())
        attempt.saved()
    return text.strip()


class Watch:
    """Sees the end of a process, even of one that is not ours or is never reaped."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def ended(self, seconds: float = PATIENCE) -> bool:
        """Whether it ends within that time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def job_in_hand_outlives_a_shortage(
    spares: Spares, short: Path, capfd: pytest.CaptureFixture[str], name: str, *args: Any
) -> None:
    """The forker, with two spares, cannot fork while this file is there: it serves the job, which
    prints a process of its own, and makes the missing children once it can. Ends the spares.
    """
    spares.hear()
    short.touch()
    # The next ones are asked for, and cannot be made.
    attempt = begin(spares, name, *args)
    pid = int(printed(spares, attempt))
    eventually(lambda: "have to wait" in capfd.readouterr().err)
    assert alive({pid})
    attempt.kill()
    finish(spares, attempt)
    assert attempt.outcome is not None
    assert not attempt.outcome.ok
    assert json.loads(attempt.outcome.body)["error"] == "taskbus.error.killed"
    child = take(spares)
    assert spares.take() is None
    short.unlink()
    take(spares).close()
    child.close()
    spares.close()


def children_of(pid: int) -> list[int]:
    """Its children, the oldest first."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]
