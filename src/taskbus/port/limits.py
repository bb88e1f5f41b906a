"""The limits' side of the store: who has a place in a lane, who waits for one. Only looked at here;
places are taken and given back by ``Store.advance``.
"""

from typing import Protocol

from taskbus.model.job import Job, Place


class Limits(Protocol):
    """Safe to use from several threads. Every method may raise StoreUnavailable."""

    def places(self, lane: str) -> list[Place]:
        """The lane's places that somebody has, or had until a time that may be over."""

    def coming(self, lane: str) -> int:
        """How many queued jobs have waited for this lane and go on as soon as a worker has time."""

    def first(self, lane: str, count: int) -> list[Job]:
        """So many of those that wait for this lane: the highest priority first, then the oldest."""

    def crowded(self) -> list[str]:
        """The lanes that jobs wait for."""

    def forget(self, now: float) -> int:
        """Delete places whose time is over; returns how many."""
