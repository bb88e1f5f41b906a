"""Values on their way through a running bus: they arrive as they were, or are refused clearly."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult

from tests.support.access_keys import new_key
from tests.support.bridge import post
from tests.support.http_server import Request, serving
from tests.support.raw_wamp import RawCaller, raw_caller
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site
from tests.support.web import Client

pytestmark = pytest.mark.acceptance

NAMESPACE = "com.example.test"
NOW, LATER, ECHO, QUEUED = (f"{NAMESPACE}.{name}" for name in ("now", "later", "echo", "queued"))
COMPONENT = "com.example.parts"
INVALID_RESULT, INVALID_ARGUMENT = "taskbus.error.invalid_result", "taskbus.error.invalid_argument"
# A program, and a server, that answer the text they are given.
PROGRAM = [sys.executable, "-S", "-c", "import json; print(json.loads(input())['args'][0])"]


def given_text(request: Request) -> None:
    request.reply(200, json.loads(request.body)["args"][0].encode())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        url, _ = stack.enter_context(serving(given_text))
        entries = f"""
[api."{NOW}"]
python = "tests.support.tasks:evaluate"
[api."{LATER}"]
python = "tests.support.tasks:evaluate"
mode = "background"
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
[api."{QUEUED}"]
python = "tests.support.tasks:Echo"
mode = "background"
[api."{COMPONENT}.*"]
wamp = true
[api."{NAMESPACE}.exec"]
exec = {json.dumps(PROGRAM)}
[api."{NAMESPACE}.http"]
http = "{url}"
"""
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tb", dir="/tmp"))
        yield stack.enter_context(running_site(Path(folder), entries=entries))


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


@pytest.fixture(scope="module", params=["operator", "browser"])
def caller(request: pytest.FixtureRequest, site: Site, operator: Session) -> Iterator[Session]:
    """MessagePack on the socket, and JSON over WebSocket."""
    if request.param == "operator":
        yield operator
    else:
        with site.joined(request.param) as session:
            yield session


def refusal(session: Session, uri: str, *args: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        session.call(uri, *args)
    error: ApplicationError = caught.value
    return error


# --- results -------------------------------------------------------------------------------------

# What a task returns, and where in it the bus finds what it cannot send.
UNSENDABLE = {
    "2**64": "args[0]",
    "[1, {'a': -2**63 - 1}]": "args[0][1].a",
    "'half a \\ud83d'": "args[0]",
    "{'a b': ['\\ud800']}": "args[0]['a b'][0]",
    "{'\\ud800': 1}": "args[0]",
    "{'a': {1: 2}}": "args[0].a",
    "float('nan')": "args[0]",
    "[0.5, float('-inf')]": "args[0][1]",
    "nested(101)": "args[0]" + "[0]" * 9 + "...",
    "nested(100_000)": "args[0]" + "[0]" * 9 + "...",
    "'\\0AAAA'": "args[0]",
    "b'bytes'": "args[0]",
    "{1, 2}": "args[0]",
    "TaskResult(1, a=[2**64])": "kwargs.a[0]",
    "TaskResult(callee=1)": "kwargs.callee",
    "'x' * 16_000_001": None,
    "'ü' * 8_000_001": None,
}


@pytest.mark.parametrize("expression", UNSENDABLE)
def test_a_result_that_cannot_be_sent_is_an_error(caller: Session, expression: str) -> None:
    error = refusal(caller, NOW, expression)
    assert error.error == INVALID_RESULT
    assert error.kwargs.get("field") == UNSENDABLE[expression]
    assert error.kwargs["remedy"]
    assert caller.call(NOW, "'the next one'") == "the next one"


@pytest.mark.parametrize("expression", UNSENDABLE)
def test_a_job_fails_with_the_same_error(operator: Session, expression: str) -> None:
    job = operator.call(LATER, expression)
    waited = refusal(operator, "taskbus.job.wait", job)
    called = refusal(operator, NOW, expression)
    assert (waited.error, waited.args, waited.kwargs) == (called.error, called.args, called.kwargs)
    told = operator.call("taskbus.job.get", job)
    assert (told["state"], told["result"]) == ("failed", None)
    assert told["error"]["error"] == INVALID_RESULT


SENDABLE = {
    "integers": "[2**64 - 1, -2**63, 0]",
    "floats": "[1e308, -0.0, 0.1]",
    "texts": "['ü', '😀', 'a\\0b', '\\x7f', '']",
    "nesting": "nested(100)",
    "objects": "{'': None, 'a b': [True, {}]}",
    "large": "'ü' * 7_999_000",
}


@pytest.mark.parametrize("expression", SENDABLE.values(), ids=SENDABLE)
def test_any_other_result_arrives_as_it_was(operator: Session, expression: str) -> None:
    result = operator.call(NOW, expression)
    assert result == operator.call("taskbus.job.wait", operator.call(LATER, expression))
    assert operator.call(NOW, f"({expression}) == {result!r}") is True


FOREIGN = {
    '{"args": [18446744073709551616]}': "args[0]",
    '{"kwargs": {"a": ["\\ud800"]}}': "kwargs.a[0]",
    '{"kwargs": {"callee": 1}}': "kwargs.callee",
    f'{{"args": [{"[" * 101}{"]" * 101}]}}': "args[0]" + "[0]" * 9 + "...",
    "[" * 100_000: None,
    '{"args": [NaN]}': None,
    "done": None,
}


@pytest.mark.parametrize("kind", ["exec", "http"])
@pytest.mark.parametrize("answer", FOREIGN, ids=range(len(FOREIGN)))
def test_so_it_is_with_other_languages(operator: Session, kind: str, answer: str) -> None:
    error = refusal(operator, f"{NAMESPACE}.{kind}", answer)
    assert error.error == INVALID_RESULT
    assert error.kwargs.get("field") == FOREIGN[answer]
    assert operator.call(f"{NAMESPACE}.{kind}", '{"args": [1]}') == 1


# What a task raises, and how its caller is told.
FAILURES = {
    "fail('half a \\ud800')": ("taskbus.error.task_failed", "half a \\ud800", {}),
    "fail('x', a=2**70)": ("taskbus.error.task_failed", "x", {"a": str(2**70)}),
    "fail('x', a={1: 2}, b=[1])": ("taskbus.error.task_failed", "x", {"a": "{1: 2}", "b": [1]}),
    "fail('x', error=1, callee=2)": (
        "taskbus.error.task_failed", "x", {"error_": 1, "callee_": 2}
    ),
    "fail('x', error_uri='com.example.Own')": ("com.example.Own", "x", {}),
    "fail('x', error_uri='no URI')": ("taskbus.error.task_failed", "x", {"error_uri": "no URI"}),
    "fail('x', error_uri='a..b')": ("taskbus.error.task_failed", "x", {"error_uri": "a..b"}),
    "fail('x', a='x' * 20_000_000)": (
        "taskbus.error.task_failed", "x", {"a": "x" * 200 + "..."}
    ),
}  # fmt: skip


@pytest.mark.parametrize("expression", FAILURES)
def test_an_error_is_told_whatever_is_in_it(caller: Session, expression: str) -> None:
    """A URI that is none would end the session of the backend, and every call that it has."""
    job = caller.call(LATER, expression)
    for error in (refusal(caller, NOW, expression), refusal(caller, "taskbus.job.wait", job)):
        uri, message, about = FAILURES[expression]
        assert (error.error, *error.args) == (uri, message)
        assert error.kwargs == about


# Of Autobahn's own, which the callers at these doors use.
KEYWORDS = {"self": 1, "callee": "x", "forward_for": None, "other": 2}
SPARED = {"self_": 1, "callee_": "x", "forward_for_": None, "other": 2}


def test_whatever_a_component_answers_with_its_caller_hears(site: Site) -> None:
    """Each of these keywords left the caller waiting for ever, or ended a session."""

    def stocked(**_: Any) -> CallResult:
        result = CallResult("ok")
        result.kwresults = KEYWORDS
        return result

    def sold_out(**_: Any) -> None:
        error = ApplicationError(f"{COMPONENT}.sold_out", "no")
        error.kwargs = KEYWORDS | {"error": 3}
        raise error

    told = {"args": ["ok"], "kwargs": SPARED}
    ask = Client(site, f"Bearer {new_key(site, '*').token}")
    with new_key(site, f"register:{COMPONENT}.*").joined() as component:
        component.register(stocked, f"{COMPONENT}.stocked")
        component.register(sold_out, f"{COMPONENT}.sold_out")

        def call(procedure: str) -> tuple[int, Any]:
            return post(site, "/call", {"procedure": procedure}, **site.bridge_secret())

        assert call(f"{COMPONENT}.stocked") == (200, told)
        assert ask("POST", f"/v1/call/{COMPONENT}.stocked", {}).json() == told
        assert json.loads(site.taskbus("call", f"{COMPONENT}.stocked", "--json").stdout) == told
        _, refused = call(f"{COMPONENT}.sold_out")
        assert refused["kwargs"] == SPARED | {"error_": 3}
        problem = ask("POST", f"/v1/call/{COMPONENT}.sold_out", {}).json()
        assert (problem["status"], problem["about"]) == (422, SPARED | {"error_": 3})
        assert "no" in site.taskbus("call", f"{COMPONENT}.sold_out").stderr


def test_an_answer_of_a_component_that_is_no_json_is_an_error(site: Site) -> None:
    """MessagePack carries bytes, and numbers that are none."""

    def packed(what: str, **_: Any) -> Any:
        if what == "error":
            raise ApplicationError(f"{COMPONENT}.packed", b"no", why=b"\xff")
        return b"\xff" if what == "bytes" else float("nan")

    uri = f"{COMPONENT}.packed"
    ask = Client(site, f"Bearer {new_key(site, '*').token}")
    with new_key(site, f"register:{COMPONENT}.*").joined() as component:
        component.register(packed, uri)
        for what in ("bytes", "error"):
            request = {"procedure": uri, "args": [what]}
            status, told = post(site, "/call", request, **site.bridge_secret())
            assert (status, told["error"]) == (200, INVALID_RESULT)
            assert told["kwargs"]["remedy"]
        for what in ("bytes", "not a number"):
            problem = ask("POST", f"/v1/call/{uri}", {"args": [what]}).json()
            assert (problem["error"], problem["field"]) == (INVALID_RESULT, "args[0]")
        assert ask("POST", f"/v1/call/{uri}", {"args": ["error"]}).json()["error"] == uri


def test_progress_and_output_reach_whoever_reads_json(site: Site, operator: Session) -> None:
    job = operator.call(LATER, "say('\\0 half a \\ud800', b'\\0binary \\xc3')")
    operator.call("taskbus.job.wait", job)
    with site.joined("browser") as browser:
        events = browser.call("taskbus.job.events", job)
    told = {event["kind"]: event["data"] for event in events}
    assert told["progress"]["message"] == "\\x00 half a \\ud800"
    # "AGJpbmFyeSA=" is NUL and "binary ", "ww==" the half character at the end.
    output = [event["data"]["base64"] for event in events if event["kind"] == "output"]
    assert output == ["AGJpbmFyeSA=", "ww=="]


def test_an_answer_of_the_bus_that_is_too_large_is_an_error(operator: Session) -> None:
    """Arguments and result together are more than the router carries."""
    text = "x" * 9_000_000
    job = operator.call(QUEUED, text)
    assert operator.call("taskbus.job.wait", job).results[1] == text
    error = refusal(operator, "taskbus.job.get", job)
    assert error.error == "taskbus.error.unsendable"
    assert error.kwargs["remedy"]


# --- arguments -----------------------------------------------------------------------------------

TAKEN = {
    "integers": "[18446744073709551615, -9223372036854775808, 9007199254740993]",
    "floats": "[1e308, -0.0, 0.1, 1.0]",
    "texts": '["\\u00fc", "\\ud83d\\ude00", "a\\u0000b", ""]',
    "nesting": f"[{'[' * 100}{']' * 100}]",
    "objects": '[{"": null, "a b": [true, {}]}, []]',
    "large": f'["{"x" * 1_000_000}"]',
}
REFUSED = {
    "large integer": "[18446744073709551616]",
    "small integer": "[-9223372036854775809]",
    "large float": "[1e400]",
    "NaN": "[NaN]",
    "half a character": '["half a \\ud83d"]',
    "half a key": '[{"\\ud800": 1}]',
    "NUL": '["\\u0000AAAA"]',
    "nesting": f"[{'[' * 101}{']' * 101}]",
    "deep nesting": f"[{'[' * 3000}{']' * 3000}]",
}


@dataclass(frozen=True)
class Told:
    """The answer of a call, whichever door it came through."""

    result: list[Any]
    error: str = ""
    about: Any = None


def over_wamp(raw: RawCaller, uri: str, args: str) -> Told:
    done, told = raw.call(uri, args)
    return Told(told[0]) if done else Told([], told[0], told[2])


def over_http(site: Site, uri: str, args: str) -> Told:
    body = f'{{"procedure": "{uri}", "args": {args}}}'.encode()
    status, answer = post(site, "/call", None, body=body, **site.bridge_secret())
    assert status == 200
    return Told(answer.get("args", []), answer.get("error", ""), answer.get("kwargs"))


@pytest.fixture(scope="module")
def raw(site: Site) -> Iterator[RawCaller]:
    with raw_caller(site.socket, "operator", site.ticket("operator")) as made:
        yield made


@pytest.fixture(params=["WAMP", "HTTP"])
def ask(request: pytest.FixtureRequest, site: Site, raw: RawCaller) -> Any:
    """Calls through a door that takes JSON as the test wrote it."""
    if request.param == "WAMP":
        return lambda uri, args: over_wamp(raw, uri, args)
    return lambda uri, args: over_http(site, uri, args)


def stored(session: Session) -> int:
    return sum(session.call("taskbus.bus.status")["jobs"].values())


@pytest.mark.parametrize("args", TAKEN.values(), ids=TAKEN)
def test_arguments_arrive_as_they_are(ask: Any, operator: Session, args: str) -> None:
    sent = json.loads(args)
    assert ask(ECHO, args).result == [ECHO, *sent]
    for job in (
        *ask(QUEUED, args).result,
        *ask("taskbus.job.submit", f'["{QUEUED}", {args}]').result,
        *ask("taskbus.job.submit_many", f'[[{{"uri": "{QUEUED}", "args": {args}}}]]').result[0],
    ):
        assert operator.call("taskbus.job.wait", job).results == (QUEUED, *sent)
        assert operator.call("taskbus.job.get", job)["args"] == sent


def test_keywords_of_the_libraries_on_the_way_are_the_tasks(operator: Session) -> None:
    """One that Autobahn or Twisted takes itself would end the backend's session."""
    keywords = {"fun": 1, "call": 2, "progress": 3, "taskbus_call_details": 4}
    for answer in (
        operator.call(ECHO, **keywords),
        operator.call("taskbus.job.wait", operator.call(QUEUED, **keywords)),
    ):
        assert answer.kwresults.items() >= keywords.items()


