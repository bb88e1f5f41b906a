"""All ports of a SqlStore."""

from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_backlog import SqlBacklog
from taskbus.adapter.sql_expiry import SqlExpiry
from taskbus.adapter.sql_keys import SqlKeys
from taskbus.adapter.sql_limits import SqlLimits
from taskbus.adapter.sql_links import SqlLinks
from taskbus.adapter.sql_records import SqlRecords
from taskbus.port.sides import Sides


def sql_sides(store: SqlStore) -> Sides:
    """The store with its other ports."""
    return Sides(
        store,
        SqlKeys(store),
        SqlBacklog(store),
        SqlLinks(store),
        SqlExpiry(store),
        SqlLimits(store),
        SqlRecords(store),
    )
