"""Spans through OpenTelemetry, where its SDK is installed.

What it does with them is for its own environment variables to say, as OTEL_TRACES_EXPORTER (here
``otlp`` where its package is there, and none otherwise), OTEL_EXPORTER_OTLP_ENDPOINT and
OTEL_RESOURCE_ATTRIBUTES. This module imports nothing of it before it is asked for spans.
"""

import logging
import os
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from taskbus.handler.perform import failure_text
from taskbus.model.json import load
from taskbus.model.trace import Trace, parse_trace
from taskbus.port.spans import ATTEMPT, CALL, DELIVERY, ENQUEUE, Span, Spans

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

log = logging.getLogger(__name__)

_KINDS = {CALL: "SERVER", ENQUEUE: "PRODUCER", ATTEMPT: "CONSUMER", DELIVERY: "CLIENT"}


def spans(program: str) -> Spans | None:
    """The spans of a program; None where OpenTelemetry is not installed, or shall not export."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "")
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or wanted == "none" or not _is_installed():
        return None
    exporters = entry_points(group="opentelemetry_traces_exporter", name=wanted or "otlp")
    if not exporters:
        if wanted:
            log.warning("OTEL_TRACES_EXPORTER: no package offers %r, so there are no spans", wanted)
        return None
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    try:
        exporter = next(iter(exporters)).load()()
    except Exception as error:  # noqa: BLE001 - whatever stops an exporter must not stop the bus
        log.warning("OTEL_TRACES_EXPORTER: %r cannot be used: %s", wanted or "otlp", error)
        return None
    provider = TracerProvider(
        resource=Resource.create({} if _has_name() else {SERVICE_NAME: f"taskbus-{program}"})
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Telemetry(provider)


def _has_name() -> bool:
    attributes = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return "OTEL_SERVICE_NAME" in os.environ or "service.name=" in attributes


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


class Telemetry:
    """Spans of one provider."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import context, trace

        self._nothing = context.Context()
        self._otel = trace
        self._tracer = provider.get_tracer("taskbus")

    def begin(self, kind: str, what: str, trace: Trace | None, **about: str | int) -> Span:
        """See Spans."""
        span = self._tracer.start_span(
            f"{kind} {what}",
            context=self._context(trace),
            kind=self._otel.SpanKind[_KINDS[kind]],
            attributes={"taskbus.uri": what} | {f"taskbus.{key}": about[key] for key in about},
        )
        return _Recorded(self._otel, span)

    def _context(self, trace: Trace | None) -> "Context":
        # What else is under way in this thread is not where this comes from.
        if trace is None:
            return self._nothing
        parent = self._otel.SpanContext(
            int(trace.trace_id, 16),
            int(trace.span_id, 16),
            is_remote=True,
            trace_flags=self._otel.TraceFlags(int(trace.flags, 16)),
            trace_state=self._otel.TraceState.from_header([trace.state] if trace.state else []),
        )
        return self._otel.set_span_in_context(self._otel.NonRecordingSpan(parent), self._nothing)


class _Recorded:
    def __init__(self, otel: Any, span: "OtelSpan") -> None:
        self._otel = otel
        self._span = span

    @property
    def trace(self) -> Trace | None:
        at = self._span.get_span_context()
        parent = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"
        return parse_trace(parent, at.trace_state.to_header())

    def end(self, failure: str | None = None) -> None:
        if failure is not None:
            told = load(failure)
            self._span.set_attribute("error.type", told["error"])
            self._span.set_status(self._otel.StatusCode.ERROR, told["message"])
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        self.end(None if error is None else failure_text(error))
