"""Expiry: which jobs have been kept long enough."""

from typing import Protocol


class Expiry(Protocol):
    """Safe to use from several threads. Every method may raise StoreUnavailable."""

    def expired(self, now: float, limit: int) -> list[str]:
        """Jobs that have ended and whose ``expires`` has passed, the earliest first; not those that
        ``Store.remove`` keeps.
        """
