"""Numbers that are given once and for all, counted in the store. A block at a time is taken, so
that not each of them costs a commit; what is left of it is lost with the process.
"""

import threading

from taskbus.model.errors import StoreUnavailable
from taskbus.port.records import Records

_KIND = "number"
_BLOCK = 100
# So many others in a row were faster.
_MOST_RACES = 100


class Numbers:
    """One series, from 1 on. Safe to use from several threads and processes."""

    def __init__(self, records: Records, series: str) -> None:
        self._records = records
        self._series = series
        self._lock = threading.Lock()
        self._left = range(0)

    def next(self) -> int:
        """A number that nobody else gets; greater than all that this process got before. Raises
        StoreUnavailable.
        """
        with self._lock:
            if not self._left:
                self._left = self._block()
            number, self._left = self._left[0], self._left[1:]
            return number

    def _block(self) -> range:
        for _ in range(_MOST_RACES):
            found = self._records.get(_KIND, self._series)
            first, seen = (1, 0) if found is None else (int(found.body["next"]), found.version)
            block = range(first, first + _BLOCK)
            if self._records.put(_KIND, self._series, {"next": block.stop}, seen):
                return block
        raise StoreUnavailable(f"others take all numbers of {self._series}", remedy="try again")
