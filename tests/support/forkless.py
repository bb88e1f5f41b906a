"""A task module of a machine that may be short of processes: while the file that the environment
names is there, no fork of this process succeeds.
"""

import errno
import os
from collections.abc import Callable

VARIABLE = "TASKBUS_TEST_NO_FORK"


def run() -> None:
    """Nothing but the module is of interest."""


def _unless_short(fork: Callable[[], int]) -> Callable[[], int]:
    def forked() -> int:
        if os.path.exists(os.environ.get(VARIABLE, "")):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    return forked


os.fork = _unless_short(os.fork)
