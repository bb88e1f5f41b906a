"""``taskbus.php``: PHP tasks behind nginx with php-fpm, and by ``php -S``."""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskbus.handler import build
from taskbus.handler.contract import LARGEST_ANSWER
from taskbus.model.apimap import parse_api_map
from taskbus.model.errors import HttpFailure, InvalidResult, TaskFailure, TaskTimeout
from taskbus.model.leash import Leash
from taskbus.model.task import TaskInput
from tests.support.http_calls import ended, handler
from tests.support.php_http import TASKBUS_PHP, apache, documented, nginx, php_server
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.quick import quick_folder
from tests.support.site import eventually

ACT = "com.example.act"
SECRET = "hush, a secret"


@dataclass(frozen=True)
class Served:
    """One way of serving the tasks of ``tests/support/php``."""

    url: str
    folder: Path
    secret: Path | None = None

    def call(self, *args: Any, uri: str = ACT, **kwargs: Any) -> Any:
        """The one result."""
        auth = ("Authorization", "Bearer", str(self.secret)) if self.secret else None
        result = handler(self.url, auth=auth)(
            TaskInput(uri, args, kwargs, {"caller_authid": "ann"})
        )
        assert result.kwargs == {}
        [value] = result.args
        return value

    def failure(self, *args: Any, uri: str = ACT) -> TaskFailure:
        """Its error."""
        with pytest.raises(TaskFailure) as caught:
            self.call(*args, uri=uri)
        return caught.value

    def log(self) -> str:
        """What is in the error log."""
        return (self.folder / "error.log").read_text()

    def ask(
        self, method: str = "POST", body: bytes = b"{}", **headers: str
    ) -> tuple[http.client.HTTPResponse, Any]:
        """An answer as it came, and the JSON in it."""
        connection = http.client.HTTPConnection(self.url.split("/")[2], timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method, "/taskbus.php", body, {"Content-Type": "application/json"} | named
            )
            response = connection.getresponse()
            return response, json.loads(response.read())
        finally:
            connection.close()


def served(stack: ExitStack, server: Any, secret: bool = False, **variables: str) -> Served:
    folder = stack.enter_context(quick_folder())
    # PHP's own server shows no files; the others have the folder elsewhere, as they are told.
    tasks = folder / ("www/tasks" if server is php_server else "tasks")
    shutil.copytree(REPOSITORY / "tests/support/php", tasks)
    (folder / "www").mkdir(exist_ok=True)
    shutil.copy(TASKBUS_PHP, folder / "www")
    (tasks / "Shop/Disk").mkdir(parents=True)
    example = documented("php").replace("namespace Disk", r"namespace Shop\Disk")
    (tasks / "Shop/Disk/GetFreeSpace.php").write_text(example)
    variables = {"TASKBUS_NAMESPACE": "com.example"} | variables
    if server is not php_server:
        variables["TASKBUS_TASKS"] = str(tasks)
    if secret:
        (folder / "secret").write_text(SECRET + "\n")
        (folder / "secret").chmod(0o600)
        variables["TASKBUS_SECRET_FILE"] = str(folder / "secret")
    url = stack.enter_context(server(folder, variables, folder / "www"))
    return Served(url, folder, folder / "secret" if secret else None)


@pytest.fixture(scope="module")
def web() -> Iterator[Served]:
    """As docs/php.md has it."""
    with ExitStack() as stack:
        yield served(stack, nginx, secret=True)


@pytest.fixture(scope="module")
def local() -> Iterator[Served]:
    with ExitStack() as stack:
        yield served(stack, php_server)


@pytest.fixture(params=["nginx", "php -S"])
def either(request: pytest.FixtureRequest, web: Served, local: Served) -> Served:
    return web if request.param == "nginx" else local


def test_the_file_is_up_to_date(tmp_path: Path) -> None:
    build = REPOSITORY / "clients/php/build.php"
    subprocess.run(["php", build, tmp_path / "taskbus.php"], check=True)
    made = (tmp_path / "taskbus.php").read_text()
    assert made == TASKBUS_PHP.read_text(), "run: php clients/php/build.php"


def test_values_arrive_as_they_are(either: Served) -> None:
    values = [{}, [], 1, 1.0, None, "ü😀\0", {"": {"a b": []}}, 2**63 - 1, "x" * 1_000_000]
    for value in values:
        assert json.dumps(either.call("give", value)) == json.dumps(value)
    assert either.call("told") == [ACT, {"caller_authid": "ann"}]


