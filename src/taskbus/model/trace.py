"""W3C trace context: which request a call or a job belongs to, across processes and hosts.

A trace travels as ``{"traceparent": ..., "tracestate": ...}`` in a task's ``details["trace"]``, as
two headers over HTTP, as two variables in a program's environment, and as one text in a WAMP call's
``transaction_hash``. Lean: the forker imports this.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from taskbus.model.json import load

PARENT, STATE = "traceparent", "tracestate"
VARIABLES = ("TRACEPARENT", "TRACESTATE")
# Later versions may say more behind these four fields; version ff is none.
_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_STATE = re.compile(r"[ -~]{1,512}")
_MOST_MEMBERS = 32


class Trace(NamedTuple):
    """One step of a trace: ``trace_id`` is the whole request's, ``span_id`` this step's, both in
    hexadecimal; ``state`` is what other systems along the way have added.
    """

    trace_id: str
    span_id: str
    flags: str = "00"
    state: str = ""

    @property
    def parent(self) -> str:
        """The header ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    @property
    def told(self) -> dict[str, str]:
        """As in ``details["trace"]``; the keys are names of headers, too."""
        return {PARENT: self.parent} | ({STATE: self.state} if self.state else {})

    @property
    def text(self) -> str:
        """For a WAMP call's ``transaction_hash``."""
        return f"{self.parent};{self.state}" if self.state else self.parent

    def child(self) -> "Trace":
        """The next step."""
        return self._replace(span_id=os.urandom(8).hex())


def parse_trace(parent: str | None, state: str | None = None) -> Trace | None:
    """The trace of two headers; None where the first is none. A state that is none is left out."""
    found = _PARENT.fullmatch(parent) if parent else None
    if found is None or (found[4] and parent is not None and parent.startswith("00")):
        return None
    state = state or ""
    if not _STATE.fullmatch(state) or state.count(",") >= _MOST_MEMBERS:
        state = ""
    return Trace(found[1], found[2], found[3], state)


def trace_in(details: Mapping[str, Any]) -> Trace | None:
    """The trace of a call or a job, by its details."""
    told = details.get("trace")
    return parse_trace(told.get(PARENT), told.get(STATE)) if told else None


def trace_of_job(details: str) -> Trace | None:
    """The same by the JSON text of a job's details, which few have to be read for."""
    return trace_in(load(details)) if '"trace"' in details else None


def with_trace(details: dict[str, Any], trace: Trace | None) -> dict[str, Any]:
    """The details with another step of the trace, where there is one."""
    return details if trace is None else {**details, "trace": trace.told}


def trace_of_call(text: str | None) -> Trace | None:
    """The trace in a WAMP call's ``transaction_hash``, which others may use otherwise."""
    if not text:
        return None
    parent, _, state = text.partition(";")
    return parse_trace(parent, state)


def trace_headers(details: Mapping[str, Any]) -> dict[str, str]:
    """The headers that hand a task's trace on; none where it has none."""
    return dict(details.get("trace") or {})


def trace_environment(details: Mapping[str, Any]) -> dict[str, str]:
    """The same for a program: TRACEPARENT and TRACESTATE."""
    return {name.upper(): value for name, value in trace_headers(details).items()}
