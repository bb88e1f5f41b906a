"""Throttles: so many requests in a time, for each who sends them."""

from taskbus.model.errors import RateLimited
from taskbus.model.options import check_rate
from taskbus.port.clock import Clock

_FEW = 1000


class Throttles:
    """Every sender's requests.

    A rate may be used up at once; from then on there is room for one more each time that its share
    of the rate's time has passed (GCRA): one number is all there is to remember of a sender.
    """

    def __init__(self, clock: Clock) -> None:
        """Any clock that only goes forward."""
        self._clock = clock
        # When the requests taken so far would all be done, had they been sent evenly.
        self._done: dict[str, float] = {}
        self._most = _FEW

    def take(self, sender: str, rate: str | None) -> None:
        """One request, at a rate such as ``100/minute``, or None for no limit; raises RateLimited,
        whose ``retry_after`` says in how many seconds there will be room.
        """
        if rate is None:
            return
        limit, now = check_rate(rate), self._clock()
        share = limit.seconds / limit.attempts
        done = max(self._done.get(sender, now), now) + share
        wait = done - now - limit.seconds
        # What is left of rounding is no reason to refuse.
        if wait > share / 1000:
            raise RateLimited(rate, wait)
        self._done[sender] = done
        if len(self._done) > self._most:
            self._done = {one: until for one, until in self._done.items() if until > now}
            self._most = max(_FEW, 2 * len(self._done))
