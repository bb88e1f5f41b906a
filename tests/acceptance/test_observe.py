"""A running bus, watched: traces, metrics, health; and the webhooks that others send it."""

import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from autobahn.wamp.types import CallOptions
from standardwebhooks.webhooks import Webhook

from taskbus.model.trace import Trace, parse_trace
from tests.support.access_keys import new_key
from tests.support.metrics import counted
from tests.support.processes import PATIENCE
from tests.support.quick import quick_folder
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site
from tests.support.web import Client, Reply

pytestmark = pytest.mark.acceptance

ECHO, LATER, SHELL = "com.example.test.echo", "com.example.test.later", "com.example.test.shell"
# Nobody else calls them.
PASSED_ON = "com.example.test.passed_on"
COUNTED, ANSWERED = "com.example.test.counted", "com.example.test.answered"
ENTRIES = f"""
[api."{PASSED_ON}"]
python = "tests.support.tasks:Echo"
mode = "background"
[api."{ANSWERED}"]
python = "tests.support.tasks:Echo"
[api."{COUNTED}"]
python = "tests.support.tasks:Echo"
mode = "background"
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
SETTINGS = f"""
[gateway]
body = 10_000
[webhooks]
exposed = ["com.example.test.paid"]
[incoming.github]
verify = "github"
secret_file = "github.secret"
submit = "{LATER}"
[incoming.pay]
verify = "standard"
secret_file = "pay.secret"
publish = "com.example.test.paid"
"""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "01", "vendor=a")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        pytest.MonkeyPatch.context() as patch,
        quick_folder() as folder,
    ):
        # Each program writes its spans to its log.
        patch.setenv("OTEL_TRACES_EXPORTER", "console")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        for name in ("github", "pay"):
            (folder / f"{name}.secret").write_text(f"{SECRET}\n")
            (folder / f"{name}.secret").chmod(0o600)
        with running_site(folder, SETTINGS, ENTRIES) as up:
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


WAYS = ["call", "submit", "option", "http"]


@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_a_step_of_its_callers_trace(site: Site, operator: Session, way: str) -> None:
    given = in_trace(WAYS.index(way) + 2)
    options = CallOptions(transaction_hash=given.text)
    if way == "call":
        job = operator.call(LATER, options=options)
    elif way == "submit":
        job = operator.call("taskbus.job.submit", LATER, options=options)
    elif way == "option":
        job = operator.call("taskbus.job.submit", LATER, trace=given.told)
    else:
        ask = Client(site, f"Bearer {new_key(site, 'submit:*').token}")
        job = ask("POST", "/v1/jobs", {"uri": LATER}, **given.told).json()["id"]
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


# --- metrics -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scrape(site: Site, operator: Session) -> Client:
    return Client(site, f"Bearer {new_key(site, 'metrics:*').token}")


def test_metrics_are_for_keys_with_their_scope(site: Site, operator: Session) -> None:
    assert Client(site)("GET", "/metrics").status == 401
    other = Client(site, f"Bearer {new_key(site, 'read:*', 'call:*').token}")
    answer = other("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")


def test_metrics_tell_what_there_is(site: Site, scrape: Client) -> None:
    up = {"router", "control", "store", "queue", "workers"}
    assert [counted(scrape, "taskbus_up", part=part) for part in up] == [1] * len(up)
    assert counted(scrape, "taskbus_workers", pool="worker") == 2
    assert counted(scrape, "taskbus_workers_ready", pool="worker") == 2
    assert counted(scrape, "taskbus_router_sessions") >= 4
    for program in ("router", "beanstalkd", "control", "gateway", "worker-00", "worker-01"):
        label = {"program": program}
        assert counted(scrape, "taskbus_process_resident_memory_bytes", **label) > 1_000_000


def test_what_was_done_is_counted_and_a_restart_does_not_undo_it(
    site: Site, operator: Session, scrape: Client
) -> None:
    def attempts() -> float:
        return counted(scrape, "taskbus_attempts_total", task=COUNTED, outcome="succeeded")

    for _ in range(3):
        operator.call("taskbus.job.wait", operator.call(COUNTED))
        operator.call(ANSWERED)
    eventually(lambda: attempts() == 3)
    eventually(lambda: counted(scrape, "taskbus_calls_total", task=ANSWERED) == 3)
    for name in ("wait_seconds", "seconds"):
        assert counted(scrape, f"taskbus_attempt_{name}_count", task=COUNTED) == 3
    assert counted(scrape, "taskbus_jobs", state="succeeded") >= 3
    assert site.supervisorctl("restart", "worker:*").returncode == 0
    site.await_ready()
    operator.call("taskbus.job.wait", operator.call(COUNTED))
    eventually(lambda: attempts() == 4)


# --- health --------------------------------------------------------------------------------------


def test_the_bus_is_ready(site: Site) -> None:
    answer = Client(site)("GET", "/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    answer = Client(site)("GET", "/readyz")
    assert (answer.status, answer.json()["ready"]) == (200, True)


@pytest.mark.parametrize(
    ("program", "down"),
    [
        ("worker:*", {"workers"}),
        ("beanstalkd", {"queue", "workers"}),
        ("control", {"control", "store", "queue"}),
    ],
)
def test_what_is_missing_is_named(site: Site, program: str, down: set[str]) -> None:
    def is_down() -> bool:
        answer = Client(site)("GET", "/readyz")
        parts = answer.json()["parts"]
        missing = {part for part in parts if parts[part] == "down"}
        assert (answer.status == 503) == bool(missing)
        return missing == down or missing | {"workers"} == down

    assert site.supervisorctl("stop", program).returncode == 0
    try:
        eventually(is_down)
        assert Client(site)("GET", "/healthz").status == 200
    finally:
        assert site.supervisorctl("start", program).returncode == 0
    eventually(lambda: Client(site)("GET", "/readyz").status == 200)
    site.await_ready()


# --- webhooks from others ------------------------------------------------------------------------


BODY = {"ref": "main", "zen": "Grüße"}


def from_github(site: Site, body: Any, id_: str, secret: str = SECRET, **more: str) -> Reply:
    """A delivery as GitHub sends it."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {
        "Content_Type": "application/json",
        "X_GitHub_Event": "push",
        "X_GitHub_Delivery": id_,
        "X_Hub_Signature_256": "sha256=" + hmac.digest(secret.encode(), text, "sha256").hex(),
    }
    return Client(site)("POST", "/in/github", text, **headers | more)


