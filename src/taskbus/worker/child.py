"""The child: one job in a fresh process, then exit. Lean: the forker imports this."""

import os
import sys
from collections.abc import Mapping

from taskbus.handler import Handler
from taskbus.handler.perform import Outcome, perform
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
        os.setsid()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        job = receive_job(sock)
        if job is not None:
            outcome = run(sock, job, handlers)
            # Closed before the last frame, so that the parent, which reads that, knows that all
            # output is there, and need not wait for the end of this process.
            os.close(1)
            os.close(2)
            report(sock, outcome)
        status = 0
    finally:
        # A normal exit would tear down an interpreter that the forker shares page by page.
        os._exit(status)


def run(sock: int, body: bytes, handlers: Mapping[str, Handler]) -> Outcome:
    """Run the job in ``body``; its output is flushed."""
    job = load_own(body.decode())

    def progress(fraction: float, message: str) -> None:
        told = dump({"fraction": fraction, "message": message})
        send_frame(sock, PROGRESS, told.encode())

    def warn(message: str) -> None:
        send_frame(sock, WARNING, dump({"reason": message}).encode())

    task = TaskInput(job["uri"], job["args"], job["kwargs"], job["details"], progress, warn)
    outcome = perform(handlers[job["handler"]], task)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    return outcome


def report(sock: int, outcome: Outcome) -> None:
    """The last frame."""
    send_frame(sock, RESULT if outcome.ok else FAILURE, outcome.body.encode())
