"""REST API v1, through the router's port."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.access_keys import new_key
from tests.support.gate import GATED, Gate, a_gate
from tests.support.processes import PATIENCE
from tests.support.quick import quick_folder
from tests.support.site import Site, eventually, running_site
from tests.support.web import Client, Reply, as_principal

pytestmark = pytest.mark.acceptance

SPACE = "com.example.dante.get_free_space"
ADD, FAIL, CRASH, ECHO = (
    f"com.example.dante.rest_{name}" for name in ("add", "fail", "crash", "echo")
)
LATER, FRAIL, SLOW, MEET = (
    f"com.example.dante.rest_{name}" for name in ("later", "frail", "slow", "meet")
)
ENTRIES = f"""
[api."{ADD}"]
python = "tests.support.tasks:add"
[api."{FAIL}"]
python = "tests.support.tasks:fail"
[api."{CRASH}"]
python = "tests.support.tasks:crash"
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
[api."{LATER}"]
python = "tests.support.tasks:add"
mode = "background"
[api."{FRAIL}"]
python = "tests.support.tasks:fail"
mode = "background"
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as gate:
        yield gate


@pytest.fixture(scope="module")
def site(folder: Path, gate: Gate) -> Iterator[Site]:
    settings = '[gateway]\norigins = ["https://app.example.com"]\n'
    with running_site(folder, settings, ENTRIES + gate.entry) as site:
        yield site


@pytest.fixture(scope="module")
def ask(site: Site) -> Client:
    return Client(site, f"Bearer {new_key(site, '*').token}")


def submit(ask: Client, uri: str, *args: Any, **options: Any) -> str:
    answer = ask("POST", "/v1/jobs", {"uri": uri, "args": args, **options})
    assert answer.status == 201, answer
    job: str = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    return job


def ended(ask: Client, job: str) -> Any:
    answer = ask("GET", f"/v1/jobs/{job}?wait=60")
    assert answer.status == 200
    return answer.json()


def refused(answer: Reply, status: int, error: str) -> Any:
    """The problem, which this has to be."""
    told = answer.json()
    assert (answer.status, told.get("error")) == (status, error), told
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["type"] == f"urn:wamp:{error}"
    assert told["status"] == status
    assert told["request_id"] == answer.headers["x-request-id"]
    return told


