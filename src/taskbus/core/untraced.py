"""Traces where nobody records spans: they are handed on, and that is all."""

from typing import NamedTuple, Self

from taskbus.model.trace import Trace
from taskbus.port.spans import ENQUEUE


class Untraced(NamedTuple):
    """A span that nobody sees."""

    trace: Trace | None = None

    def end(self, failure: str | None = None) -> None:
        """See Span."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


NO_SPAN = Untraced()


class NoSpans:
    """Nobody records."""

    def begin(self, kind: str, what: str, trace: Trace | None, **about: str | int) -> Untraced:  # noqa: ARG002
        """See Spans. Each attempt and each call is a step of its own, with a span id of its own."""
        if trace is None:
            return NO_SPAN
        return Untraced(trace if kind == ENQUEUE else trace.child())


NO_SPANS = NoSpans()
