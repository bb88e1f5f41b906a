"""A task that writes down when it runs, in a child and under a forker that die where it says.

Importing this makes the forker's process, and the children that it forks, deadly; nobody else may.
"""

import os
import signal
import sys
from pathlib import Path

from taskbus import TaskInput
from taskbus.worker import channel, child

_RUNS = "runs"
RELEASED = "released"
_dies = ""


def record(folder: str, dies: str = "", holds: bool = False, *, task: TaskInput) -> int:
    """Write down the job and its attempt; the first attempt may die, or not return where it began
    before the jobs were released.
    """
    global _dies
    attempt = int(task.details["attempt"])
    fd = os.open(Path(folder) / _RUNS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{task.details['job']} {attempt}\n".encode())
    os.close(fd)
    task.progress(0.5, f"attempt {attempt}")
    if attempt == 1:
        _dies = dies
        _come("running")
        if dies == "forker":
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        if holds and not (Path(folder) / RELEASED).exists():
            signal.pause()
    return attempt


def runs(folder: Path) -> list[tuple[str, int]]:
    """What was written down: jobs and their attempts."""
    try:
        lines = (folder / _RUNS).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    return [(job, int(attempt)) for job, attempt in map(str.split, lines)]


def _come(step: str) -> None:
    if step == _dies:
        os.kill(os.getpid(), signal.SIGKILL)


def _make_deadly() -> None:
    receive, report = channel.receive_job, child.report

    def receive_job(fd: int) -> bytes | None:
        job = receive(fd)
        if job is not None and b'"dies":"received"' in job and b'"attempt":1' in job:
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    def report_and_die(sock: int, ok: bool, told: str) -> None:
        _come("returned")
        report(sock, ok, told)
        _come("reported")

    def die_once() -> None:
        try:
            os.close(os.open(os.environ["DIES_AT_FORK"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    vars(child).update(receive_job=receive_job, report=report_and_die)
    if "DIES_AT_FORK" in os.environ:
        os.register_at_fork(after_in_parent=die_once)


if sys.modules["__main__"].__spec__ and "forker" in sys.modules["__main__"].__spec__.name:
    _make_deadly()
