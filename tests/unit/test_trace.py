"""W3C trace context: read, handed on, told to programs and servers, seen as spans."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taskbus.adapter.telemetry import Telemetry, spans
from taskbus.core.plan import Plan
from taskbus.core.untraced import NO_SPANS
from taskbus.handler import build
from taskbus.handler.perform import failure_text
from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.errors import InvalidArgument, TaskFailure
from taskbus.model.job import Submission
from taskbus.model.options import check_trace
from taskbus.model.task import TaskInput
from taskbus.model.trace import Trace, parse_trace, trace_of_call, trace_of_job
from taskbus.port.spans import ATTEMPT, CALL, ENQUEUE
from tests.support.http_server import Request, serving

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{ID}-{SPAN}-01"
TRACE = Trace(ID, SPAN, "01", "vendor=a,other=b")
URI = "com.x.plain"
API = ApiMap([Entry(URI, "python", "a:b")])


def test_what_is_read_is_what_is_told() -> None:
    assert parse_trace(PARENT, "vendor=a,other=b") == TRACE
    assert TRACE.told == {"traceparent": PARENT, "tracestate": "vendor=a,other=b"}
    assert trace_of_call(TRACE.text) == TRACE
    assert trace_of_call(PARENT) == Trace(ID, SPAN, "01")


def test_the_next_step_is_of_the_same_trace() -> None:
    step = TRACE.child()
    assert step._replace(span_id=SPAN) == TRACE
    assert step.span_id not in (SPAN, TRACE.child().span_id)
    assert parse_trace(step.parent) == step._replace(state="")


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "nonsense",
        f"00-{ID}-{SPAN}",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"ff-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-more",
        f"00-{ID}-{SPAN}-01\n",
        f"01-{ID}-{SPAN}-01more",
    ],
)
def test_what_is_no_trace_is_none(parent: str | None) -> None:
    assert parse_trace(parent) is None
    assert trace_of_call(parent) is None


def test_a_later_version_may_say_more() -> None:
    assert parse_trace(f"01-{ID}-{SPAN}-01-more") == Trace(ID, SPAN, "01")


@pytest.mark.parametrize("state", ["a=b\r\nSet-Cookie: x", "é=1", "a" * 513, ",".join("abcd" * 9)])
def test_a_state_that_cannot_be_a_header_is_left_out(state: str) -> None:
    assert parse_trace(PARENT, state) == Trace(ID, SPAN, "01")


def test_the_option_takes_a_text_or_both_headers() -> None:
    assert check_trace(PARENT) == Trace(ID, SPAN, "01")
    assert check_trace(TRACE.told) == TRACE


@pytest.mark.parametrize(
    "value", [1, "x", {}, {"tracestate": "a=b"}, {"traceparent": 1}, TRACE.told | {"more": "x"}]
)
def test_the_option_refuses_what_is_no_trace(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="trace: not a W3C trace context"):
        check_trace(value)


# --- jobs ----------------------------------------------------------------------------------------


def planned(caller: dict[str, Any], **request: Any) -> list[Submission]:
    plan = Plan(API, lambda: 1000.0, caller)
    plan.add({"uri": URI} | request)
    return plan.submissions


def traces(submissions: list[Submission]) -> list[Trace | None]:
    return [trace_of_job(one.job.details) for one in submissions]


def test_a_job_belongs_to_the_trace_of_its_call() -> None:
    assert traces(planned({"trace": TRACE.told})) == [TRACE]
    assert traces(planned({})) == [None]


def test_its_own_trace_counts_more_and_holds_for_what_follows() -> None:
    own = TRACE._replace(trace_id="1" * 32)
    last = {"uri": URI, "trace": PARENT}
    follow_ups = {"uri": URI, "on_end": [{"uri": URI}, last]}
    jobs = planned({"trace": TRACE.told}, trace=own.told, on_success=follow_ups)
    assert traces(jobs) == [own, own, own, Trace(ID, SPAN, "01")]


# --- programs and servers ------------------------------------------------------------------------


SHOW = 'printf \'{"args": ["%s", "%s"]}\' "$TRACEPARENT" "$TRACESTATE"'


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_a_program_finds_the_trace_in_its_environment(timeout: float | None) -> None:
    run = build({"kind": "exec", "target": ["sh", "-c", SHOW]}, timeout)
    assert run(TaskInput(URI, details={"trace": TRACE.told})).args == list(TRACE.told.values())
    assert run(TaskInput(URI)).args == ["", ""]


def test_a_program_finds_no_trace_that_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", PARENT)
    run = build({"kind": "exec", "target": ["sh", "-c", SHOW]}, None)
    assert run(TaskInput(URI)).args == ["", ""]


def test_a_server_finds_the_trace_in_two_headers() -> None:
    def answer(request: Request) -> None:
        request.reply(200, json.dumps({"args": [request.headers[name] for name in told]}).encode())

    told = TRACE.told
    with serving(answer) as (url, _):
        run = build({"kind": "http", "target": url}, 10.0)
        assert run(TaskInput(URI, details={"trace": told})).args == list(told.values())
        assert run(TaskInput(URI)).args == [None, None]


# --- spans ---------------------------------------------------------------------------------------


def test_without_anybody_who_records_each_attempt_has_an_id_of_its_own() -> None:
    for kind in (CALL, ATTEMPT):
        step = NO_SPANS.begin(kind, URI, TRACE).trace
        assert step is not None
        assert step._replace(span_id=SPAN) == TRACE
        assert step.span_id != SPAN
    # A span that nobody records is nobody's parent.
    assert NO_SPANS.begin(ENQUEUE, URI, TRACE).trace == TRACE
    assert NO_SPANS.begin(ATTEMPT, URI, None).trace is None


@pytest.fixture
def seen() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(seen: InMemorySpanExporter) -> Telemetry:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    return Telemetry(provider)


def test_spans_are_one_trace(telemetry: Telemetry, seen: InMemorySpanExporter) -> None:
    enqueue = telemetry.begin(ENQUEUE, URI, TRACE)
    attempt = telemetry.begin(ATTEMPT, URI, enqueue.trace, job="01k", attempt=1)
    attempt.end(failure_text(TaskFailure("too bad", error_uri="com.x.error.bad")))
    enqueue.end()
    second, first = seen.get_finished_spans()
    assert [one.name for one in (first, second)] == [f"enqueue {URI}", f"attempt {URI}"]
    assert [one.kind.name for one in (first, second)] == ["PRODUCER", "CONSUMER"]
    assert first.parent is not None
    assert second.parent is not None
    assert f"{first.parent.span_id:016x}" == SPAN
    assert (first.parent.is_remote, second.parent.is_remote) == (True, True)
    assert second.parent.span_id == first.context.span_id
    assert {f"{one.context.trace_id:032x}" for one in (first, second)} == {ID}
    assert first.status.is_unset
    assert second.status.description == "too bad"
    assert second.attributes is not None
    assert dict(second.attributes) == {
        "taskbus.uri": URI, "taskbus.job": "01k", "taskbus.attempt": 1,
        "error.type": "com.x.error.bad",
    }  # fmt: skip
    assert attempt.trace is not None
    assert attempt.trace.parent == f"00-{ID}-{second.context.span_id:016x}-01"
    assert attempt.trace.state == TRACE.state


def test_a_span_begins_a_trace_where_there_is_none(
    telemetry: Telemetry, seen: InMemorySpanExporter
) -> None:
    with pytest.raises(ZeroDivisionError), telemetry.begin(CALL, URI, None) as span:
        raise ZeroDivisionError
    [found] = seen.get_finished_spans()
    assert found.parent is None
    assert not found.status.is_ok
    assert span.trace is not None
    assert span.trace.trace_id == f"{found.context.trace_id:032x}"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    for name in [one for one in os.environ if one.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def choose(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return choose


def test_nothing_is_recorded_where_nothing_exports(
    environment: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    assert spans("test") is None
    environment(OTEL_TRACES_EXPORTER="none")
    assert spans("test") is None
    assert not caplog.records
    environment(OTEL_TRACES_EXPORTER="nobody")
    assert spans("test") is None
    assert "no package offers 'nobody'" in caplog.text
    environment(OTEL_TRACES_EXPORTER="console", OTEL_SDK_DISABLED="true")
    assert spans("test") is None


def test_without_the_package_nothing_of_it_is_imported() -> None:
    code = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import os
os.environ["OTEL_TRACES_EXPORTER"] = "console"
from taskbus.wire import make_spans
print(type(make_spans("test")).__name__, [one for one in sys.modules if "opentelemetry" in one])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "NoSpans []\n", done.stderr
