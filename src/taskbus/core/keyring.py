"""The keyring: all access keys in memory, as the store has them."""

import threading
from typing import Any

from taskbus.model.access import AccessKey, check_key, key_of
from taskbus.model.errors import InvalidArgument, KeyNotFound
from taskbus.port.clock import Clock
from taskbus.port.records import Records

KIND = "access_key"


class Keyring:
    """Safe to use from several threads. What asks for keys needs no store: see ``refresh``."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = -1
        self._keys: dict[str, AccessKey] = {}

    def refresh(self) -> None:
        """Read the keys where somebody has changed one; raises StoreUnavailable."""
        with self._lock:
            # Asked before they are read: a change in between is read once more, not left out.
            changes = self._records.changes(KIND)
            if changes != self._seen:
                found = self._records.all(KIND)
                self._keys = {one.name: key_of(one.name, one.body) for one in found}
                self._seen = changes

    def find(self, id_: str | None) -> AccessKey | None:
        """The key, where it is good now."""
        found = self._keys.get(id_ or "")
        return found if found is not None and found.is_valid(self._clock()) else None

    def proved(self, id_: str | None, token: object) -> AccessKey | None:
        """The key of this id, where it is good now and this is the whole of it."""
        found = self.find(id_)
        return found if found is not None and found.is_proved(token) else None

    def all(self) -> list[AccessKey]:
        """Every key, the oldest first, those included whose time is over."""
        return sorted(self._keys.values(), key=lambda key: (key.created, key.id))

    def add(self, request: Any) -> AccessKey:
        """Store a new key, see ``check_key``; raises InvalidArgument or StoreUnavailable."""
        key = check_key(request, self._clock())
        if not self._records.put(KIND, key.id, key.body(), 0):
            # Where the store's answer got lost and this was sent again, it is the same key.
            found = self._records.get(KIND, key.id)
            if found is None or found.body["digest"] != key.digest:
                raise InvalidArgument("id", key.id, "another key has it", "make a new key")
        self.refresh()
        return key

    def remove(self, id_: str) -> None:
        """Forget a key; raises KeyNotFound or StoreUnavailable."""
        if not self._records.remove(KIND, id_):
            raise KeyNotFound(id_)
        self.refresh()