@pytest.mark.parametrize("args", REFUSED.values(), ids=REFUSED)
def test_arguments_that_cannot_arrive_are_refused(ask: Any, operator: Session, args: str) -> None:
    before = stored(operator)
    well, badly = f'{{"uri": "{QUEUED}"}}', f'{{"uri": "{QUEUED}", "args": {args}}}'
    for uri, given in (
        (ECHO, args),
        (QUEUED, args),
        ("taskbus.job.submit", f'["{QUEUED}", {args}]'),
        ("taskbus.job.submit_many", f"[[{well}, {badly}]]"),
    ):
        told = ask(uri, given)
        assert told.error == INVALID_ARGUMENT
        assert told.about["field"]
        assert told.about["remedy"]
        assert ask(ECHO, '["next"]').result == [ECHO, "next"]
    assert stored(operator) == before


def test_bytes_are_not_json(operator: Session) -> None:
    before = stored(operator)
    for uri in (ECHO, QUEUED):
        error = refusal(operator, uri, {"a": [b"\xff"]})
        assert (error.error, error.kwargs["field"]) == (INVALID_ARGUMENT, "args[0].a[0]")
    assert stored(operator) == before


def test_no_nesting_ends_the_router(site: Site) -> None:
    """100,000 levels fit into a request, and used up the stack."""
    pid = site.pid("router")
    for deep in ("[" * 500_000 + "]" * 500_000, '{"a":' * 150_000 + "1" + "}" * 150_000):
        body = f'{{"procedure": "{ECHO}", "args": [{deep}]}}'.encode()
        assert post(site, "/call", None, body=body, **site.bridge_secret())[0] == 400
    assert over_http(site, ECHO, '["next"]').result == [ECHO, "next"]
    assert site.pid("router") == pid


def test_a_caller_who_nests_without_end_loses_only_its_own_session(
    site: Site, operator: Session
) -> None:
    with (
        raw_caller(site.socket, "operator", site.ticket("operator")) as raw,
        pytest.raises(AssertionError, match="the router closed the connection"),
    ):
        raw.call(ECHO, "[" * 100_000 + "]" * 100_000)
    assert eventually(lambda: operator.call(ECHO, "next").results) == (ECHO, "next")
