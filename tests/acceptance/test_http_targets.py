"""A running bus whose tasks are services that speak HTTP."""

import queue
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from tests.support.certificate import make_certificate
from tests.support.http_calls import connections
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE
from tests.support.quick import quick_folder
from tests.support.router import Session
from tests.support.services import COMMANDS, service
from tests.support.site import Site, eventually, make_site, running_site
from tests.support.web import as_principal

pytestmark = pytest.mark.acceptance

NAMESPACE = "com.example.test"
ITEM, LATER, NOW, ONE = (f"{NAMESPACE}.{name}" for name in ("item.apple", "later", "now", "one"))


@dataclass
class Target:
    """A service behind TLS that wants to know who calls; what it gets, and what it does."""

    requests: list[Request] = field(default_factory=list)
    gone: "queue.SimpleQueue[bytes]" = field(default_factory=queue.SimpleQueue)
    held: "queue.SimpleQueue[threading.Event]" = field(default_factory=queue.SimpleQueue)

    def __call__(self, request: Request) -> None:
        if request.headers["Authorization"] != "Bearer hush":
            request.reply(401)
        elif b"hold" in request.body:
            self.held.put(go_on := threading.Event())
            assert go_on.wait(PATIENCE)
            request.reply(200, b"{}")
        elif b"hang" in request.body:
            request.close_connection = True
            self.gone.put(request.rfile.read(1))
        elif b"busy" in request.body:
            request.reply(503, Retry_After="1000")
        else:
            request.reply(200, b'{"args": [1]}')


@pytest.fixture(scope="module")
def target() -> Target:
    return Target()


@pytest.fixture(scope="module")
def site(target: Target) -> Iterator[Site]:
    with ExitStack() as stack:
        folder = stack.enter_context(quick_folder())
        certificate = make_certificate(folder)
        url, target.requests = stack.enter_context(serving(target, certificate.server))
        (folder / "secrets").mkdir()
        (folder / "secrets/stock").write_text("hush\n")
        (folder / "secrets/stock").chmod(0o600)
        proved = 'auth = {bearer = "secrets/stock"}, ca = "certificate.pem"'
        services = {kind: stack.enter_context(service(kind)) for kind in COMMANDS}
        entries = "".join(
            f"""
[api."{NAMESPACE}.{kind}.*"]
http = "{at}"
[api."{NAMESPACE}.{kind}.queued.*"]
http = "{at}"
mode = "background"
"""
            for kind, at in services.items()
        )
        entries += f"""
[api."{NAMESPACE}.item.*".http]
url = "{url}/item/{{name}}"
method = "GET"
params = {{format = "short"}}
keep_alive = 60
auth = {{bearer = "secrets/stock"}}
ca = "certificate.pem"
[api."{LATER}"]
http = {{url = "{url}/later", {proved}}}
mode = "background"
retries = 1
[api."{NOW}"]
http = {{url = "{url}/now", {proved}}}
timeout = 1000
[api."{ONE}"]
http = {{url = "{url}/one", connections = 1, waiting = 0, {proved}}}
timeout = 1000
"""
        yield stack.enter_context(running_site(folder, entries=entries))


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


