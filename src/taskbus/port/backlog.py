"""The queued jobs of a store: what a queue is filled from that has lost its entries."""

from collections.abc import Sequence
from typing import Protocol

from taskbus.model.job import Placement


class Backlog(Protocol):
    """Safe to use from several threads. Every method may raise StoreUnavailable."""

    def queued(self, after: str, limit: int) -> Sequence[Placement]:
        """Queued jobs whose id is greater than ``after``, in the order of their ids."""
