"""HTTP services that tell their progress while they work."""

import threading
from typing import Any

import pytest

from taskbus.handler.contract import LARGEST_ANSWER
from taskbus.handler.http_progress import MEDIA_TYPE
from taskbus.model.errors import HandlerUnreachable, InvalidResult, TaskFailure
from taskbus.model.task import TaskInput, TaskResult
from tests.support.http_calls import handler
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE

SLOW = b'{"progress": 0.5, "message": "half"}\n'
DONE = b'{"args": [1]}\n'


class Watched:
    """A call whose progress and warnings are kept."""

    def __init__(self) -> None:
        self.progress: list[tuple[float, str]] = []
        self.warnings: list[str] = []
        self.is_told = threading.Event()
        self.task = TaskInput("com.x.y", progress=self._progress, warn=self.warnings.append)

    def _progress(self, fraction: float, message: str) -> None:
        self.progress.append((fraction, message))
        self.is_told.set()

    def call(self, body: bytes, status: int = 200, **options: Any) -> TaskResult:
        """What a service that answers so is taken to say."""

        def answer(request: Request) -> None:
            request.reply(status, body, Content_Type=MEDIA_TYPE)

        with serving(answer) as (url, requests):
            result = handler(url, **options)(self.task)
        assert (MEDIA_TYPE in requests[0].headers["Accept"]) is not options.get("plain", False)
        return result


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_progress_is_told_at_once(timeout: float | None) -> None:
    watched = Watched()

    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", MEDIA_TYPE)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for line in (SLOW, b"\n", DONE):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            assert watched.is_told.wait(PATIENCE)
        request.wfile.write(b"0\r\n\r\n")

    with serving(answer) as (url, _):
        assert handler(url, timeout)(watched.task).args == [1]
    assert (watched.progress, watched.warnings) == ([(0.5, "half")], [])


def test_the_last_line_is_the_answer() -> None:
    watched = Watched()
    assert watched.call(SLOW + b"\r\n" + SLOW + DONE).args == [1]
    assert watched.progress == [(0.5, "half")] * 2
    large = b'{"args": ["%s"]}' % (b"x" * 1_000_000)
    assert len(watched.call(SLOW + large).args[0]) == 1_000_000
    error = b'{"error": "com.x.error.busy", "args": ["later"], "kwargs": {"a": 1}}'
    with pytest.raises(TaskFailure, match="later") as caught:
        watched.call(SLOW + error)
    assert (caught.value.uri, caught.value.about) == ("com.x.error.busy", {"a": 1})


def test_a_line_of_progress_that_is_wrong_is_a_warning() -> None:
    watched = Watched()
    assert watched.call(b'{"progress": "half"}\n' + DONE).args == [1]
    assert "not a number from 0 to 1" in watched.warnings[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (SLOW, "not JSON"),
        (b"half\n" + DONE, "followed by another line"),
        (DONE + SLOW, "followed by another line"),
        (SLOW + b"x" * (LARGEST_ANSWER + 1), "larger than 16000000"),
    ],
)
def test_anything_else_is_no_answer(body: bytes, words: str) -> None:
    with pytest.raises(InvalidResult, match=words):
        Watched().call(body)


def test_a_service_that_dies_meanwhile_has_not_answered() -> None:
    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", MEDIA_TYPE)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(SLOW + DONE)
        request.close_connection = True

    with serving(answer) as (url, _), pytest.raises(HandlerUnreachable, match="IncompleteRead"):
        handler(url)(Watched().task)


def test_a_service_that_knows_nothing_of_the_bus_tells_no_progress() -> None:
    watched = Watched()
    assert watched.call(b'{"progress": 0.5}', plain=True).args == [{"progress": 0.5}]
    assert watched.progress == []
