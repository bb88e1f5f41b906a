"""One suite for tasks in every language: ``tests/conformance`` has its cases and its handlers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.suite import Case, cases
from tests.support.access_keys import new_key
from tests.support.javascript import NODE
from tests.support.php_http import TASKBUS_PHP, nginx
from tests.support.processes import REPOSITORY
from tests.support.quick import quick_folder
from tests.support.raw_wamp import RawCaller, raw_caller
from tests.support.site import Site, eventually, running_site
from tests.support.web import Client, as_principal

pytestmark = pytest.mark.acceptance

ROOT = "com.example.conform"
HANDLERS = REPOSITORY / "tests/conformance/handlers"
PROGRAM = [sys.executable, "-S", str(HANDLERS / "program.py")]
PROCEDURES = ("give", "told", "fail", "crash", "leave", "odd", "steps", "hang", "late")
# Where the handlers are. What is directly below the root keeps one backend for most of them.
PREFIX = {
    "python": ROOT,
    "exec": f"{ROOT}.exec",
    "php": f"{ROOT}.php",
    "php-http": f"{ROOT}.http",
    "node": f"{ROOT}.node",
}
SETTINGS = f"""
[php]
tasks = "{HANDLERS}/php"
client = "{REPOSITORY}/clients/php"
"""
CASES = {
    how: [(handler, one) for handler in PREFIX for one in cases() if one.holds_of(handler, how)]
    for how in ("call", "job")
}
BRIEF = "timeout = 0.5\n"


@dataclass
class Told:
    """How a call ended, and the progress that was told meanwhile."""

    result: dict[str, Any] | None = None
    error: str = ""
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)


class Pipe:
    """A FIFO between a task and its test, which never waits in it."""

    def __init__(self, path: Path, is_read: bool) -> None:
        """``is_read``: by the test."""
        os.mkfifo(path)
        self._path = path
        # Who opens it for both ways waits for nobody; but then there is always somebody who writes.
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK if is_read else os.O_RDWR)

    def __str__(self) -> str:
        return str(self._path)

    def write(self, _: Any = None) -> None:
        """A byte for the task."""
        os.write(self._fd, b".")

    def has_begun(self) -> bool:
        """Whether the task writes."""
        try:
            return bool(os.read(self._fd, 65536))
        except BlockingIOError:
            return False

    def has_ended(self) -> bool:
        """Whether nobody writes any more."""
        try:
            return not os.read(self._fd, 65536)
        except BlockingIOError:
            return False

    def close(self) -> None:
        """A task that still writes ends now."""
        os.close(self._fd)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        folder, web = (stack.enter_context(quick_folder()) for _ in range(2))
        variables = {
            "TASKBUS_TASKS": str(HANDLERS / "php"),
            "TASKBUS_NAMESPACE": PREFIX["php-http"],
            "TASKBUS_CLASSES": "Conformance",
        }
        url = stack.enter_context(nginx(web, variables, TASKBUS_PHP.parent))
        entries = "".join(map(of_procedure, PROCEDURES))
        entries += of_all("exec", f"exec = {json.dumps(PROGRAM)}")
        entries += of_all("php-http", f'http = "{url}"')
        entries += f'\n[api."{PREFIX["node"]}.*"]\nwamp = true\n'
        site = stack.enter_context(running_site(folder, SETTINGS, entries))
        stack.enter_context(node_backend(site))
        yield site


@contextmanager
def node_backend(site: Site) -> Iterator[None]:
    """The handler in Node, once it has registered its procedures."""
    prefix = PREFIX["node"]
    key = new_key(site, f"register:{prefix}.*")
    command = [
        NODE,
        "--no-warnings",
        HANDLERS / "node.mjs",
        f"ws://127.0.0.1:{site.port}/ws",
        prefix,
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen([*map(str, command)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(key.token)
        process.stdin.close()
        try:
            assert process.stdout.readline() == "registered\n"
            yield
        finally:
            process.kill()


def of_procedure(name: str) -> str:
    """The entries of a procedure in Python and in PHP."""
    brief = BRIEF if name == "late" else ""
    return f"""
