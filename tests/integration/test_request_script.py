"""cron/request.sh, against a server that checks its signatures as the gateway does."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskbus.core.signed import SignedRequests
from taskbus.model.access import new_token
from taskbus.model.errors import StaleSignature, Unauthenticated
from taskbus.model.signed_request import Signed, parse_signature
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE, REPOSITORY

pytestmark = pytest.mark.integration

SCRIPT = REPOSITORY / "cron/request.sh"
ID, TOKEN = new_token()

Send = Callable[..., "subprocess.CompletedProcess[str]"]


class Door:
    """What a gateway does with a request, as far as it concerns signatures."""

    def __init__(self) -> None:
        self.stale = 0
        self.status = 200
        self.checks = SignedRequests({ID: TOKEN}.get, time.time)
        # As if it had been there for a while.
        self.checks._since -= 60

    def answer(self, request: Request) -> None:
        path, _, query = request.path.partition("?")
        told = parse_signature(request.headers["Authorization"])
        assert told is not None
        try:
            if self.stale:
                self.stale -= 1
                raise StaleSignature("another was faster")
            self.checks.check(told, Signed(request.command, path, query, request.body))
        except Unauthenticated as error:
            request.reply(401, json.dumps({"error": error.uri}).encode())
        else:
            request.reply(self.status, b'{"path": "%s"}' % request.path.encode())


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def requests(door: Door) -> Iterator[tuple[str, list[Request]]]:
    with serving(door.answer) as (url, got):
        yield url.removesuffix("/rpc"), got


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def send(requests: tuple[str, list[Request]], key_file: Path) -> Send:
    def run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {"TASKBUS_URL": requests[0], "TASKBUS_KEY_FILE": str(key_file)}
        return subprocess.run(
            ["dash", SCRIPT, *words],
            input=stdin,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", **environment},
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["GET", "/v1/jobs"], ""),
        (["GET", "/v1/jobs?uri=com.example.*&limit=3&tag=%C3%BC"], ""),
        (["DELETE", "/v1/../v1//jobs/%2e?"], ""),
        (
            [
                "POST",
                "/v1/jobs",
                '{"uri": "com.example.x", "args": ["gr\u00fc\u00dfe 100% \\\\n"]}',
            ],
            "",
        ),
        (["PUT", "/v1/jobs?wait=10", "-"], json.dumps(["x" * 300_000, "\u00fc"])),
    ],
)
def test_a_request_is_taken_as_it_was_signed(
    send: Send, requests: tuple[str, list[Request]], words: list[str], stdin: str
) -> None:
    done = send(*words, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"path": words[1]}
    [got] = requests[1]
    assert got.command == words[0]
    assert got.body.decode() == (stdin or "".join(words[2:]))
    assert TOKEN not in str(got.headers)


def test_each_request_has_a_signature_of_its_own(send: Send) -> None:
    for _ in range(3):
        assert send("POST", "/v1/jobs", "{}").returncode == 0


def test_one_that_another_overtook_is_signed_again(send: Send, door: Door) -> None:
    door.stale = 1
    assert send("POST", "/v1/jobs", "{}").returncode == 0


def test_a_wrong_key_is_refused(send: Send, key_file: Path) -> None:
    key_file.write_text(TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1"))
    done = send("GET", "/v1/jobs")
    assert done.returncode == 3
    assert "refuses the key" in done.stderr


def test_an_error_is_told(send: Send, door: Door) -> None:
    door.status = 404
    done = send("-q", "GET", "/v1/jobs/x")
    assert done.returncode == 1
    assert "HTTP 404" in done.stderr
    assert json.loads(done.stdout) == {"path": "/v1/jobs/x"}


def test_quiet_says_nothing_and_a_header_is_sent(
    send: Send, requests: tuple[str, list[Request]]
) -> None:
    done = send("-q", "-H", "Idempotency-Key: x", "-H", "Prefer: wait=3", "POST", "/v1/jobs", "{}")
    assert (done.returncode, done.stdout) == (0, "")
    assert requests[1][0].headers["Idempotency-Key"] == "x"
    assert requests[1][0].headers["Prefer"] == "wait=3"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["GET"],
        ["get", "/v1/jobs"],
        ["GET", "v1/jobs"],
        ["GET", '/v1/"jobs'],
        ["GET", "/v1/jobs\nurl = x"],
        ["GET", "/v1/j obs"],
        ["-H", "no colon", "GET", "/v1/jobs"],
        ["-H", 'a: "b"', "GET", "/v1/jobs"],
        ["-t", "soon", "GET", "/v1/jobs"],
        ["-u", "ftp://x", "GET", "/v1/jobs"],
        ["-k", "/nowhere", "GET", "/v1/jobs"],
        ["-x", "GET", "/v1/jobs"],
    ],
)
def test_wrong_use_sends_nothing(
    send: Send, requests: tuple[str, list[Request]], words: list[str]
) -> None:
    done = send(*words)
    assert done.returncode == 2
    assert done.stderr
    assert requests[1] == []


@pytest.mark.parametrize("text", ["", "secret", "tb_x", "tb_x_y z", "tb_x_y_z", 'tb_x_y"\n'])
def test_a_file_without_a_key_is_refused(send: Send, key_file: Path, text: str) -> None:
    key_file.write_text(text)
    assert send("GET", "/v1/jobs").returncode == 2


def test_a_key_that_others_can_read_is_refused(send: Send, key_file: Path) -> None:
    key_file.chmod(0o644)
    done = send("GET", "/v1/jobs")
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_nobody_there(send: Send) -> None:
    done = send("-u", "http://127.0.0.1:9", "GET", "/v1/jobs")
    assert done.returncode == 3
    assert "cannot reach" in done.stderr
