"""All ports of any store."""

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.memory_sides import memory_sides
from taskbus.adapter.mongo import MongoStore
from taskbus.adapter.mongo_sides import mongo_sides
from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_sides import sql_sides
from taskbus.port.sides import Sides
from taskbus.port.store import Store


def sides_of(store: Store) -> Sides:
    """The other ports of a store that is open."""
    if isinstance(store, MemoryStore):
        return memory_sides(store)
    if isinstance(store, MongoStore):
        return mongo_sides(store)
    assert isinstance(store, SqlStore)
    return sql_sides(store)
