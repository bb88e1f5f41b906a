"""The tasks that every contestant runs. Standard library only, so that importing them costs
each contestant the same."""

import fcntl
import socket
import time


def noop() -> None:
    """Do nothing: what is measured is the bus."""


def stamp(address: str) -> None:
    """Tell the probe at `address` when this first line ran (CLOCK_REALTIME, seconds)."""
    started = time.time()
    _tell(address, repr(started))


def gate(address: str, lock: str) -> None:
    """Occupy a worker: tell the probe at `address`, then wait until `lock` is released."""
    with open(lock) as file:
        _tell(address, "waiting")
        fcntl.flock(file, fcntl.LOCK_SH)


def hold(address: str) -> None:
    """Tell the probe at `address` that this has started, then run until somebody ends it."""
    _tell(address, "holding")
    while True:
        time.sleep(3600)


def chatter(lines: int) -> None:
    """Write so many lines of 80 bytes."""
    for nth in range(lines):
        print(f"{nth:079}")


def _tell(address: str, message: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.sendto(message.encode(), address)
