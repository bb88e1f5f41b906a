"""All ports of a MemoryStore."""

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.memory_backlog import MemoryBacklog
from taskbus.adapter.memory_expiry import MemoryExpiry
from taskbus.adapter.memory_keys import MemoryKeys
from taskbus.adapter.memory_limits import MemoryLimits
from taskbus.adapter.memory_links import MemoryLinks
from taskbus.adapter.memory_records import MemoryRecords
from taskbus.port.sides import Sides


def memory_sides(store: MemoryStore) -> Sides:
    """The store with its other ports."""
    return Sides(
        store,
        MemoryKeys(store),
        MemoryBacklog(store),
        MemoryLinks(store),
        MemoryExpiry(store),
        MemoryLimits(store),
        MemoryRecords(store),
    )
