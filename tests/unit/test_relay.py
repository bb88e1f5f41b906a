"""The journal, for everybody who watches it."""

from collections.abc import Sequence

from taskbus.adapter.memory import MemoryStore
from taskbus.core.relay import Relay
from taskbus.port.store import Entry
from tests.support.values import a_job, add, added, applied, running, start, succeeded


class Watcher:
    """What a relay delivers."""

    def __init__(self, store: MemoryStore) -> None:
        self.seen: list[Entry] = []
        self.bites: list[int] = []
        self.after: list[int] = []
        self.watches = True
        self.relay = Relay(store, self._deliver, lambda: self.watches)

    def _deliver(self, after: int, entries: Sequence[Entry]) -> None:
        self.after.append(after)
        self.bites.append(len(entries))
        self.seen += entries


def test_it_delivers_what_is_written_after_it_was_made() -> None:
    store = MemoryStore()
    earlier = added(store)
    watcher = Watcher(store)
    watcher.relay.run()
    assert watcher.seen == []
    job = applied(store, start(earlier))
    watcher.relay.run()
    watcher.relay.run()
    applied(store, succeeded(job))
    watcher.relay.run()
    assert [(entry.position, entry.event.kind) for entry in watcher.seen] == [
        (2, "running"),
        (3, "succeeded"),
    ]


def test_it_delivers_much_in_bites_and_in_order() -> None:
    store = MemoryStore()
    watcher = Watcher(store)
    add(store, *[a_job() for _ in range(2500)])
    watcher.relay.run()
    assert [entry.position for entry in watcher.seen] == list(range(1, 2501))
    assert max(watcher.bites) <= 1000
    # Each tells since which position it is complete.
    assert watcher.after == [0, 1000, 2000]


def test_it_skips_what_nobody_watches() -> None:
    store = MemoryStore()
    watcher = Watcher(store)
    watcher.watches = False
    added(store)
    watcher.relay.run()
    watcher.watches = True
    watcher.relay.run()
    assert watcher.seen == []
    running(store)
    watcher.relay.run()
    assert [entry.position for entry in watcher.seen] == [2, 3]


def test_who_begins_to_watch_misses_nothing_written_from_then_on() -> None:
    store = MemoryStore()

    def begins_while_asked() -> bool:
        added(store)
        return False

    delivered: list[Entry] = []
    relay = Relay(store, lambda _, entries: delivered.extend(entries), begins_while_asked)
    relay.run()
    assert [entry.position for entry in delivered] == [1]
