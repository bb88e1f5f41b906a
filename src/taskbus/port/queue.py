"""The queue server: which job to look at next. A hint; the store is the truth."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from taskbus.model.job import Placement


class Delivery(NamedTuple):
    """One job id, reserved for this connection until it is deleted, released or lost."""

    number: int
    job: str


class QueueStats(NamedTuple):
    """How many entries wait, are reserved, wait for their delay, and were buried by somebody: not
    by the bus.
    """

    ready: int
    reserved: int
    delayed: int
    buried: int = 0


class Queue(Protocol):
    """One connection, which takes from the queues that it was made for, and puts into every one.
    Every method raises QueueUnavailable when the server cannot be reached.
    """

    def put(self, placements: Sequence[Placement]) -> None:
        """Queue job ids, each in its queue; those of higher priority come out earlier, equal ones
        in order.
        """

    def offer(self, placements: Sequence[Placement]) -> None:
        """As ``put``, but the server's answer is left for ``taken``."""

    def taken(self) -> Sequence[Placement]:
        """What was offered and is in the queue, each once; waits for the server's answer. What
        is never told may be there or not: the server, or the connection, broke.
        """

    def request(self, done: Delivery | None = None) -> None:
        """Ask for the next delivery: of all its queues, the one of the highest priority. Nothing
        else may be said until ``take`` has answered with one. ``done`` is deleted before.
        """

    def fileno(self) -> int:
        """Becomes readable when ``take`` will not wait."""

    def take(self) -> Delivery | None:
        """The delivery asked for, waiting for it; None when the server asks to ask again."""

    def touch(self, delivery: Delivery) -> bool:
        """Keep the reservation for another TTR; False when it is lost."""

    def delete(self, delivery: Delivery) -> bool:
        """The job needs no further delivery; False when there was nothing to delete."""

    def release(self, delivery: Delivery, delay: float) -> bool:
        """Deliver again, to anyone, in ``delay`` seconds; False when the reservation is lost."""

    def stats(self, *queues: str) -> QueueStats:
        """Counts of these queues together; of all that there are, where none is named."""

    def instance(self) -> str:
        """Names the server as it runs now: another one after each start."""

    def close(self) -> None:
        """Leave; what is reserved goes back at once."""
