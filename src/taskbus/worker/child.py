"""The child: one job in a fresh process, then exit. Lean: the forker imports this."""

import sys
from collections.abc import Mapping
from functools import partial

# To look a function up in its module touches more pages than to call it, and a child pays for each.
from os import _exit, close, dup2, setsid

from taskbus.handler import Handler
from taskbus.handler.perform import perform_bare
from taskbus.model.json import dump, load_own
from taskbus.model.task import TaskInput
from taskbus.worker.channel import (
    FAILURE,
    PROGRESS,
    RESULT,
    WARNING,
    receive_job,
    send_frame,
)


def live(sock: int, stdout: int, stderr: int, handlers: Mapping[str, Handler]) -> None:
    """Wait for a job, run it, report, exit. Never returns."""
    status = 1
    try:
        setsid()
        dup2(stdout, 1)
        dup2(stderr, 2)
        close(stdout)
        close(stderr)
        job = receive_job(sock)
        if job is not None:
            ok, told = run(sock, job, handlers)
            # Closed before the last frame, so that the parent, which reads that, knows that all
            # output is there, and need not wait for the end of this process.
            close(1)
            close(2)
            report(sock, ok, told)
        status = 0
    finally:
        # A normal exit would tear down an interpreter that the forker shares page by page.
        _exit(status)


def run(sock: int, body: bytes, handlers: Mapping[str, Handler]) -> tuple[bool, str]:
    """Run the job in ``body``; its output is flushed. Whether it succeeded, and the rest of its
    Outcome.
    """
    job = load_own(body.decode())
    task = TaskInput(
        job["uri"],
        job["args"],
        job["kwargs"],
        job["details"],
        partial(_progress, sock),
        partial(_warn, sock),
    )
    outcome = perform_bare(handlers[job["handler"]], task)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    return outcome


def _progress(sock: int, fraction: float, message: str) -> None:
    told = dump({"fraction": fraction, "message": message})
    send_frame(sock, PROGRESS, told.encode())


def _warn(sock: int, message: str) -> None:
    send_frame(sock, WARNING, dump({"reason": message}).encode())


def report(sock: int, ok: bool, told: str) -> None:
    """The last frame."""
    send_frame(sock, RESULT if ok else FAILURE, told.encode())
