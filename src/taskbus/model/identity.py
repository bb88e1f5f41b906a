"""Job ids: 26 lower-case characters that sort by time of creation.

The layout is ULID's (48 bits of milliseconds, 80 random bits, Crockford base 32), in lower case
because an id is also a component of a strict WAMP URI (``taskbus.job.<id>``).
"""

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_LENGTH = 26

_lock = threading.Lock()
_last = 0


def new_job_id() -> str:
    """A new id, greater than every id this process made before."""
    global _last
    with _lock:
        now = time.time_ns() // 1_000_000
        # Within a millisecond, or when the clock steps back, count on from the last id.
        fresh = now > _last >> 80
        _last = now << 80 | int.from_bytes(os.urandom(10), "big") if fresh else _last + 1
        number = _last
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def is_job_id(text: object) -> bool:
    """Whether the text has the form of a job id."""
    return isinstance(text, str) and len(text) == _LENGTH and set(text) <= set(_ALPHABET)