def test_the_documented_task_is_called_by_the_documented_entry(web: Served) -> None:
    text = documented("toml").replace("http://127.0.0.1:8000/taskbus.php", web.url)
    [entry] = parse_api_map(text, "docs/php.md", site=str(web.folder)).entries.values()
    assert web.secret
    (web.folder / "secrets").mkdir()
    (web.folder / "secrets/shop").symlink_to(web.secret)
    spec = entry.handler
    told: list[str] = []
    task = TaskInput(
        "com.example.shop.disk.get_free_space", [str(web.folder)],
        progress=lambda _, message: told.append(message),
    )  # fmt: skip
    result = build(spec, PATIENCE)(task)
    assert 0 < result.args[0] < result.kwargs["total"]
    assert told == [f"looking at {web.folder}"]


def test_what_a_task_writes_is_for_the_log(either: Served) -> None:
    assert either.call("say") == 1
    said = (r"com.example.act: by echo\033[31m", f"{ACT}: logged", f"{ACT}: kept")
    eventually(lambda: all(words in either.log() for words in said))
    assert "Undefined variable $undefined" in either.log()
    assert either.call("head") == 1
    assert either.call("later") == 1
    assert eventually(lambda: "said at the end" in either.log())


def test_a_failure_is_the_tasks_own(either: Served) -> None:
    failed = either.failure("fail")
    assert (failed.uri, failed.message) == ("com.example.error.no_shop", "no such shop")
    assert failed.about == {"shop": "x"}
    crashed = either.failure("crash")
    assert (crashed.uri, crashed.message) == (
        "taskbus.error.task_failed", "DomainException: of all things"
    )  # fmt: skip
    assert eventually(lambda: f"{ACT}: DomainException: of all things in" in either.log())
    assert eventually(lambda: f"{ACT}: #0 " in either.log())


@pytest.mark.parametrize(
    ("way", "uri", "words"),
    [
        ("leave", "task_failed", "the task called exit()"),
        ("eat", "task_failed", "Allowed memory size"),
        ("fill", "task_failed", "Allowed memory size"),
        ("burn", "timeout", "Maximum execution time of 1 second exceeded"),
        ("odd", "invalid_result", "the result's args[0]: not a finite number"),
    ],
)
def test_every_end_is_answered(either: Served, way: str, uri: str, words: str) -> None:
    failed = either.failure(way)
    assert failed.uri == f"taskbus.error.{uri}"
    assert words in failed.message
    assert either.call("give", "the next one") == "the next one"


def test_progress_is_told_at_once(either: Served, tmp_path: Path) -> None:
    check_progress(either, tmp_path)


def test_apache(tmp_path: Path) -> None:
    with ExitStack() as stack:
        web = served(stack, apache, secret=True)
        assert web.call("give", [{}, []]) == [{}, []]
        assert web.failure("fail").about == {"shop": "x"}
        assert web.failure("leave").message == "the task called exit()"
        response, _ = web.ask(Authorization="Bearer nothing")
        assert response.status == 401
        check_progress(web, tmp_path)
        assert web.secret
        shutil.copy(web.secret, web.folder / "www/secret")
        web.secret.unlink()
        web.secret.symlink_to(web.folder / "www/secret")
        assert "below the document root" in web.failure("give").message