def refusal(operator: Session, uri: str, *args: Any, **kwargs: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        operator.call(uri, *args, **kwargs)
    return caught.value


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_example_services_answer_calls(operator: Session, kind: str) -> None:
    assert operator.call(f"{NAMESPACE}.{kind}.level", "apple") == 7
    taken = operator.call(f"{NAMESPACE}.{kind}.take", "apple", count=2)
    assert (taken.results, taken.kwresults) == ((5,), {"by": None})
    sold_out = refusal(operator, f"{NAMESPACE}.{kind}.take", "pear")
    assert sold_out.error == "com.example.stock.error.sold_out"
    assert sold_out.args == ("only 0 of pear",)
    assert sold_out.kwargs == {"left": 0}
    unknown = refusal(operator, f"{NAMESPACE}.{kind}.weigh", "pear")
    assert unknown.error == "com.example.stock.error.no_such_call"


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_example_services_do_jobs(operator: Session, kind: str) -> None:
    job = operator.call(f"{NAMESPACE}.{kind}.queued.take", "apple")
    taken = operator.call("taskbus.job.wait", job)
    assert (taken.results, taken.kwresults) == ((6,), {"by": job})
    job = operator.call(f"{NAMESPACE}.{kind}.queued.take", "apple", count=8)
    failed = refusal(operator, "taskbus.job.wait", job)
    assert failed.error == "com.example.stock.error.sold_out"


def test_foreground_calls_share_a_connection(operator: Session, target: Target) -> None:
    for size in (1, 2):
        assert operator.call(ITEM, size=size) == 1
    assert operator.call(f"{NAMESPACE}.item.a/b?c") == 1
    first, second, third = [one for one in target.requests if "/item/" in one.path][-3:]
    assert [first.path, third.path] == [
        "/rpc/item/apple?format=short&size=1",
        "/rpc/item/a%2Fb%3Fc?format=short",
    ]
    assert first.headers["Taskbus-Uri"] == ITEM
    assert connections([first, second, third]) == 1


def test_a_job_says_which_it_is(operator: Session, target: Target) -> None:
    job = operator.call("taskbus.job.submit", LATER, ["known"], idempotency_key="order-7")
    assert operator.call("taskbus.job.wait", job) == 1
    headers = next(one for one in target.requests if b"known" in one.body).headers
    assert (headers["Taskbus-Job"], headers["Taskbus-Attempt"]) == (job, "1")
    assert headers["Idempotency-Key"] == "order-7"
    assert headers["Connection"] == "close"


def test_a_job_leaves_a_busy_service_alone(operator: Session) -> None:
    asked = time.time()
    job = operator.call(LATER, "busy")
    found = eventually(
        lambda: (one := operator.call("taskbus.job.get", job))["state"] == "retrying" and one
    )
    assert found["error"]["error"] == "taskbus.error.http.503"
    assert found["error"]["about"]["retry_after"] == 1000
    assert found["due"] >= asked + 1000
    operator.call("taskbus.job.cancel", job)


def test_a_job_that_is_cancelled_hangs_up(operator: Session, target: Target) -> None:
    job = operator.call(LATER, "hang")
    eventually(lambda: any(b"hang" in one.body for one in target.requests))
    operator.call("taskbus.job.cancel", job)
    assert target.gone.get(timeout=PATIENCE) == b""
    assert refusal(operator, "taskbus.job.wait", job).error == "taskbus.error.cancelled"


def test_a_call_whose_client_hangs_up_hangs_up(site: Site, target: Target) -> None:
    credential = as_principal("operator", site.ticket("operator"))
    body = b'{"args": ["hang"]}'
    head = (
        f"POST /v1/call/{NOW} HTTP/1.1\r\nHost: x\r\nAuthorization: {credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as client:
        client.sendall(head.encode() + body)
        eventually(lambda: any("/now" in one.path for one in target.requests))
    assert target.gone.get(timeout=PATIENCE) == b""


def test_a_target_has_so_many_calls_at_a_time(operator: Session, target: Target) -> None:
    end = operator.begin(ONE, "hold", on_progress=print)
    go_on = target.held.get(timeout=PATIENCE)
    busy = refusal(operator, ONE)
    assert busy.error == "taskbus.error.target_busy"
    assert busy.kwargs["remedy"]
    go_on.set()
    end()
    assert operator.call(ONE) == 1


def test_what_an_http_target_needs_is_checked() -> None:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        folder = Path(name)
        entry = f'\n[api."{ONE}".http]\nurl = "https://127.0.0.1/"\n'
        site = make_site(folder, entries=entry + 'auth = {bearer = "secret"}\n')
        line = (folder / "api.toml").read_text().count("\n") - 2

        def said(line: int = line) -> str:
            done = site.taskbus("check")
            assert done.returncode != 0
            assert f"api.toml:{line}: {ONE}: " in done.stderr
            return done.stderr

        assert "secret: the secret cannot be read: No such file" in said()
        (folder / "secret").write_text("hush")
        (folder / "secret").chmod(0o644)
        assert f"chmod 600 {folder}/secret" in said()
        (folder / "secret").chmod(0o600)
        done = site.taskbus("check")
        assert (done.returncode, done.stderr) == (0, "")
        assert "POST https://127.0.0.1/" in done.stdout
        with (folder / "api.toml").open("a") as map_:
            map_.write('ca = "nothing.pem"\n')
        assert "nothing.pem: not a file of CA certificates" in said()
        with (folder / "api.toml").open("a") as map_:
            map_.write("tries = 0\n")
        assert "http.tries: not a count" in said(line + 4)
