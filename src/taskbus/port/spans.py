"""Spans: what somebody who looks at a trace sees of a call or a job."""

from typing import Any, Protocol, Self

from taskbus.model.trace import Trace

CALL, ENQUEUE, ATTEMPT, DELIVERY = "call", "enqueue", "attempt", "delivery"


class Span(Protocol):
    """One step under way, which ends with its ``with`` statement, or by ``end``."""

    @property
    def trace(self) -> Trace | None:
        """What to hand on; None where there is no trace."""

    def end(self, failure: str | None = None) -> None:
        """The step has ended; ``failure``: as ``taskbus.handler.perform.failure_text`` tells it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...


class Spans(Protocol):
    """Never blocks, never fails."""

    def begin(self, kind: str, what: str, trace: Trace | None, **about: str | int) -> Span:
        """A step of this ``kind`` begins; ``what``: the URI."""
