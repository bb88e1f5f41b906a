"""A store with all that it is asked for, each a port of its own."""

from typing import NamedTuple

from taskbus.port.backlog import Backlog
from taskbus.port.expiry import Expiry
from taskbus.port.keys import Keys
from taskbus.port.limits import Limits
from taskbus.port.links import Links
from taskbus.port.records import Records
from taskbus.port.store import Store


class Sides(NamedTuple):
    """Several views of one store; closing the store closes them all."""

    store: Store
    keys: Keys
    backlog: Backlog
    links: Links
    expiry: Expiry
    limits: Limits
    records: Records
