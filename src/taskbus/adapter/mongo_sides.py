"""All ports of a MongoStore."""

from taskbus.adapter.mongo import MongoStore
from taskbus.adapter.mongo_backlog import MongoBacklog
from taskbus.adapter.mongo_expiry import MongoExpiry
from taskbus.adapter.mongo_keys import MongoKeys
from taskbus.adapter.mongo_limits import MongoLimits
from taskbus.adapter.mongo_links import MongoLinks
from taskbus.adapter.mongo_records import MongoRecords
from taskbus.port.sides import Sides


def mongo_sides(store: MongoStore) -> Sides:
    """The store with its other ports."""
    return Sides(
        store,
        MongoKeys(store),
        MongoBacklog(store),
        MongoLinks(store),
        MongoExpiry(store),
        MongoLimits(store),
        MongoRecords(store),
    )