def from_shop(site: Site, name: str, secret: str = SECRET, **more: str) -> Reply:
    """The same as Standard Webhooks has it."""
    now, text = datetime.now(UTC), json.dumps(BODY)
    headers = {
        "Content_Type": "application/json",
        "Webhook_Id": "msg_1",
        "Webhook_Timestamp": str(int(now.timestamp())),
        "Webhook_Signature": Webhook(secret).sign("msg_1", now, text),
    }
    return Client(site)("POST", f"/in/{name}", text.encode(), **headers | more)


def test_a_webhook_becomes_a_job_once(site: Site, operator: Session) -> None:
    given = in_trace(20)
    headers = {"traceparent": given.parent, "tracestate": given.state}
    answer = from_github(site, BODY, "delivery-1", **headers)
    assert (answer.status, answer.json()["id"]) == (202, "delivery-1")
    job = answer.json()["job"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    result = operator.call("taskbus.job.wait", job)
    assert result.results == (LATER, BODY)
    details = result.kwresults["details"]
    assert details["context"] == {"webhook": "github", "id": "delivery-1", "event": "push"}
    assert of(details["trace"])._replace(span_id="") == given._replace(span_id="")
    assert from_github(site, BODY, "delivery-1").json()["job"] == job
    assert from_github(site, BODY, "delivery-2").json()["job"] != job


def test_a_webhook_becomes_an_event(site: Site, operator: Session) -> None:
    with site.joined("backend") as backend:
        events = backend.subscribe("com.example.test.paid")
        about = backend.subscribe_whole("com.example.test.paid")
        given = in_trace(21)
        assert from_shop(site, "pay", **given.told).status == 202
        assert events.get(timeout=PATIENCE) == ((BODY,), {"webhook": "pay", "id": "msg_1"})
        assert about.get(timeout=PATIENCE).transaction_hash == given.text


def test_its_event_goes_on_to_endpoints_in_the_same_trace(
    site: Site, operator: Session, scrape: Client
) -> None:
    topic, given = "com.example.test.paid", in_trace(22)
    operator.call("taskbus.hook.put", "inside", call=PASSED_ON, topics=[topic])
    assert counted(scrape, "taskbus_webhook_endpoints", state="ok") == 1

    def jobs() -> Any:
        # Control listens a moment after the endpoint came.
        assert from_shop(site, "pay", **given.told).status == 202
        return operator.call("taskbus.job.list", uri=PASSED_ON)

    job = eventually(jobs)[0]
    result = operator.call("taskbus.job.wait", job["id"])
    assert of(result.kwresults["details"]["trace"])._replace(span_id="") == given._replace(
        span_id=""
    )
    operator.call("taskbus.hook.delete", "inside")


def test_what_does_not_prove_its_sender_becomes_nothing(site: Site, operator: Session) -> None:
    before = operator.call("taskbus.job.list", limit=1)
    for answer in (
        from_github(site, BODY, "x", secret="guessed"),
        from_github(site, BODY, "x", X_Hub_Signature_256=""),
        from_shop(site, "pay", "whsec_" + "QUJD" * 8),
        from_shop(site, "github"),
        Client(site)("POST", "/in/pay", BODY),
    ):
        assert answer.status == 401
        assert answer.json()["error"] == "taskbus.error.unauthenticated"
        assert SECRET not in answer.body.decode()
    assert operator.call("taskbus.job.list", limit=1) == before


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"{", {}, 400),
        (b'{"a": 1e999}', {}, 400),
        (b"payload=x", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        (b'"' + b"x" * 10_000 + b'"', {}, 413),
    ],
)
def test_what_is_proved_may_be_wrong_nevertheless(
    site: Site, body: bytes, more: dict[str, str], status: int
) -> None:
    assert from_github(site, body, "wrong", **more).status == status


