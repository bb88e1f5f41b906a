"""cron's scripts, the shell's and PHP's: one behaviour, against a real router and callee."""

import base64
import hashlib
import hmac
import json
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult

from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import (
    BRIDGE_KEY,
    BRIDGE_SECRET,
    Router,
    Session,
    joined,
    running_router,
)

pytestmark = pytest.mark.integration

SCRIPTS = {
    "sh": ["dash", str(REPOSITORY / "cron/call.sh")],
    "php": ["php", str(REPOSITORY / "cron/call.php")],
}
ECHO = "com.example.dante.echo"
FULL = "com.example.dante.full"

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with running_router(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module", autouse=True)
def callee(router: Router) -> Iterator[Session]:
    def echo(*args: Any, details: Any, **kwargs: Any) -> CallResult:
        return CallResult(*args, **kwargs)

    def full(*args: Any, details: Any) -> None:
        raise ApplicationError("com.example.error.full", "disk full", free=3)

    with joined(router, "backend") as session:
        session.register(echo, ECHO)
        session.register(full, FULL)
        yield session


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return secrets_file(tmp_path / "bridge")


def secrets_file(path: Path, key: str = BRIDGE_KEY, secret: str = BRIDGE_SECRET) -> Path:
    path.write_text(f"key={key}\nsecret={secret}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(params=SCRIPTS)
def call(request: pytest.FixtureRequest, router: Router, secrets: Path) -> Call:
    """Runs one of the scripts with the right URL and secrets in its environment."""

    def run(*words: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*SCRIPTS[request.param], *words],
            input=stdin,
            env={
                "PATH": os.environ["PATH"],
                "TASKBUS_CALL_URL": f"{router.url}/call",
                "TASKBUS_CALL_SECRETS": str(secrets),
            }
            | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


def test_a_call_prints_the_answer(call: Call) -> None:
    done = call(ECHO, '[1, "a b", null]', '{"keep": 7, "deep": {}}')
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "args": [1, "a b", None], "kwargs": {"keep": 7, "deep": {}}
    }  # fmt: skip


def test_quiet_says_nothing_on_success(call: Call) -> None:
    done = call("-q", ECHO, "[1]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("options", [[], ["-q"]])
def test_an_error_of_the_callee_is_shown_and_named(call: Call, options: list[str]) -> None:
    done = call(*options, FULL)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "error": "com.example.error.full", "args": ["disk full"], "kwargs": {"free": 3}
    }  # fmt: skip
    assert done.stderr == f"call: {FULL}: com.example.error.full\n"


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("com.example.dante.nobody", "wamp.error.no_such_procedure"),
        ("com.example.unknown.x", "wamp.error.not_authorized"),
        ("wamp.session.list", "wamp.error.not_authorized"),
    ],
)
def test_a_call_that_the_router_refuses(call: Call, uri: str, error: str) -> None:
    done = call(uri)
    assert (done.returncode, done.stderr) == (1, f"call: {uri}: {error}\n")


