"""Every door of a running bus refuses what is wrong by its name, and goes on as if nothing was."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from taskbus.model.identity import new_job_id
from tests.support.bridge import post
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import Session
from tests.support.site import Site, running_site

pytestmark = pytest.mark.acceptance

ECHO = "com.example.test.echo"
ENTRIES = f"""
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
"""
INVALID, UNKNOWN = "taskbus.error.invalid_argument", "taskbus.error.unknown_uri"
NOT_FOUND = "taskbus.error.job_not_found"
NOBODY = new_job_id()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder,
        running_site(Path(folder), entries=ENTRIES) as up,
    ):
        yield up


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


@pytest.fixture(autouse=True)
def unharmed(operator: Session) -> Iterator[None]:
    """After each test no job was stored, and the next valid call works."""

    def stored() -> int:
        return sum(operator.call("taskbus.bus.status")["jobs"].values())

    before = stored()
    yield
    assert operator.call(ECHO, "next").results == (ECHO, "next")
    assert stored() == before


# --- over WAMP -----------------------------------------------------------------------------------

Case = tuple[str, list[Any], dict[str, Any], str]


def submit(*args: Any, **kwargs: Any) -> Case:
    """A wrong submission; the last argument is the field that is wrong."""
    *sent, field = args
    return "submit", sent, kwargs, field


def each(name: str, sent: list[Any], field: str, *values: Any) -> list[Case]:
    """The same call with every value of one field."""
    return [(name, sent, {field: value}, field) for value in values]


SUBMIT: list[Case] = [
    submit("uri"),
    submit(None, "uri"),
    submit(5, "uri"),
    submit("echo", "uri"),
    submit("com.example.*", "uri"),
    submit("com.example.test..echo", "uri"),
    submit("com.example.test.Écho", "uri"),
    submit(ECHO, "text", "args"),
    submit(ECHO, {"a": 1}, "args"),
    submit(ECHO, 5, "args"),
    submit(ECHO, [b"bytes"], "args[0]"),
    submit(ECHO, [], "text", "kwargs"),
    submit(ECHO, [], [1], "kwargs"),
    submit(ECHO, [], {"a": [float("nan")]}, "kwargs.a[0]"),
    submit(ECHO, [], {}, 5, "args"),
    submit(ECHO, [], "args", args=[]),
    submit(ECHO, "uri", uri=ECHO),
    submit(ECHO, "when", when=5),
    submit(ECHO, "details", details={"caller_authid": "root"}),
    submit(ECHO, "id", id=NOBODY),
    *each("submit", [ECHO], "priority", "highest", -1, 1001, True, 1.5, [], "5"),
    *each("submit", [ECHO], "delay", -1, "soon", 1e9, True, [1], float("nan")),
    *each("submit", [ECHO], "timeout", 0, -5, "60", 1e9, True, float("inf")),
    *each("submit", [ECHO], "retries", -1, 101, 1.5, "3", True),
]
MANY: list[Case] = [
    ("submit_many", [], {}, "jobs"),
    ("submit_many", ["text"], {}, "jobs"),
    ("submit_many", [{"uri": ECHO}], {}, "jobs"),
    ("submit_many", [[{"uri": ECHO}] * 10_001], {}, "jobs"),
    ("submit_many", [[{"uri": ECHO}, 5]], {}, "jobs[1]"),
    ("submit_many", [[{"uri": ECHO}, {}]], {}, "jobs[1].uri"),
    ("submit_many", [[{"uri": ECHO}, {"uri": ECHO, "delay": -1}]], {}, "jobs[1].delay"),
    ("submit_many", [[{"uri": ECHO}, {"uri": ECHO, "kwargs": {"a": b""}}]], {}, "jobs[1].kwargs.a"),
    ("submit_many", [[]], {"priority": 5}, "priority"),
]
WELL, BADLY = {"uri": ECHO}, {"uri": ECHO, "args": 5}
FLOWS: list[Case] = [
    submit(ECHO, "on_success.args", on_success=BADLY),
    submit(ECHO, "on_failure[1].args", on_failure=[WELL, BADLY]),
    submit(ECHO, "on_end.on_success.args", on_end={"uri": ECHO, "on_success": BADLY}),
    submit(ECHO, "on_end", on_end=ECHO),
    submit(ECHO, "on_end[100]", on_end=[WELL] * 101),
    ("submit_many", [[WELL, {"uri": ECHO, "on_end": BADLY}]], {}, "jobs[1].on_end.args"),
    ("submit_many", [[{"uri": ECHO, "on_end": [WELL] * 99}] * 201], {}, "jobs[200]"),
    *((name, [[]], {}, "jobs") for name in ("chain", "group")),
    *((name, [WELL], {}, "jobs") for name in ("chain", "group")),
    ("chain", [[WELL, BADLY]], {}, "jobs[1].args"),
    ("group", [[WELL, BADLY], WELL], {}, "jobs[1].args"),
    ("chain", [[WELL] * 10_001], {}, "jobs"),
    ("chain", [[WELL]], {"then": WELL}, "then"),
    ("group", [[WELL]], {}, "then"),
    ("group", [[WELL], BADLY], {}, "then.args"),
    ("group", [[WELL] * 10_001, WELL], {}, "jobs"),
    *each("group", [[WELL], WELL], "on", "failure", 5, "", True),
]
OF_ONE = ("get", "events", "wait", "cancel", "replay")
OF_MANY = ("list", "replay_many", "discard_many")
WRONG_JOBS: list[tuple[list[Any], dict[str, Any], str]] = [
    ([], {}, "job"),
    ([5], {}, "job"),
    (["nonsense"], {}, "job"),
    ([NOBODY.upper()], {}, "job"),
    ([NOBODY], {"job": NOBODY}, "job"),
    ([NOBODY], {"when": 1}, "when"),
    ([NOBODY, None, None, None, 1], {}, "args"),
]
OTHERS: list[Case] = [
    *((name, *case) for name in OF_ONE for case in WRONG_JOBS),
    *each("events", [NOBODY], "after", -1, "x", 1.5, True, 2**40),
    *each("events", [NOBODY], "limit", 0, 1001, "x", True),
    *each("wait", [NOBODY], "timeout", -1, "x", True, 1e9),
    *each("replay", [NOBODY], "args", "text", {"a": 1}, 5),
    *each("replay", [NOBODY], "kwargs", "text", [1], 5),
    ("replay", [NOBODY, [b"bytes"]], {}, "args[0]"),
    *(case for name in OF_MANY for case in each(name, [], "state", "lost", ["failed", 5], 5, "")),
    *(case for name in OF_MANY for case in each(name, [], "uri", 5, "a b", "com..x", "")),
    *(case for name in OF_MANY for case in each(name, [], "limit", 0, 10**6, "x", True, 1.5)),
    *(case for name in OF_MANY for case in each(name, [], "when", 1)),
    *(case for name in OF_MANY for case in each(name, [], "tag", 5, "", "x" * 101, ["x"])),
    *((name, [None] * 6, {}, "args") for name in OF_MANY),
    *each("replay_many", [], "state", "succeeded", ["failed", "running"]),
    *each("discard_many", [], "state", "succeeded", ["failed", "running"]),
    *each("replay_many", [], "dry_run", 1, "yes"),
    *each("discard_many", [], "dry_run", 1, "yes"),
    *each("list", [], "before", 5, "nonsense", "", []),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "field"), [*SUBMIT, *MANY, *FLOWS, *OTHERS])
def test_a_wrong_argument_is_named(
    operator: Session, name: str, args: list[Any], kwargs: dict[str, Any], field: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        operator.call(f"taskbus.job.{name}", *args, **kwargs)
    assert caught.value.error == INVALID
    assert caught.value.kwargs["field"] == field
    assert caught.value.kwargs["remedy"]


@pytest.mark.parametrize(
    ("name", "args", "field"),
    [
        ("authenticate", [], "authid"),
        ("authenticate", ["realm1", ["x"], {}], "authid"),
        ("decide", [], "authid"),
        ("decide", [{}, "com.example.x", "call"], "authid"),
        ("decide", ["x", ["com.example.x"], "call"], "uri"),
    ],
)
def test_a_wrong_question_of_the_router(
    operator: Session, name: str, args: list[Any], field: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        operator.call(f"taskbus.access.{name}", *args)
    assert caught.value.error == INVALID
    assert caught.value.kwargs["field"] == field


def test_keywords_that_python_uses_itself(operator: Session) -> None:
    """They come from callers in other languages."""
    for name, kwargs in (("submit", {"details": 1}), ("get", {"details": 1}), ("list", {"_": 1})):
        with pytest.raises(ApplicationError) as caught:
            operator.call(f"taskbus.job.{name}", **kwargs)
        assert caught.value.error == INVALID


@pytest.mark.parametrize("name", OF_ONE)
def test_a_job_that_nobody_knows(operator: Session, name: str) -> None:
    with pytest.raises(ApplicationError) as caught:
        operator.call(f"taskbus.job.{name}", NOBODY)
    assert caught.value.error == NOT_FOUND


@pytest.mark.parametrize(
    ("uri", "args", "error"),
    [
        ("taskbus.job.submit", ["com.example.test.nobody"], UNKNOWN),
        ("taskbus.job.submit_many", [[{"uri": ECHO}, {"uri": "com.example.x.y"}]], UNKNOWN),
        ("taskbus.bus.status", [5], INVALID),
        ("com.example.test.nobody", [], "wamp.error.no_such_procedure"),
        ("com.example.nobody.x", [], "wamp.error.not_authorized"),
        ("taskbus.job.nothing", [], "wamp.error.no_such_procedure"),
    ],
)
def test_a_wrong_uri(operator: Session, uri: str, args: list[Any], error: str) -> None:
    with pytest.raises(ApplicationError) as caught:
        operator.call(uri, *args)
    assert caught.value.error == error


# --- over HTTP -----------------------------------------------------------------------------------

SUBMISSION = {"procedure": "taskbus.job.submit", "args": [ECHO]}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"secret": "wrong"}, 401),
        ({"key": "wrong"}, 401),
        ({"signature": None}, 400),
        ({"age": timedelta(seconds=310)}, 400),
        ({"timestamp": "2020-01-01T00:00:00.000Z"}, 400),
        ({"body": b'{"procedure": "taskbus.job.submit", "args": ["'}, 400),
        ({"body": b"\xff"}, 400),
        ({"body": b"[]"}, 400),
        ({"body": b"{}"}, 400),
        ({"body": json.dumps(SUBMISSION | {"kwargs": {"a": "x" * 2**20}}).encode()}, 413),
        ({"content_type": "text/plain"}, 400),
    ],
)
def test_a_wrong_request_stores_nothing(site: Site, changes: dict[str, Any], status: int) -> None:
    answered, answer = post(site, "/call", SUBMISSION, **(site.bridge_secret() | changes))
    assert answered == status
    assert answer["error"]


@pytest.mark.parametrize(
    ("path", "changes", "field"),
    [
        ("/call", {"procedure": None}, "procedure"),
        ("/call", {"procedure": 3}, "procedure"),
        ("/call", {"procedure": "com..x"}, "procedure"),
        ("/call", {"args": {"0": ECHO}}, "args"),
        ("/call", {"args": 3}, "args"),
        ("/call", {"kwargs": ["delay"]}, "kwargs"),
        ("/call", {"kwargs": {"options": 1}}, "kwargs.options"),
        ("/call", {"kwargs": {"procedure": ECHO}}, "kwargs.procedure"),
        ("/call", {"kwargs": {"f": 1}}, "kwargs.f"),
        ("/publish", {"topic": "com x"}, "topic"),
        ("/publish", {"topic": "com.example.x", "args": "x"}, "args"),
        ("/publish", {"topic": "com.example.x", "options": "x"}, "options"),
        ("/publish", {"topic": "com.example.x", "options": {"retain": 3}}, "options.retain"),
        ("/publish", {"topic": "com.example.x", "options": {"exclude": "x"}}, "options.exclude"),
    ],
)
def test_a_wrong_field_is_named(site: Site, path: str, changes: dict[str, Any], field: str) -> None:
    status, answer = post(site, path, SUBMISSION | changes, **site.bridge_secret())
    assert status == 400
    assert answer["error"] == INVALID
    assert answer["args"][0].startswith(f"{field}: ")
    assert answer["kwargs"]["field"] == field
    assert answer["kwargs"]["remedy"].startswith("send ")
    assert "value" in answer["kwargs"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"procedure": "com.example.test.nobody"}, "wamp.error.no_such_procedure"),
        ({"procedure": "com.example.nobody.x"}, "wamp.error.not_authorized"),
        ({"procedure": "taskbus.bus.status"}, "wamp.error.not_authorized"),
        ({"procedure": "taskbus.job.submit"}, INVALID),
        ({"procedure": "taskbus.job.submit", "args": ["com.example.x.y"]}, UNKNOWN),
        (SUBMISSION | {"kwargs": {"when": 5}}, INVALID),
        (SUBMISSION | {"kwargs": {"delay": "soon"}}, INVALID),
        (SUBMISSION | {"kwargs": {"delay": float("nan")}}, INVALID),
        ({"procedure": "taskbus.job.get", "args": [NOBODY]}, NOT_FOUND),
        ({"procedure": "taskbus.job.wait", "args": [NOBODY]}, NOT_FOUND),
    ],
)
def test_a_wrong_call_is_told_with_its_error(
    site: Site, request_: dict[str, Any], error: str
) -> None:
    status, answer = post(site, "/call", request_, **site.bridge_secret())
    assert (status, answer["error"]) == (200, error)


# --- over the command line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["call", "com.example.test.nobody"], 2, "wamp.error.no_such_procedure"),
        (["call", "com..x"], 2, "uri: not a URI"),
        (["call", "com.example.nobody.x"], 2, "wamp.error.not_authorized"),
        (["call", ECHO, str(2**64)], 2, "args[0]: an integer of more than 64 bits"),
        (["call", ECHO, "[NaN]"], 2, "args[0][0]: not a finite number"),
        (["call", ECHO, '"\\ud800"'], 2, "args[0]: a text with half a character"),
        (["call", ECHO, "[" * 200 + "]" * 200], 2, "nested more than 100 deep"),
        (["call", ECHO, "-k", "size"], 2, "--keyword: not NAME=VALUE"),
        (["call", ECHO, "-k", "=3"], 2, "--keyword: not NAME=VALUE"),
        (["call", ECHO, "-k", "options=1"], 2, "--keyword: not a name that 'call' can send"),
        (["submit", "nonsense"], 2, "uri: not a WAMP URI"),
        (["submit", "com.example.test.nobody"], 2, UNKNOWN),
        (["submit", ECHO, str(-(2**64))], 2, "args[0]: an integer of more than 64 bits"),
        (["submit", ECHO, "--delay=-1"], 2, "delay: not a number of seconds"),
        (["submit", ECHO, "--priority", "highest"], 2, "priority: not a priority"),
        (["submit", ECHO, "--timeout", "never"], 2, "timeout: not a number of seconds"),
        (["submit", ECHO, "--when", "5"], 2, "unrecognized arguments: --when"),
        (["submit", ECHO, "--delay", "1", "--delay", "2"], 2, "delay: not a number of seconds"),
        (["submit", ECHO, "--run-at", "tomorrow"], 2, "run_at: not a time"),
        (["job", "nonsense"], 2, "job: not a job id"),
        (["job", NOBODY], 2, NOT_FOUND),
        (["job", NOBODY, "--wait"], 2, NOT_FOUND),
        (["logs", NOBODY], 2, NOT_FOUND),
        (["logs", NOBODY, "-f"], 2, NOT_FOUND),
        (["jobs", "--limit", "0"], 2, "limit: out of range"),
        (["jobs", "--state", "lost"], 2, "state: not a state"),
        (["jobs", "--uri", "com..x"], 2, "uri: not a URI"),
        (["jobs", "--tag", ""], 2, "tag: not a short text"),
        (["jobs", "--limit", str(2**64)], 2, "limit: an integer of more than 64 bits"),
        (["job", "\udcff"], 2, "argument: a text with half a character"),
        (["submit", ECHO, "--tag", "\udcff"], 2, "argument: a text with half a character"),
    ],
)
def test_a_wrong_command(site: Site, words: list[str], code: int, said: str) -> None:
    done = site.taskbus(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_whose_output_nobody_wants(site: Site, closed: str) -> None:
    command = f'exec "$0" --settings "$1" jobs {closed}'
    words = ["sh", "-c", command, str(REPOSITORY / ".venv/bin/taskbus"), str(site.settings)]
    done = subprocess.run(words, check=False, timeout=PATIENCE)
    assert done.returncode == 0


def test_commands_that_look_for_a_uri(site: Site) -> None:
    assert site.taskbus("jobs", "--uri", "com.example.*").returncode == 0
    words = ("-k", "uri=1", "-k", "on_progress=2", "-k", "page-size=3")
    told = json.loads(site.taskbus("call", "--json", ECHO, *words).stdout)["kwargs"]
    assert (told["uri"], told["on_progress"], told["page-size"]) == (1, 2, 3)
