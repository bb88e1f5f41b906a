"""The keyring: all access keys in memory, as the store has them."""

from typing import Any

from taskbus.core.cached import Cached
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
        self._keys = Cached(records, KIND, clock, key_of)

    def refresh(self) -> None:
        """Read the keys where somebody has changed one; raises StoreUnavailable."""
        self._keys.refresh()

    def find(self, id_: str | None) -> AccessKey | None:
        """The key, where it is good now."""
        found = self._keys.kept.get(id_ or "")
        return found if found is not None and found.is_valid(self._clock()) else None

    def proved(self, id_: str | None, token: object) -> AccessKey | None:
        """The key of this id, where it is good now and this is the whole of it."""
        found = self.find(id_)
        return found if found is not None and found.is_proved(token) else None

    def all(self) -> list[AccessKey]:
        """Every key, the oldest first, those included whose time is over."""
        return sorted(self._keys.kept.values(), key=lambda key: (key.created, key.id))

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