def test_who_proves_nothing_is_refused(site: Site) -> None:
    for credential in (None, "Bearer x", f"Bearer tb_{'0' * 12}_{'0' * 64}", "Basic b3A6eA=="):
        answer = Client(site, credential)("GET", "/v1/jobs/x")
        refused(answer, 401, "taskbus.error.unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_router_s_principals_may_come_but_no_part_of_the_bus(site: Site) -> None:
    def status(name: str) -> int:
        return Client(site, as_principal(name, site.ticket(name)))("GET", "/v1/jobs").status

    assert status("operator") == 200
    assert {status(name) for name in ("control", "backend", "gateway")} == {401}


def test_a_key_s_scopes_hold(site: Site) -> None:
    key = Client(site, f"Bearer {new_key(site, f'submit:{LATER}', f'read:{LATER}').token}")
    job = submit(key, LATER, 1)
    assert ended(key, job)["result"]["args"] == [11]
    refused(key("POST", "/v1/jobs", {"uri": FRAIL}), 403, "taskbus.error.forbidden")
    refused(key("POST", f"/v1/jobs/{job}/cancel"), 403, "wamp.error.not_authorized")
    refused(key("POST", f"/v1/call/{ADD}", {"args": [1]}), 403, "wamp.error.not_authorized")


def test_who_may_not_read_a_job_learns_that_it_was_accepted(site: Site, ask: Client) -> None:
    key = Client(site, f"Bearer {new_key(site, f'submit:{LATER}').token}")
    answer = key("POST", "/v1/jobs?wait=1", {"uri": LATER, "args": [1]})
    assert answer.status == 202
    assert ended(ask, answer.json()["id"])["result"]["args"] == [11]


def test_a_revoked_key_is_refused_although_it_has_a_session(site: Site) -> None:
    key = new_key(site, "*")
    client = Client(site, f"Bearer {key.token}")
    assert client("GET", "/v1/jobs").status == 200
    with site.joined() as operator:
        operator.call("taskbus.access.revoke", key.id)
    eventually(lambda: client("GET", "/v1/jobs").status == 401)


def test_a_job_runs_and_tells_its_result(ask: Client) -> None:
    job = submit(ask, LATER, 5)
    told = ended(ask, job)
    assert (told["state"], told["result"]) == ("succeeded", {"args": [15], "kwargs": {}})
    answer = ask("GET", f"/v1/jobs/{job}/result")
    assert (answer.status, answer.json()) == (200, {"args": [15], "kwargs": {}})


def test_who_waits_gets_the_job_or_its_state(ask: Client, gate: Gate) -> None:
    answer = ask("POST", "/v1/jobs", {"uri": LATER, "args": [1]}, Prefer="respond-async, wait=60")
    assert (answer.status, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=60"
    answer = ask("POST", "/v1/jobs?wait=0", {"uri": GATED})
    job = answer.json()["id"]
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/jobs/{job}")
    assert ask("GET", f"/v1/jobs/{job}/result?wait=0").status == 202
    gate.let_one_pass()
    assert ended(ask, job)["state"] == "succeeded"


def test_many_jobs_are_all_accepted_or_none(ask: Client) -> None:
    request = {"jobs": [{"uri": LATER, "args": [nth]} for nth in range(3)]}
    answer = ask("POST", "/v1/jobs", request, Idempotency_Key="many")
    ids = answer.json()["ids"]
    assert (answer.status, len(ids)) == (201, 3)
    assert [ended(ask, job)["result"]["args"] for job in ids] == [[10], [11], [12]]
    assert ask("POST", "/v1/jobs", request, Idempotency_Key="many").json()["ids"] == ids
    request["jobs"].append({"uri": "com.example.dante.nothing"})
    told = refused(ask("POST", "/v1/jobs", request), 404, "taskbus.error.unknown_uri")
    assert told["field"] == "jobs[3].uri"


def test_a_request_with_a_key_is_one_job(ask: Client) -> None:
    def send(key: str, number: int) -> Reply:
        return ask("POST", "/v1/jobs", {"uri": LATER, "args": [number]}, Idempotency_Key=key)

    job = send('"order-1"', 1).json()["id"]
    assert send("order-1", 1).json()["id"] == job
    refused(send("order-1", 2), 422, "taskbus.error.idempotency_mismatch")


def test_jobs_are_listed_page_by_page(ask: Client) -> None:
    ids = [submit(ask, LATER, nth, tags=["paged"]) for nth in range(5)]
    found: list[str] = []
    target = "/v1/jobs?tag=paged&limit=2"
    while target:
        answer = ask("GET", target)
        found += [job["id"] for job in answer.json()["jobs"]]
        link = answer.headers.get("link", "")
        assert bool(link) == bool(answer.json()["next"])
        target = link.partition(">")[0].lstrip("<")
    assert found == ids[::-1]
    for job in ids:
        ended(ask, job)
    answer = ask("GET", "/v1/jobs?tag=paged&state=failed,dead&state=succeeded")
    assert len(answer.json()["jobs"]) == 5
    assert ask("GET", "/v1/jobs?tag=paged&state=failed").json() == {"jobs": [], "next": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [("states=dead", "states"), ("state=bad", "state"), ("limit=x", "limit"), ("limit=0", "limit"),
     ("limit=1&limit=2", "limit"), ("cursor=../x", "cursor"), ("uri=%00", "uri"), ("x", "query")],
)  # fmt: skip
def test_a_filter_that_is_none_is_refused(ask: Client, query: str, field: str) -> None:
    answer = ask("GET", f"/v1/jobs?{query}")
    assert refused(answer, 400, "taskbus.error.invalid_argument")["field"] == field


def test_the_journal_is_told_page_by_page(ask: Client) -> None:
    job = submit(ask, LATER, 1)
    ended(ask, job)
    kinds: list[str] = []
    target = f"/v1/jobs/{job}/events?limit=2"
    while target:
        answer = ask("GET", target)
        kinds += [event["kind"] for event in answer.json()["events"]]
        target = answer.headers.get("link", "").partition(">")[0].lstrip("<")
    assert kinds == ["queued", "running", "succeeded"]


def test_a_failed_job_s_result_is_its_error(ask: Client) -> None:
    job = submit(ask, FRAIL)
    ended(ask, job)
    told = refused(ask("GET", f"/v1/jobs/{job}/result"), 409, "com.example.error.asked")
    assert (told["detail"], told["remedy"], told["job"]) == ("as asked", "do not ask", job)


def test_a_cancelled_job_has_no_result(ask: Client) -> None:
    job = submit(ask, LATER, 1, delay=3600)
    answer = ask("POST", f"/v1/jobs/{job}/cancel")
    assert (answer.status, answer.json()["state"]) == (200, "cancelled")
    refused(ask("GET", f"/v1/jobs/{job}/result"), 410, "taskbus.error.cancelled")
    # Who cancels twice is told that it is so.
    assert ask("POST", f"/v1/jobs/{job}/cancel").status == 200


def test_a_running_job_ends_after_it_was_cancelled(ask: Client, gate: Gate) -> None:
    job = submit(ask, GATED)
    eventually(lambda: ask("GET", f"/v1/jobs/{job}").json()["state"] == "running")
    answer = ask("POST", f"/v1/jobs/{job}/cancel")
    assert (answer.status, answer.json()["state"]) == (202, "running")
    assert ended(ask, job)["state"] == "cancelled"


def test_what_has_ended_can_be_run_again(ask: Client) -> None:
    job = submit(ask, FRAIL)
    ended(ask, job)
    assert ask("POST", f"/v1/jobs/{job}/retry").json() == {"id": job}
    again = ask("POST", f"/v1/jobs/{job}/replay?wait=60", {"args": []})
    if again.status == 409:  # It had not ended when it was asked.
        ended(ask, job)
        again = ask("POST", f"/v1/jobs/{job}/replay?wait=60", {"args": []})
    assert (again.status, again.json()["attempt"]) == (200, 3)
    done = submit(ask, LATER, 1)
    ended(ask, done)
    refused(ask("POST", f"/v1/jobs/{done}/retry"), 409, "taskbus.error.not_replayable")
    refused(ask("POST", f"/v1/jobs/{done}/cancel"), 409, "taskbus.error.job_ended")


def test_what_waits_for_its_time_need_not_wait(ask: Client) -> None:
    job = submit(ask, LATER, 2, delay=3600)
    answer = ask("POST", f"/v1/jobs/{job}/retry?wait=60")
    assert answer.json()["state"] == "succeeded"


def test_a_job_is_sent_once_as_long_as_it_is_the_same(ask: Client) -> None:
    job = submit(ask, LATER, 1, delay=3600)
    first = ask("GET", f"/v1/jobs/{job}")
    tag = first.headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        answer = ask("GET", f"/v1/jobs/{job}", If_None_Match=known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    for action in ("cancel", "retry", "replay"):
        stale = ask("POST", f"/v1/jobs/{job}/{action}", If_Match='"99"')
        refused(stale, 412, "taskbus.error.job_changed")
    nonsense = ask("POST", f"/v1/jobs/{job}/cancel", If_Match='"x", "y"')
    refused(nonsense, 400, "taskbus.error.invalid_argument")
    assert ask("POST", f"/v1/jobs/{job}/cancel", If_Match=tag).status == 200
    assert ask("GET", f"/v1/jobs/{job}", If_None_Match=tag).status == 200


def test_a_call_is_answered_with_all_of_its_result(ask: Client) -> None:
    answer = ask("POST", f"/v1/call/{ADD}", {"args": [1], "kwargs": {"right": 2}})
    assert (answer.status, answer.json()) == (200, {"args": [3], "kwargs": {}})
    answer = ask("POST", f"/v1/call/{ECHO}", {"args": [None], "kwargs": {"a": [{"b": 0.5}]}})
    assert answer.json()["args"] == [ECHO, None]
    assert answer.json()["kwargs"]["a"] == [{"b": 0.5}]
    answer = ask("POST", f"/v1/call/{SPACE}")
    assert (answer.status, [*answer.json()["kwargs"]]) == (200, ["total", "used"])


def test_a_background_call_is_answered_with_its_job(ask: Client) -> None:
    answer = ask("POST", f"/v1/call/{LATER}", {"args": [1]})
    job = answer.json()["id"]
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/jobs/{job}")
    answer = ask("POST", f"/v1/call/{LATER}?wait=60", {"args": [1]})
    assert (answer.status, answer.json()["result"]["args"]) == (200, [11])


def test_a_call_s_error_is_a_problem(ask: Client) -> None:
    told = refused(ask("POST", f"/v1/call/{FAIL}", {}), 422, "com.example.error.asked")
    assert (told["detail"], told["value"], told["remedy"]) == ("as asked", "x", "do not ask")
    refused(ask("POST", f"/v1/call/{CRASH}", {}), 500, "taskbus.error.task_failed")
    nowhere = ask("POST", "/v1/call/com.example.dante.nowhere", {})
    refused(nowhere, 404, "wamp.error.no_such_procedure")
    refused(ask("POST", "/v1/call/com..x", {}), 400, "taskbus.error.invalid_argument")


def test_who_hangs_up_cancels_the_call(site: Site, ask: Client) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def slow(details: Any) -> Any:
        begun.set()
        return Deferred(lambda _: cancelled.set())

    credential = as_principal("operator", site.ticket("operator"))
    head = f"POST /v1/call/{SLOW} HTTP/1.1\r\nHost: x\r\nAuthorization: {credential}\r\n\r\n"
    with site.joined("backend") as backend:
        backend.register(slow, SLOW)
        with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as client:
            client.sendall(head.encode())
            assert begun.wait(PATIENCE)
            assert not cancelled.is_set()
        assert cancelled.wait(PATIENCE)
        # The identity's session goes on.
        operator = Client(site, credential)
        assert operator("GET", "/v1/jobs?limit=1").status == 200
        begun.clear()
        with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as client:
            client.sendall(head.encode())
            assert begun.wait(PATIENCE)


@pytest.mark.parametrize(
    ("method", "target", "status", "error"),
    [("GET", "/v1/nothing", 404, "no_such_path"), ("GET", "/v1", 404, "no_such_path"),
     ("DELETE", "/v1/jobs", 405, "no_such_method"), ("BREW", "/v1/jobs", 405, "no_such_method"),
     ("GET", "/v1/jobs/nonsense", 404, "job_not_found"),
     ("GET", "/v1/jobs/01m7z6x1v5aqe805ws6ztmz1pa", 404, "job_not_found"),
     ("POST", "/v1/jobs/01m7z6x1v5aqe805ws6ztmz1pa/cancel", 404, "job_not_found")],
)  # fmt: skip
def test_what_is_not_there_is_told(
    ask: Client, method: str, target: str, status: int, error: str
) -> None:
    answer = ask(method, target)
    refused(answer, status, f"taskbus.error.{error}")
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", "body"), (b"{", "body"), (b"\xff", "body"), (b"[]", "body"), (b'{"a":NaN}', "body"),
     (b'{"uri":"x","uri":"y"}', "body"), (b"[" * 100_000, "body"),
     (b'{"uri":' + b"[" * 200 + b"]" * 200 + b"}", "body.uri" + "[0]" * 9),
     (b'{"uri":"com.example.dante.rest_later","nope":1}', "nope"),
     (b'{"uri":"com.example.dante.rest_later","priority":"x"}', "priority"),
     (b'{"uri":"com.example.dante.rest_later","args":{}}', "args"), (b"{}", "uri"),
     (b'{"jobs":{}}', "jobs"), (b'{"jobs":[1]}', "jobs[0]"), (b'{"jobs":[],"uri":"x"}', "uri"),
     (b'{"uri":"x","args":[' + b"9" * 5000 + b"]}", "body")],
    ids=range(16),
)  # fmt: skip
def test_a_bad_body_is_refused_with_the_field(ask: Client, body: bytes, field: str) -> None:
    answer = ask("POST", "/v1/jobs", body, Content_Type="application/json")
    told = answer.json()
    assert (answer.status, told["error"]) == (400, "taskbus.error.invalid_argument"), told
    assert told["field"].startswith(field)
    assert told["remedy"]


def test_a_body_of_another_kind_is_refused(ask: Client) -> None:
    form = ask("POST", "/v1/jobs", b"uri=x", Content_Type="application/x-www-form-urlencoded")
    refused(form, 415, "taskbus.error.unsupported_media")


def test_an_answer_is_zipped_for_who_takes_that(ask: Client) -> None:
    job = submit(ask, LATER, "x" * 5000, delay=3600)
    plain = ask("GET", f"/v1/jobs/{job}")
    zipped = ask("GET", f"/v1/jobs/{job}", Accept_Encoding="br, gzip;q=0.5")
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.json() == plain.json()
    assert zipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding, Origin"
    assert zipped.headers["etag"] == f"W/{plain.headers['etag']}"
    refusing = ask("GET", f"/v1/jobs/{job}", Accept_Encoding="gzip;q=0")
    assert "content-encoding" not in refusing.headers


def test_a_request_s_id_comes_back(ask: Client) -> None:
    assert ask("GET", "/v1/jobs", X_Request_Id="a.b-1").headers["x-request-id"] == "a.b-1"
    made = ask("GET", "/v1/jobs", X_Request_Id="<script>").headers["x-request-id"]
    assert len(made) == 26


def test_only_named_web_pages_may_use_it(ask: Client) -> None:
    def preflight(origin: str) -> Reply:
        return ask("OPTIONS", "/v1/jobs", None, Origin=origin, Access_Control_Request_Method="POST")

    ours, theirs = "https://app.example.com", "https://app.example.com.evil.org"
    allowed, refused_ = preflight(ours), preflight(theirs)
    assert allowed.status == refused_.status == 204
    assert allowed.headers["access-control-allow-origin"] == ours
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert not [name for name in refused_.headers if name.startswith("access-control")]
    assert ask("GET", "/v1/jobs", Origin=ours).headers["access-control-allow-origin"] == ours
    assert "access-control-allow-origin" not in ask("GET", "/v1/jobs", Origin=theirs).headers
    assert "access-control-allow-credentials" not in allowed.headers


def test_a_request_s_trace_is_its_job_s(ask: Client) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    request = {"uri": LATER, "args": [1]}
    told = ask("POST", "/v1/jobs?wait=60", request, traceparent=trace, tracestate="x=y").json()
    assert told["details"]["trace"]["traceparent"].startswith(f"00-{'a' * 32}-")
    assert told["details"]["trace"]["tracestate"] == "x=y"
    called = ask("POST", f"/v1/call/{ECHO}", {}, traceparent=trace).json()
    assert called["kwargs"]["details"]["trace"]["traceparent"].startswith(f"00-{'a' * 32}-")


def test_a_head_has_no_body(ask: Client) -> None:
    answer = ask("HEAD", "/v1/jobs")
    assert (answer.status, answer.body) == (200, b"")


def test_the_page_runs_nothing_but_its_own(site: Site) -> None:
    stranger = Client(site)
    page = stranger("GET", "/docs")
    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    document = stranger("GET", "/v1/openapi.json")
    assert json.loads(document.body)["openapi"].startswith("3.1")
    tag = document.headers["etag"]
    assert stranger("GET", "/v1/openapi.json", If_None_Match=tag).status == 304


def test_a_gateway_told_to_stop_answers_the_calls_in_hand(site: Site) -> None:
    begun, answer = threading.Event(), Deferred[str]()

    def meet(details: Any) -> Any:
        begun.set()
        return answer

    operator = Client(site, as_principal("operator", site.ticket("operator")))
    with site.joined("backend") as backend, ThreadPoolExecutor() as pool:
        backend.register(meet, MEET)
        calling = pool.submit(operator, "POST", f"/v1/call/{MEET}")
        assert begun.wait(PATIENCE)
        stopping = pool.submit(site.supervisorctl, "stop", "gateway")
        eventually(lambda: operator("GET", "/v1/jobs").status == 503)
        assert not calling.done()
        reactor.callFromThread(answer.callback, "met")
        assert calling.result(PATIENCE).json() == {"args": ["met"], "kwargs": {}}
        assert stopping.result(PATIENCE).returncode == 0
    assert "stopped: gateway (exit status 0)" in (site.var / "log/supervisord.log").read_text()
    assert site.supervisorctl("start", "gateway").returncode == 0
    site.await_ready()
    assert operator("GET", "/v1/jobs").status == 200


@pytest.mark.parametrize("program", ["gateway", "router"])
def test_everything_is_answered_again_after_a_part_was_killed(
    site: Site, ask: Client, program: str
) -> None:
    os.kill(site.pid(program), signal.SIGKILL)
    site.await_ready()
    assert ended(ask, submit(ask, LATER, 1))["result"]["args"] == [11]


def test_nothing_went_wrong_unseen(site: Site) -> None:
    for program in ("gateway", "router"):
        log = (site.var / "log" / f"{program}.log").read_text()
        assert "Traceback" not in log, log
