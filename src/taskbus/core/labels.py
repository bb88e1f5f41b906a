"""What the journal does not say of a job, and nobody changes: its URI and its tags."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from taskbus.model.json import load
from taskbus.port.store import Store

_MOST = 10_000


class Label(NamedTuple):
    """Of one job."""

    uri: str
    tags: frozenset[str]


class Labels:
    """Remembers those that were asked for last. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Label] = OrderedDict()

    def of(self, jobs: Iterable[str]) -> Mapping[str, Label]:
        """By id; those that were forgotten are left out. May raise StoreUnavailable."""
        wanted = set(jobs)
        with self._lock:
            found = {job: label for job in wanted if (label := self._known.get(job))}
        for job in wanted - found.keys():
            if (stored := self._store.job(job)) is not None:
                found[job] = Label(stored.uri, frozenset(load(stored.tags)))
        with self._lock:
            for job, label in found.items():
                self._known[job] = label
                self._known.move_to_end(job)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found
