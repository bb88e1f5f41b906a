"""A running bus, watched: traces."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.types import CallOptions

from taskbus.model.trace import Trace, parse_trace
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

ECHO, LATER, SHELL = "com.example.test.echo", "com.example.test.later", "com.example.test.shell"
ENTRIES = f"""
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
[api."{LATER}"]
python = "tests.support.tasks:Echo"
mode = "background"
[api."{SHELL}"]
exec = ["sh", "-c", "echo $TRACEPARENT $TRACESTATE >&2; exit 1"]
mode = "background"
retries = 1
backoff = {{first = 0}}
"""
TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "01", "vendor=a")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
    ):
        # Each program writes its spans to its log.
        patch.setenv("OTEL_TRACES_EXPORTER", "console")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with running_site(Path(folder), "", ENTRIES) as up:
            yield up


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


def spans(site: Site, trace: Trace, *names: str) -> list[dict[str, Any]]:
    """What was recorded of a trace, by these names, once it is there."""

    def look() -> list[dict[str, Any]]:
        found = recorded(site, trace)
        return [found[name] for name in names if found.keys() >= set(names)]

    return eventually(look)


def recorded(site: Site, trace: Trace) -> dict[str, dict[str, Any]]:
    found = {}
    for log in (site.var / "log").glob("*.log"):
        text = log.read_text()
        start = text.find('{\n    "name": ')
        while start >= 0:
            try:
                span, _ = json.JSONDecoder().raw_decode(text, start)
            except ValueError:
                break  # It is being written.
            if span["context"]["trace_id"] == f"0x{trace.trace_id}":
                found[span["name"]] = span
            start = text.find('{\n    "name": ', start + 1)
    return found


def of(trace: dict[str, str]) -> Trace:
    found = parse_trace(trace["traceparent"], trace["tracestate"])
    assert found is not None
    return found


def in_trace(number: int) -> Trace:
    return TRACE._replace(trace_id=f"{number:032x}")


def test_a_foreground_call_is_a_step_of_its_callers_trace(site: Site, operator: Session) -> None:
    given = in_trace(1)
    result = operator.call(ECHO, options=CallOptions(transaction_hash=given.text))
    step = of(result.kwresults["details"]["trace"])
    assert step == given._replace(span_id=step.span_id)
    [span] = spans(site, given, f"call {ECHO}")
    assert span["parent_id"] == f"0x{given.span_id}"
    assert span["context"]["span_id"] == f"0x{step.span_id}"
    assert span["resource"]["attributes"]["service.name"] == "taskbus-backend"


@pytest.mark.parametrize("way", ["call", "submit", "option"])
def test_a_job_is_a_step_of_its_callers_trace(site: Site, operator: Session, way: str) -> None:
    given = in_trace(["call", "submit", "option"].index(way) + 2)
    options = CallOptions(transaction_hash=given.text)
    if way == "call":
        job = operator.call(LATER, options=options)
    elif way == "submit":
        job = operator.call("taskbus.job.submit", LATER, options=options)
    else:
        job = operator.call("taskbus.job.submit", LATER, trace=given.told)
    told = operator.call("taskbus.job.wait", job).kwresults["details"]
    enqueued = of(operator.call("taskbus.job.get", job)["details"]["trace"])
    ran = of(told["trace"])
    for step in (enqueued, ran):
        assert step == given._replace(span_id=step.span_id)
    enqueue, attempt = spans(site, given, f"enqueue {LATER}", f"attempt {LATER}")
    assert enqueue["parent_id"] == f"0x{given.span_id}"
    assert enqueue["context"]["span_id"] == attempt["parent_id"] == f"0x{enqueued.span_id}"
    assert attempt["context"]["span_id"] == f"0x{ran.span_id}"
    assert attempt["attributes"]["taskbus.job"] == job


def test_each_attempt_of_a_program_is_a_step_of_its_own_and_so_is_what_follows(
    operator: Session,
) -> None:
    given = in_trace(9)
    job = operator.call(
        "taskbus.job.submit", SHELL, trace=given.told, on_end={"uri": LATER, "tags": ["after"]}
    )
    eventually(lambda: operator.call("taskbus.job.get", job)["state"] == "failed")
    said = [
        event["data"]["text"].split()
        for event in operator.call("taskbus.job.events", job)
        if event["kind"] == "output"
    ]
    steps = [parse_trace(parent, state) for parent, state in said]
    assert len({step.span_id for step in steps if step} | {given.span_id}) == 3
    assert [step and step._replace(span_id="") for step in steps] == [
        given._replace(span_id="")
    ] * 2
    [after] = operator.call("taskbus.job.list", tag="after")
    details = operator.call("taskbus.job.wait", after["id"]).kwresults["details"]
    assert of(details["trace"])._replace(span_id="") == given._replace(span_id="")


def test_without_a_trace_one_begins_where_spans_are_recorded(operator: Session) -> None:
    begun = operator.call(ECHO).kwresults["details"]["trace"]
    assert parse_trace(begun["traceparent"]) is not None