@pytest.mark.parametrize(
    "args",
    [
        ["grüße €uro 😀", "中文", "'\"\\ $(id) `id` %d \\n"],
        [{"ü": ["x\ny"]}, 0.1, -1, 2**60, True, []],
        [[]],
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_arguments_arrive_as_they_are(call: Call, args: list[Any], ascii_only: bool) -> None:
    text = json.dumps(args, ensure_ascii=ascii_only)
    done = call(ECHO, text)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["args"] == args


def test_big_arguments_come_by_standard_input(call: Call) -> None:
    args = ["x" * 900_000, "ü"]
    done = call(ECHO, "-", '{"a": 1}', stdin=json.dumps(args) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"args": args, "kwargs": {"a": 1}}


def test_more_than_the_router_takes_is_refused(call: Call, router: Router) -> None:
    done = call(ECHO, "-", stdin=json.dumps(["x" * 1_100_000]))
    assert done.returncode == 3
    told = f'call: {router.url}/call answered HTTP 413: {{"error": "taskbus.error.too_large", '
    assert done.stderr.startswith(told)
    assert "the body is larger than 1048576 bytes" in done.stderr


def test_a_field_that_is_wrong_is_named(call: Call) -> None:
    done = call(ECHO, "[]", '{"options": {"delay": 5}}')
    assert done.returncode == 3
    assert "HTTP 400" in done.stderr
    assert '"kwargs.options: a name that is taken"' in done.stderr


@pytest.mark.parametrize(
    "secret",
    [
        "s",
        "a secret with spaces, 'quotes' and %s\\n",
        "ü€😀",
        "x" * 63,
        "x" * 64,
        "x" * 65,
        "x" * 500,
    ],
)
def test_any_secret_signs_as_the_standard_says(
    call: Call, tmp_path: Path, bridge: "Bridge", secret: str
) -> None:
    secrets = secrets_file(tmp_path / "other", secret=secret)
    done = call("-u", f"{bridge.url}/call", "-s", str(secrets), ECHO, '["ü"]')
    assert (done.returncode, done.stdout) == (0, '{"args":[]}\n')
    assert bridge.signed_by(secret)


@pytest.mark.parametrize(
    ("key", "secret", "problem"),
    [
        (BRIDGE_KEY, "wrong", "REST bridge signature secret not valid."),
        ("wrong", BRIDGE_SECRET, "REST bridge signature key not valid."),
    ],
)
def test_a_wrong_secret_is_refused(
    call: Call, router: Router, tmp_path: Path, key: str, secret: str, problem: str
) -> None:
    wrong = secrets_file(tmp_path / "wrong", key, secret)
    done = call("-s", str(wrong), ECHO)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"call: {router.url}/call answered HTTP 401: {problem}\n"


def test_arguments_that_are_not_json_are_refused(call: Call, router: Router) -> None:
    done = call(ECHO, "[1,]")
    assert done.returncode == 3
    assert done.stderr == (
        f"call: {router.url}/call answered HTTP 400: Request body was invalid JSON.\n"
    )


def test_an_unreachable_router(call: Call) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/call"
        done = call("-u", url, ECHO)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"call: cannot reach {url}\n")


def test_a_router_that_does_not_answer(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/call"
        done = call("-t1", "-u", url, ECHO)
    assert (done.returncode, done.stderr) == (3, f"call: no answer from {url} within 1 seconds\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], None),
        (["a.b", "[]", "{}", "more"], None),
        (["-x", "a.b"], None),
        (["-u"], None),
        (["a b"], "not a URI: a b"),
        ([""], "not a URI: "),
        (['a","x":"'], 'not a URI: a","x":"'),
        (["a.b", "1"], "ARGS is not a JSON array: 1"),
        (["a.b", '{"a":1}'], 'ARGS is not a JSON array: {"a":1}'),
        (["a.b", ""], "ARGS is not a JSON array: "),
        (["a.b", "[]", "[]"], "KWARGS is not a JSON object: []"),
        (["-t", "soon", "a.b"], "not a number of seconds: soon"),
        (["-t", "0", "a.b"], "not a number of seconds: 0"),
        (["-u", "ftp://x/", "a.b"], "not an http URL: ftp://x/"),
        (["-u", 'http://x/"', "a.b"], 'not an http URL: http://x/"'),
        (["-s", "/nonexistent", "a.b"], "cannot read /nonexistent"),
    ],
)
def test_wrong_use_sends_nothing(call: Call, words: list[str], problem: str | None) -> None:
    done = call(*words, TASKBUS_CALL_URL="http://127.0.0.1:1/call")
    assert (done.returncode, done.stdout) == (2, "")
    if problem is None:
        assert done.stderr.startswith("usage: call.")
    else:
        assert done.stderr == f"call: {problem}\n"


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("key=a\nsecret=b\n", 0o644, "everybody may use {}: chmod 600 it"),
        ("secret=b\n", 0o600, "no key=... in {}"),
        ("key=a b\nsecret=b\n", 0o600, "no key=... in {}"),
        ("key=a\nsecret=\n", 0o600, "no secret=... in {}"),
    ],
)
def test_an_unusable_secrets_file(
    call: Call, tmp_path: Path, text: str, mode: int, problem: str
) -> None:
    file = tmp_path / "unusable"
    file.write_text(text)
    file.chmod(mode)
    done = call("-s", str(file), ECHO)
    assert (done.returncode, done.stderr) == (2, f"call: {problem.format(file)}\n")


def test_options_may_be_joined_and_ended(call: Call, router: Router, secrets: Path) -> None:
    done = call(
        "-qt5", f"-u{router.url}/call", "-s", str(secrets), "--", ECHO, TASKBUS_CALL_URL="http://x/"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_help(call: Call) -> None:
    done = call("-h")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: call.")


def test_the_secret_is_never_an_argument(call: Call, tmp_path: Path) -> None:
    """Every program that a script runs is recorded by a stand-in before it is run."""
    record = tmp_path / "arguments"
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name in ("curl", "openssl", "od", "sed", "tr", "cat", "ls", "date", "dirname"):
        program = stand_ins / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>{record}\n'
            f'PATH=${{PATH#*:}}\nexec {name} "$@"\n'
        )
        program.chmod(0o755)
    record.touch()
    done = call(ECHO, "[1]", PATH=f"{stand_ins}:{os.environ['PATH']}")
    assert done.returncode == 0
    shown = record.read_text()
    assert BRIDGE_SECRET not in shown
    assert BRIDGE_SECRET.encode().hex() not in shown
    assert "signature" not in shown


# --- a stand-in for the bridge -------------------------------------------------------------------


class Bridge:
    """Answers every request, and remembers the last one, byte by byte."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def signed_by(self, secret: str) -> bool:
        head, body = self._requests.get(timeout=PATIENCE).split(b"\r\n\r\n", 1)
        fields = parse_qs(urlsplit(head.split(b" ")[1].decode()).query)
        signed = "".join(fields[name][0] for name in ("key", "timestamp", "seq", "nonce"))
        digest = hmac.digest(secret.encode(), signed.encode() + body, hashlib.sha256)
        return fields["signature"] == [base64.urlsafe_b64encode(digest).decode()]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                self._requests.put(_request(connection))
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"args":[]}')


def _request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    length = int(request.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(request.split(b"\r\n\r\n", 1)[1]) < length:
        request += connection.recv(65536)
    return request


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    stand_in = Bridge()
    yield stand_in
    stand_in.close()
