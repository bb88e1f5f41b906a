"""Chores that forget what was kept long enough."""

from taskbus.core.chores import BITE, Chore
from taskbus.port.clock import Clock
from taskbus.port.expiry import Expiry
from taskbus.port.keys import Keys
from taskbus.port.store import Store

# Whoever waits for the end of a job still reads its result, however short it is kept.
_GRACE = 10.0


def forgetting(store: Store, keys: Keys, expiry: Expiry, clock: Clock) -> tuple[Chore, ...]:
    """For ``Chores``."""

    def jobs() -> int:
        return len(store.remove(expiry.expired(clock() - _GRACE, BITE)))

    def names() -> int:
        return keys.expire(clock(), BITE)

    return (
        Chore("forget jobs that ended long ago", 5.0, jobs),
        Chore("forget keys whose time is over", 30.0, names),
    )
