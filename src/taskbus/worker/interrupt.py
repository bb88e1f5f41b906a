"""Ctrl-C ends the job of a worker that runs in a terminal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import State
from taskbus.port.store import Store

_AGAIN_SECONDS = 1.0


@contextmanager
def cancel_on_interrupt(store: Store, job_id: str, actor: str) -> Iterator[None]:
    """While it lasts, SIGINT asks the job's attempt to end, as cancelling does; a second one ends
    this process. The worker has set its own handler before.
    """
    wanted = threading.Event()

    def wait() -> None:
        wanted.wait()
        while not _asked(store, job_id, actor):
            threading.Event().wait(_AGAIN_SECONDS)

    def on_interrupt(*_: object) -> None:
        wanted.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    # In a thread of its own: a signal may come while the store is in use.
    threading.Thread(target=wait, name="interrupt", daemon=True).start()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _asked(store: Store, job_id: str, actor: str) -> bool:
    """False where it has to be tried again: it runs not yet, or the store is away."""
    try:
        job = store.job(job_id)
        is_running = job is not None and job.state is State.RUNNING
        return job is not None and is_running and store.ask_to_end(job, actor)
    except StoreUnavailable:
        return False