def test_there_are_no_others(site: Site) -> None:
    assert Client(site)("POST", "/in/gitlab", BODY).status == 404
    assert Client(site)("GET", "/in/github").status == 405


def test_a_mistake_in_the_settings_is_found_before_anything_starts(site: Site) -> None:
    secret = site.folder / "pay.secret"
    try:
        secret.chmod(0o644)
        assert "others may read it\n  remedy: chmod 600" in site.taskbus("check").stderr
        secret.unlink()
        done = site.taskbus("check")
        assert (done.returncode, "pay.secret: cannot be read" in done.stderr) == (4, True)
        # Where that happens later, strangers learn nothing of it.
        answer = from_shop(site, "pay")
        assert answer.status == 503
        assert b"pay.secret" not in answer.body
    finally:
        secret.write_text(SECRET)
        secret.chmod(0o600)
    settings = site.settings.read_text()
    try:
        for right, wrong, problem in (
            (f'submit = "{LATER}"', 'submit = "com.none.x"', "no entry of the API map matches"),
            ("com.example.test.paid", "com.none.paid", "below no namespace of the API map"),
        ):
            site.settings.write_text(settings.replace(right, wrong))
            assert problem in site.taskbus("check").stderr
    finally:
        site.settings.write_text(settings)
    assert site.taskbus("check").returncode == 0
