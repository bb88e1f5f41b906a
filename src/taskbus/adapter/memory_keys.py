"""The keys of a MemoryStore."""

from collections.abc import Collection, Sequence

from taskbus.adapter.memory import MemoryStore
from taskbus.model.job import Key


class MemoryKeys:
    """Keys; see ``taskbus.port.keys``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def holders(self, names: Collection[str], now: float) -> dict[str, Key]:
        """See Keys."""
        with self._store._locked():
            found = (self._store._holder(name, now) for name in names)
            return {key.name: key for key in found if key is not None}

    def hold(self, keys: Sequence[Key], now: float) -> None:
        """See Keys."""
        with self._store._locked():
            self._store._keys = self._store._with_keys(keys, now)

    def expire(self, now: float, limit: int) -> int:
        """See Keys."""
        with self._store._locked():
            keys = self._store._keys
            over = [
                name for name, key in keys.items() if key.until is not None and key.until <= now
            ]
            for name in over[:limit]:
                del keys[name]
            return len(over[:limit])
