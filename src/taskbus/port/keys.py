"""Keys: which job holds which name. A store writes those of new jobs together with them."""

from collections.abc import Collection, Sequence
from typing import Protocol

from taskbus.model.job import Key


class Keys(Protocol):
    """Safe to use from several threads. Every method may raise StoreUnavailable."""

    def holders(self, names: Collection[str], now: float) -> dict[str, Key]:
        """Those of these names that are held now."""

    def hold(self, keys: Sequence[Key], now: float) -> None:
        """Give keys to jobs that are stored already; raises KeyTaken, with none of them given,
        where one is held.
        """

    def expire(self, now: float, limit: int) -> int:
        """Forget keys whose time is over; how many there were."""
