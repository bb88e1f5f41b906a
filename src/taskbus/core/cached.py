"""Records of one kind, in memory: who asks often asks the store only whether they have changed."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from taskbus.port.clock import Clock
from taskbus.port.records import Records

T = TypeVar("T")

_LOOK_SECONDS = 1.0


class Cached(Generic[T]):
    """Safe to use from several threads."""

    def __init__(
        self,
        records: Records,
        kind: str,
        clock: Clock,
        make: Callable[[str, Mapping[str, Any]], T],
    ) -> None:
        """``make``: the value of a record's name and body."""
        self._records = records
        self._kind = kind
        self._clock = clock
        self._make = make
        self._lock = threading.Lock()
        self._changes = -1
        # By name, as they were when they were last asked for.
        self.kept: Mapping[str, T] = {}
        self._look_at = float("-inf")

    def all(self) -> Mapping[str, T]:
        """By name, as they were within the last second."""
        now = self._clock()
        # Later than that it was before the clock was set back.
        if not now < self._look_at <= now + _LOOK_SECONDS:
            self.refresh()
            self._look_at = now + _LOOK_SECONDS
        return self.kept

    def refresh(self) -> None:
        """Read them now, where one has changed; raises StoreUnavailable."""
        with self._lock:
            # Asked before they are read: what changes in between is read again.
            changes = self._records.changes(self._kind)
            if changes != self._changes:
                records = self._records.all(self._kind)
                self.kept = {one.name: self._make(one.name, one.body) for one in records}
                self._changes = changes

    def drop(self) -> None:
        """They have changed."""
        self._look_at = float("-inf")