[api."{PREFIX["python"]}.{name}"]
python = "tests.conformance.handlers.python_tasks:{name}"
{brief}
[api."{PREFIX["php"]}.{name}"]
php = "Conformance\\\\{name.capitalize()}"
{brief}
"""


def of_all(handler: str, target: str) -> str:
    """Those of a handler that finds the procedure by the called URI."""
    prefix = PREFIX[handler]
    return f'\n[api."{prefix}.*"]\n{target}\n[api."{prefix}.late"]\n{target}\n{BRIEF}'


@pytest.fixture(scope="module")
def raw(site: Site) -> Iterator[RawCaller]:
    with raw_caller(site.socket, "operator", site.ticket("operator")) as made:
        yield made


def named(pairs: list[tuple[str, Case]]) -> pytest.MarkDecorator:
    ids = [f"{handler}-{one.name}" for handler, one in pairs]
    return pytest.mark.parametrize(("handler", "case"), pairs, ids=ids)


@named(CASES["call"])
def test_a_call(raw: RawCaller, tmp_path: Path, handler: str, case: Case) -> None:
    def run(uri: str, args: str, kwargs: str, pipe: Pipe | None) -> Told:
        told = Told()

        def heard(progress: dict[str, Any]) -> None:
            told.progress.append(progress)
            if case.progress and pipe:
                pipe.write()

        raw.send(uri, args, kwargs)
        if case.stop and pipe:
            eventually(pipe.has_begun)
            raw.interrupt()
        return ended(told, *raw.end(heard))

    check(handler, case, run, tmp_path)


@pytest.fixture(scope="module")
def waiting(raw: RawCaller) -> dict[tuple[str, str], tuple[bool, list[Any]]]:
    """The answers to all submissions that need no FIFO: so the workers have something to do."""
    return {
        (handler, one.name): submit(raw, handler, one, json.dumps(one.args))
        for handler, one in CASES["job"]
        if "$pipe" not in one.args
    }


def submit(raw: RawCaller, handler: str, case: Case, args: str) -> tuple[bool, list[Any]]:
    uri, kwargs = f"{PREFIX[handler]}.{case.call}", json.dumps(case.kwargs)
    return raw.call("taskbus.job.submit", f'["{uri}",{args},{kwargs}]')


@named(CASES["job"])
def test_a_job(
    raw: RawCaller,
    waiting: dict[tuple[str, str], tuple[bool, list[Any]]],
    tmp_path: Path,
    handler: str,
    case: Case,
) -> None:
    def run(_uri: str, args: str, _kwargs: str, pipe: Pipe | None) -> Told:
        told = Told()

        def heard(events: list[dict[str, Any]]) -> None:
            for event in events:
                if event["kind"] == "progress" and case.progress and pipe:
                    told.progress.append(event["data"])
                    pipe.write()

        submitted = waiting.get((handler, case.name)) or submit(raw, handler, case, args)
        if not submitted[0]:
            return ended(told, *submitted)
        job = json.dumps(submitted[1][0])
        if case.stop and pipe:
            eventually(pipe.has_begun)
            assert raw.call("taskbus.job.cancel", job)[0]
        if case.progress:
            raw.send("taskbus.job.follow", job)
            assert raw.end(heard)[0]
        return ended(told, *raw.call("taskbus.job.wait", job))

    check(handler, case, run, tmp_path)


@pytest.mark.parametrize("handler", PREFIX)
@pytest.mark.parametrize("name", ["texts", "odd keys", "odd keywords"])
def test_a_call_over_http(site: Site, handler: str, name: str) -> None:
    ask = Client(site, as_principal("operator", site.ticket("operator")))
    [case] = [one for one in cases() if one.name == name]
    uri = f"{PREFIX[handler]}.{case.call}"
    answer = ask("POST", f"/v1/call/{uri}", {"args": case.args, "kwargs": case.kwargs})
    assert (answer.status, exactly(answer.json())) == (200, exactly(case.result))


def ended(told: Told, done: bool, answer: list[Any]) -> Told:
    """With what WAMP leaves out where it is empty."""
    if not done:
        told.error, *answer = answer
    args, kwargs = [*answer, [], {}][:2] if len(answer) != 1 else [answer[0], {}]
    if done:
        told.result = {"args": args, "kwargs": kwargs}
    else:
        told.args, told.kwargs = args, kwargs
    return told


def check(
    handler: str, case: Case, run: Callable[[str, str, str, Pipe | None], Told], folder: Path
) -> None:
    """Runs the case, and holds what came of it against what has to."""
    uri = f"{PREFIX[handler]}.{case.call}"
    has_pipe = "$pipe" in case.args
    pipe = Pipe(folder / "pipe", is_read=case.progress is None) if has_pipe else None
    args = [str(pipe) if one == "$pipe" else one for one in case.args]
    try:
        told = run(uri, json.dumps(args), json.dumps(case.kwargs), pipe)
        if pipe and case.progress is None:
            eventually(pipe.has_ended)
    finally:
        if pipe:
            pipe.close()
    if case.error is not None:
        check_error(told, case.error)
    else:
        wanted = json.dumps(case.result).replace('"$uri"', json.dumps(uri))
        assert told.error == "", told
        assert exactly(told.result) == exactly(json.loads(wanted))
    if case.progress is not None:
        count = len(case.progress)
        wanted_progress = [
            {"fraction": number / count, "message": message}
            for number, message in enumerate(case.progress, 1)
        ]
        assert told.progress == wanted_progress


def check_error(told: Told, wanted: dict[str, Any]) -> None:
    """Its URI, and as much of its words as the case tells."""
    assert (told.result, told.error) == (None, wanted["error"])
    if "args" in wanted:
        assert told.args == wanted["args"]
        assert exactly(told.kwargs) == exactly(wanted["kwargs"])
    assert wanted.get("has", "") in json.dumps([told.args, told.kwargs], ensure_ascii=False)
    for name in wanted.get("about", []):
        assert told.kwargs[name], name


def exactly(value: Any) -> str:
    """Tells apart what Python takes for the same: 1, 1.0 and true."""
    return json.dumps(value, sort_keys=True)
