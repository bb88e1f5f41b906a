"""The records of a MemoryStore."""

from collections.abc import Mapping
from typing import Any

from taskbus.adapter.memory import MemoryStore
from taskbus.model.json import dump, load
from taskbus.port.records import Record


class MemoryRecords:
    """Records; see ``taskbus.port.records``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def get(self, kind: str, name: str) -> Record | None:
        """See Records."""
        with self._store._locked():
            found = self._store._records.get((kind, name))
            return None if found is None else _record(name, *found)

    def all(self, kind: str) -> list[Record]:
        """See Records."""
        with self._store._locked():
            found = sorted(self._store._records.items())
            return [_record(name, *one) for (of, name), one in found if of == kind]

    def put(self, kind: str, name: str, body: Mapping[str, Any], seen: int) -> bool:
        """See Records."""
        with self._store._locked():
            _, version = self._store._records.get((kind, name), ("", 0))
            if version != seen:
                return False
            self._store._records[kind, name] = dump(body), seen + 1
            self._store._changes[kind] += 1
            return True

    def remove(self, kind: str, name: str) -> bool:
        """See Records."""
        with self._store._locked():
            self._store._changes[kind] += 1
            return self._store._records.pop((kind, name), None) is not None

    def changes(self, kind: str) -> int:
        """See Records."""
        with self._store._locked():
            return self._store._changes[kind]


def _record(name: str, body: str, version: int) -> Record:
    return Record(name, load(body), version)
