"""Records: small versioned documents, for what is configured while the bus runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class Record(NamedTuple):
    """One document. ``version`` is 1 when it is new, and one more after each change."""

    name: str
    body: Mapping[str, Any]
    version: int


class Records(Protocol):
    """Documents by kind (up to 64 characters) and name (up to 191), which differ by case.

    Safe to use from several threads and processes. Every method may raise StoreUnavailable.
    """

    def get(self, kind: str, name: str) -> Record | None:
        """One of them."""

    def all(self, kind: str) -> list[Record]:
        """Every one of a kind, by name."""

    def put(self, kind: str, name: str, body: Mapping[str, Any], seen: int) -> bool:
        """Write it in the place of version ``seen``, 0 for none; False where it is at another one.

        Where the store did not answer, it may have been written: ask for it.
        """

    def remove(self, kind: str, name: str) -> bool:
        """False where there is none."""

    def changes(self, kind: str) -> int:
        """A number that grows with every change of this kind: for caches."""