def check_progress(either: Served, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    told = []

    def progress(fraction: float, message: str) -> None:
        told.append((fraction, message))
        if len(told) == 1:
            pipe.write_text("go on")

    auth = ("Authorization", "Bearer", str(either.secret)) if either.secret else None
    task = TaskInput(ACT, ["step", str(pipe)], progress=progress)
    assert handler(either.url, auth=auth)(task).args == ["go on"]
    assert told == [(0.25, "a quarter"), (1.0, "")]


@pytest.mark.parametrize("way", ["timeout", "cut"])
def test_a_task_whose_caller_has_gone_is_stopped(web: Served, tmp_path: Path, way: str) -> None:
    args = ["hang", str(tmp_path / "ended")]
    auth = ("Authorization", "Bearer", str(web.secret))
    if way == "timeout":
        with pytest.raises(TaskTimeout):
            handler(web.url, 0.3, auth=auth)(TaskInput(ACT, args))
    else:
        leash = Leash()
        told: list[float] = []
        run = handler(web.url, auth=auth)

        def watched(task: TaskInput) -> Any:
            return run(
                TaskInput(ACT, args, progress=lambda *said: told.append(said[0]), leash=task.leash)
            )

        error = ended(watched, leash)
        eventually(lambda: told)
        leash.pull(True)
        assert error() == "taskbus.error.handler_unreachable"
    assert eventually((tmp_path / "ended").exists)


NO_CLASS = (
    "com.example", "com.example.", "com.example.Act", "com.example.a_ct", "com.other.act", "act",
    "com.example.disk", "com.example.disk..get_free_space", "com.example.../act",
    "com.example.ac\0t", "com.example.nothing", "com.example.vendor.x",
)  # fmt: skip


def test_no_other_class_can_be_called(either: Served) -> None:
    for uri in NO_CLASS:
        failed = either.failure(uri=uri)
        assert (failed.uri, failed.about["field"]) == ("taskbus.error.unknown_uri", "uri")
        assert failed.about["remedy"]
    no_task = either.failure(uri="com.example.no_task")
    assert no_task.about["remedy"] == r"let it implement Taskbus\TaskInterface"
    assert "ParseError" in either.failure(uri="com.example.broken").message


def test_who_has_not_the_secret_is_refused(web: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {SECRET}x"},
                    {"Authorization": SECRET}):  # fmt: skip
        response, said = web.ask(body=b'{"uri": "com.example.act"}', **headers)
        assert (response.status, said["error"]) == (401, "taskbus.error.unauthenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert SECRET not in json.dumps(said)
    assert web.secret
    web.secret.chmod(0o604)
    response, said = web.ask(Authorization=f"Bearer {SECRET}")
    assert (response.status, said["error"]) == (500, "taskbus.error.config")
    assert "chmod o=" in said["kwargs"]["remedy"]
    assert str(web.folder) not in json.dumps(said)
    web.secret.chmod(0o600)


def test_without_a_secret_only_programs_of_the_machine_may_call(local: Served) -> None:
    for headers in ({"Host": "example.com"}, {"X_Forwarded_For": "127.0.0.1"}, {"Via": "1.1 x"}):
        response, said = local.ask(body=b'{"uri": "com.example.act"}', **headers)
        assert (response.status, said["error"]) == (403, "taskbus.error.forbidden")


REFUSED: dict[str, tuple[Callable[[Served], Any], int, str]] = {
    "method": (lambda to: to.ask("PUT", Authorization=f"Bearer {SECRET}"), 405, "no_such_method"),
    "no type": (
        lambda to: to.ask(Authorization=f"Bearer {SECRET}", Content_Type="text/plain"),
        415, "unsupported_media",
    ),
    "no JSON": (lambda to: to.ask(body=b"{", Authorization=f"Bearer {SECRET}"),
                400, "invalid_argument"),
    "no object": (lambda to: to.ask(body=b"[]", Authorization=f"Bearer {SECRET}"),
                  400, "invalid_argument"),
    "no list": (
        lambda to: to.ask(
            body=b'{"uri": "com.example.act", "args": {}}', Authorization=f"Bearer {SECRET}"
        ),
        400, "invalid_argument",
    ),
    "too deep": (
        lambda to: to.ask(
            body=b'{"uri": "x", "args": %s%s}' % (b"[" * 600, b"]" * 600),
            Authorization=f"Bearer {SECRET}",
        ),
        400, "invalid_argument",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_call_is_refused(either: Served, name: str) -> None:
    ask, status, uri = REFUSED[name]
    response, said = ask(either)
    assert (response.status, said["error"]) == (status, f"taskbus.error.{uri}")
    assert response.headers["Content-Type"] == "application/json"
    assert said["kwargs"]["remedy"]


def test_statuses(web: Served) -> None:
    for way, status in (("give", 200), ("fail", 422), ("crash", 500), ("leave", 500)):
        body = json.dumps({"uri": ACT, "args": [way]}).encode()
        response, said = web.ask(body=body, Authorization=f"Bearer {SECRET}")
        assert response.status == status
        assert ("error" in said) is (status != 200)
    response, said = web.ask(
        body=json.dumps({"uri": ACT, "args": ["head"]}).encode(), Authorization=f"Bearer {SECRET}"
    )
    assert (response.status, said["args"]) == (200, [1])
    assert "Set-Cookie" not in response.headers


def test_a_call_that_is_too_large_for_php(local: Served) -> None:
    """Which is 8 MiB, unless its settings say otherwise, as those in docs/php.md do."""
    failed = local.failure("give", "x" * 9_000_000)
    assert (failed.uri, failed.about["field"]) == ("taskbus.error.too_large", "Content-Length")
    assert "post_max_size" in failed.about["remedy"]


def test_a_large_call(web: Served) -> None:
    text = "x" * (LARGEST_ANSWER - 100)
    assert web.call("give", text) == text
    assert isinstance(web.failure("give", text + "x" * 200), InvalidResult | TaskFailure)
    too_large = web.failure("give", "x" * 17_000_000)
    assert isinstance(too_large, HttpFailure)
    assert too_large.status == 413


def test_classes_may_be_in_a_namespace_of_their_own_and_the_secret_in_any_header() -> None:
    with ExitStack() as stack:
        web = served(
            stack, nginx, secret=True,
            TASKBUS_NAMESPACE="", TASKBUS_CLASSES=r"Shop\Disk", TASKBUS_HEADER="X-Api-Key",
        )  # fmt: skip
        call = handler(web.url, auth=("X-Api-Key", "", str(web.secret)))
        assert call(TaskInput("get_free_space")).args[0] > 0
        (web.folder / "tasks").rename(web.folder / "elsewhere")
        with pytest.raises(TaskFailure, match="TASKBUS_TASKS: there is no such folder"):
            call(TaskInput("get_free_space"))
