"""How a job is to be run: what few jobs say, in one column, for those who run and end it."""

from functools import lru_cache
from typing import NamedTuple

from taskbus.model.json import dump, load
from taskbus.model.options import STANDARD_BACKOFF, Backoff


class Policy(NamedTuple):
    """Each field as its option in ``taskbus.model.options``; None where nothing is said.

    ``delay`` only where it counts from the end of the jobs before it.
    """

    backoff: Backoff = STANDARD_BACKOFF
    retry_on: tuple[str, ...] = ()
    ttr: float | None = None
    memory: int | None = None
    cpu: float | None = None
    retention: float | None = None
    concurrency_key: str | None = None
    rate_key: str | None = None
    unique: str | bool = False
    idempotency_window: float | None = None
    delay: float | None = None

    @property
    def text(self) -> str:
        """JSON, without what is as always."""
        return _text(self)

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(text: str) -> "Policy":
        """The policy in a job's column."""
        told = load(text)
        if "backoff" in told:
            # Jobs stored by an older version have no steps.
            first, factor, longest, jitter, *steps = told["backoff"]
            told["backoff"] = Backoff(first, factor, longest, jitter, tuple(*steps))
        if "retry_on" in told:
            told["retry_on"] = tuple(told["retry_on"])
        return Policy(**told)


@lru_cache(maxsize=1024)
def _text(policy: Policy) -> str:
    told = {
        name: value
        for name, value in policy._asdict().items()
        if value != Policy._field_defaults[name]
    }
    return dump(told)


STANDARD_POLICY = Policy()
