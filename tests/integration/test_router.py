"""The router's configuration: who may do what, proved on a real node."""

import http.client
import json
import queue
import socket
import stat
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from taskbus.site.router import TemplateError, render_node
from tests.support.bridge import post
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.raw_wamp import RawCaller, raw_caller
from tests.support.router import (
    NOTIFY_TOPIC,
    Router,
    Session,
    Via,
    joined,
    running_router,
    start_router,
    ticket_of,
)

pytestmark = pytest.mark.integration

ECHO = "com.example.dante.echo"
FULL = "com.example.dante.full"
HELD, LARGE = "com.example.dante.held", "com.example.dante.large"
KEY = "0123456789ab"
CANCELED = "wamp.error.canceled"
SERVED = (
    ECHO,
    "com.example.shop.order",
    "taskbus.job.submit",
    "taskbus.job.submit_many",
    "taskbus.job.chain",
    "taskbus.job.group",
    "taskbus.job.get",
    "taskbus.job.list",
    "taskbus.job.wait",
    "taskbus.job.events",
    "taskbus.job.cancel",
    "taskbus.job.replay",
    "taskbus.job.replay_many",
    "taskbus.job.discard_many",
    "taskbus.control.stop",
)
DENIED = "wamp.error.not_authorized"
JOB_TOPIC = "taskbus.job.01k0000000000000000000000a"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with running_router(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def backend(router: Router) -> Iterator[Session]:
    """A backend that serves all of SERVED."""
    with joined(router, "backend") as session:
        for uri in SERVED:
            session.register(_who, uri)
        session.register(_full, FULL)
        yield session


@pytest.fixture(scope="module")
def browser(router: Router, backend: Session) -> Iterator[Session]:
    with joined(router, "browser", via="websocket") as session:
        yield session


@pytest.fixture(scope="module")
def operator(router: Router, backend: Session) -> Iterator[Session]:
    with joined(router, "operator") as session:
        yield session


def _who(*args: Any, details: Any, **kwargs: Any) -> dict[str, Any]:
    return {
        "args": args,
        "kwargs": kwargs,
        "authid": details.caller_authid,
        "authrole": details.caller_authrole,
        **({"trace": details.transaction_hash} if details.transaction_hash else {}),
    }


def _full(*args: Any, details: Any) -> None:
    raise ApplicationError("com.example.error.full", "disk full", free=3)


# --- joining -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "via", "role"),
    [
        ("control", "socket", "control"),
        ("backend", "socket", "backend"),
        ("operator", "socket", "operator"),
        ("operator", "websocket", "operator"),
        ("browser", "websocket", "browser"),
    ],
)
def test_a_principal_joins_with_its_ticket_and_callees_learn_who_it_is(
    router: Router, backend: Session, principal: str, via: Via, role: str
) -> None:
    with joined(router, principal, via=via) as session:
        told = session.call(ECHO, 1, text="grüße")
    assert told == {
        "args": [1], "kwargs": {"text": "grüße"}, "authid": principal, "authrole": role
    }  # fmt: skip


@pytest.mark.parametrize(
    ("principal", "ticket", "via", "error"),
    [
        (None, "", "socket", "wamp.error.no_auth_method"),
        (None, "", "websocket", "wamp.error.no_auth_method"),
        ("backend", "wrong", "socket", DENIED),
        ("browser", "wrong", "websocket", DENIED),
        ("browser", "", "websocket", DENIED),
        ("nobody", "wrong", "socket", DENIED),
        # It has the form of an access key's id, and there is nobody here to look at keys.
        ("0123456789ab", "wrong", "socket", "wamp.error.authentication_failed"),
        ("0123456789ab", "wrong", "websocket", "wamp.error.authentication_failed"),
        # Each door has its own principals: a backend's ticket is of no use over the network.
        ("browser", None, "socket", DENIED),
        ("backend", None, "websocket", DENIED),
        ("control", None, "websocket", DENIED),
    ],
)
def test_others_are_refused(
    router: Router, principal: str | None, ticket: str | None, via: Via, error: str
) -> None:
    with pytest.raises(ApplicationError) as refusal, joined(router, principal, ticket, via):
        pass
    assert refusal.value.error == error


def test_the_socket_is_for_the_owner_and_the_group_only(router: Router) -> None:
    assert stat.S_IMODE(router.socket.stat().st_mode) == 0o660


# --- calling -------------------------------------------------------------------------------------

CALLABLE = {
    "browser": {
        ECHO,
        "com.example.shop.order",
        "taskbus.job.submit",
        "taskbus.job.get",
        "taskbus.job.list",
        "taskbus.job.wait",
        "taskbus.job.events",
        "taskbus.job.cancel",
        "taskbus.job.replay",
    },
    "operator": set(SERVED),
    "backend": set(SERVED),
}
META = ("wamp.session.list", "wamp.session.count", "wamp.subscription.list")
META_CALLABLE = {
    "browser": set[str](),
    "operator": {"wamp.session.list", "wamp.session.count"},
    "backend": set(META),
}
FORBIDDEN = (
    "com.example.dantes.echo",
    "com.example.unknown.x",
    "crossbar.router.x",
    "wamp.registration.list",
    "wamp.session.kill_by_authid",
)


@pytest.mark.parametrize("role", CALLABLE)
def test_what_a_role_may_call(request: pytest.FixtureRequest, role: str) -> None:
    session: Session = request.getfixturevalue(role)
    asked = (*SERVED, *META, *FORBIDDEN)
    allowed = {uri for uri in asked if _error_of(session.call, uri) != DENIED}
    assert allowed == CALLABLE[role] | META_CALLABLE[role]


def test_what_the_bridge_may_call(router: Router, backend: Session) -> None:
    asked = (*SERVED, *META, *FORBIDDEN)
    answers = {uri: post(router, "/call", {"procedure": uri}) for uri in asked}
    assert {status for status, _ in answers.values()} == {200}
    allowed = {uri for uri, (_, answer) in answers.items() if answer.get("error") != DENIED}
    assert allowed == set(SERVED) - {
        "taskbus.job.replay_many",
        "taskbus.job.discard_many",
        "taskbus.control.stop",
    }


# --- registering, publishing, subscribing --------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "uri", "error"),
    [
        ("backend", "com.example.shop.new", None),
        ("backend", "taskbus.bus.new", None),
        ("backend", "com.example.unknown.new", DENIED),
        ("backend", "taskbus.access.authenticate", DENIED),
        ("backend", "wamp.session.new", "wamp.error.invalid_uri"),
        ("browser", "com.example.shop.other", DENIED),
        ("browser", "taskbus.job.other", DENIED),
        ("operator", "com.example.shop.other", DENIED),
        ("operator", "taskbus.control.other", DENIED),
    ],
)
def test_who_may_register(
    request: pytest.FixtureRequest, role: str, uri: str, error: str | None
) -> None:
    session: Session = request.getfixturevalue(role)
    assert _error_of(session.register, _who, uri) == error


@pytest.mark.parametrize(
    ("role", "topic", "error"),
    [
        ("backend", "com.example.shop.sold", None),
        ("backend", JOB_TOPIC, None),
        ("backend", NOTIFY_TOPIC, None),
        ("backend", "com.example.queue.other", DENIED),
        ("browser", "com.example.shop.sold", DENIED),
        ("browser", JOB_TOPIC, DENIED),
        ("browser", NOTIFY_TOPIC, DENIED),
        ("operator", "com.example.shop.sold", DENIED),
        ("operator", JOB_TOPIC, DENIED),
    ],
)
def test_who_may_publish(
    request: pytest.FixtureRequest, role: str, topic: str, error: str | None
) -> None:
    session: Session = request.getfixturevalue(role)
    assert _error_of(session.publish, topic, 1) == error


@pytest.mark.parametrize(
    ("role", "topic", "match", "error"),
    [
        ("backend", "wamp.subscription.on_create", "exact", None),
        ("backend", "wamp.session.on_leave", "exact", None),
        ("backend", "com.example.", "prefix", DENIED),
        ("browser", JOB_TOPIC, "exact", None),
        ("browser", "taskbus.job.", "prefix", None),
        ("browser", NOTIFY_TOPIC, "exact", None),
        ("browser", "taskbus.", "prefix", DENIED),
        ("browser", "taskbus.bus.state", "exact", DENIED),
        ("browser", "taskbus..x", "wildcard", DENIED),
        ("browser", "com.example.shop.sold", "exact", DENIED),
        ("browser", "wamp.session.on_join", "exact", DENIED),
        ("operator", "taskbus.", "prefix", None),
        ("operator", "com.example.shop.", "prefix", None),
        ("operator", NOTIFY_TOPIC, "exact", None),
        ("operator", "wamp.session.on_join", "exact", None),
        ("operator", "com.example.", "prefix", DENIED),
        ("operator", "wamp.", "prefix", DENIED),
    ],
)
def test_who_may_subscribe(
    request: pytest.FixtureRequest, role: str, topic: str, match: str, error: str | None
) -> None:
    session: Session = request.getfixturevalue(role)
    assert _error_of(session.subscribe, topic, match) == error


def _error_of(action: Any, *args: Any) -> str | None:
    try:
        action(*args)
    except ApplicationError as error:
        return str(error.error)
    return None


# --- the HTTP bridge -----------------------------------------------------------------------------


def test_the_bridge_calls_and_shows_errors_of_the_callee(router: Router, backend: Session) -> None:
    status, answer = post(router, "/call", {"procedure": ECHO, "args": [1], "kwargs": {"a": "ü"}})
    told = {"args": [1], "kwargs": {"a": "ü"}, "authid": None, "authrole": "bridge"}
    assert (status, answer) == (200, {"args": [told]})
    assert post(router, "/call", {"procedure": FULL}) == (
        200, {"error": "com.example.error.full", "args": ["disk full"], "kwargs": {"free": 3}}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [("com.example.shop.sold", True), (NOTIFY_TOPIC, False), (JOB_TOPIC, False)],
)
def test_the_bridge_publishes_under_the_namespaces_only(
    router: Router, backend: Session, topic: str, allowed: bool
) -> None:
    events = backend.subscribe(topic)
    status, answer = post(router, "/publish", {"topic": topic, "args": [1], "kwargs": {"a": 2}})
    assert status == 200
    if allowed:
        assert events.get(timeout=PATIENCE) == ((1,), {"a": 2})
    else:
        assert answer["error"] == DENIED
        backend.call("wamp.session.count")  # anything published would have come before its answer
        with pytest.raises(queue.Empty):
            events.get_nowait()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"secret": "wrong"}, 401),
        ({"key": "wrong"}, 401),
        ({"key": None}, 400),
        ({"signature": None}, 400),
        ({"timestamp": "2020-01-01T00:00:00.000Z"}, 400),
        ({"age": timedelta(seconds=310)}, 400),
        ({"age": timedelta(seconds=200)}, 200),
        ({"body": b'{"procedure":'}, 400),
        ({"body": b"[]"}, 400),
        ({"body": b"{}"}, 400),
        ({"body": b'{"procedure":"' + b"x" * 1024 * 1024 + b'"}'}, 413),
        ({"content_type": "text/plain"}, 400),
    ],
)
@pytest.mark.parametrize("path", ["/call", "/publish"])
def test_only_sound_requests_get_through(
    router: Router, backend: Session, path: str, changes: dict[str, Any], status: int
) -> None:
    body = {"procedure": ECHO, "topic": "com.example.shop.sold"}
    assert post(router, path, body, **changes)[0] == status


# --- what the bus builds on ----------------------------------------------------------------------


def test_a_subscription_is_known_to_a_backend_before_anything_its_subscriber_does_next(
    router: Router, browser: Session
) -> None:
    with joined(router, "control") as control:
        created = control.subscribe("wamp.subscription.on_create")

        def known(details: Any) -> int:
            return created.qsize()

        control.register(known, "com.example.dante.known")
        for number in range(1, 21):
            browser.subscribe(f"taskbus.job.watched{number}")
            assert browser.call("com.example.dante.known") == number
        (_, subscription), _ = created.get_nowait()
    assert subscription["uri"] == "taskbus.job.watched1"
    assert subscription["match"] == "exact"


def test_no_caller_can_cost_a_callee_its_session(router: Router, backend: Session) -> None:
    nested: list[Any] = []
    for _ in range(900):
        nested = [nested]
    status, _ = post(router, "/call", {"procedure": "com.example.shop.order", "args": [nested]})
    assert status == 200
    assert backend.call(ECHO, "still here")["args"] == ["still here"]


@pytest.mark.parametrize("caller", ["browser", "operator"])
def test_nobody_calls_in_the_name_of_others(request: pytest.FixtureRequest, caller: str) -> None:
    session: Session = request.getfixturevalue(caller)
    forged = [{"session": 1, "authid": "control", "authrole": "backend"}]
    told = session.call(ECHO, options=CallOptions(forward_for=forged))
    assert (told["authid"], told["authrole"]) == (caller, caller)


def test_a_calls_trace_travels_as_its_transaction(browser: Session) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01;a=b,c=d"
    assert browser.call(ECHO, options=CallOptions(transaction_hash=trace))["trace"] == trace


def test_cbor_is_not_offered(router: Router) -> None:
    """Its map keys of any type would end the session of a callee that speaks MessagePack."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(router.socket))
        connection.sendall(b"\x7f\xf3\x00\x00")  # 3 is CBOR
        assert connection.recv(4) == b""


# --- every call is answered ----------------------------------------------------------------------


@pytest.fixture
def raw(router: Router, backend: Session) -> Iterator[RawCaller]:
    with raw_caller(router.socket, "operator", ticket_of("operator")) as caller:
        yield caller


@pytest.fixture
def raw_callee(router: Router) -> Iterator[RawCaller]:
    """It serves HELD, and does not hear that a call is cancelled."""
    with raw_caller(router.socket, "backend", ticket_of("backend")) as callee:
        callee.register(HELD)
        yield callee


@pytest.fixture
def held(router: Router) -> "Iterator[tuple[Session, queue.SimpleQueue[Any]]]":
    """A callee that answers no call of HELD until it is cancelled, and what has come to it."""
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def hold(details: Any) -> "Deferred[None]":
        came.put(details)
        return Deferred()

    def large(details: Any) -> str:
        came.put(details)
        return "x" * 1_000_000

    with joined(router, "backend") as callee:
        callee.register(hold, HELD)
        callee.register(large, LARGE)
        yield callee, came


@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait"])
def test_a_cancelled_call_is_answered_once(
    raw: RawCaller, held: "tuple[Session, queue.SimpleQueue[Any]]", mode: str
) -> None:
    raw.send(HELD)
    held[1].get(timeout=PATIENCE)
    assert raw.cancel(mode)[4] == CANCELED
    held[0].leave()
    assert raw.call(ECHO)[0]


@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait"])
def test_a_cancelled_call_is_answered_whose_callee_cannot_be_told(
    raw: RawCaller, raw_callee: RawCaller, mode: str
) -> None:
    raw.send(HELD)
    number = raw_callee.take()
    assert raw.cancel(mode)[4] == CANCELED
    raw_callee.give(number)
    assert raw_callee.call(ECHO)[0]
    assert raw.call(ECHO)[0]


def test_a_callee_may_answer_who_has_cancelled_and_left(
    router: Router, raw: RawCaller, raw_callee: RawCaller
) -> None:
    raw.send(HELD)
    number = raw_callee.take()
    raw.cancel()
    raw.leave()
    raw_callee.give(number)
    assert raw_callee.call(ECHO)[0]
    assert not any("INTERNAL ERROR" in line for line in router.log)


@pytest.mark.parametrize("is_left", [True, False])
def test_while_a_key_is_looked_at_its_owner_may_leave_or_call_again(
    router: Router, held: "tuple[Session, queue.SimpleQueue[Any]]", is_left: bool
) -> None:
    """Who has left has not called; what is sent twice is called once."""
    _, came = held
    allowed = {"allow": True, "disclose": True, "cache": False}
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def decide(*_: Any, details: Any) -> "Deferred[dict[str, bool]]":
        decision: Deferred[dict[str, bool]] = Deferred()
        asked.put(decision)
        return decision

    def let_in(*_: Any, details: Any) -> dict[str, Any]:
        return {"authid": KEY, "role": "key", "extra": {}}

    with joined(router, "control") as control:
        control.register(let_in, "taskbus.access.authenticate")
        control.register(decide, "taskbus.access.decide")
        with raw_caller(router.socket, KEY, "its ticket") as caller:
            caller.send(HELD)
            caller.repeat(HELD)
            decisions = [asked.get(timeout=PATIENCE) for _ in range(2)]
            if is_left:
                caller.leave()
            for decision in decisions:
                reactor.callFromThread(decision.callback, allowed)
            control.call(LARGE)
    called = [came.get(timeout=PATIENCE).registration.procedure for _ in range(came.qsize())]
    assert called == ([LARGE] if is_left else [HELD, LARGE])


def test_a_call_whose_time_is_over_is_answered_unless_it_was_cancelled(
    raw: RawCaller, held: "tuple[Session, queue.SimpleQueue[Any]]"
) -> None:
    raw.send(HELD, options='{"timeout":1}')
    held[1].get(timeout=PATIENCE)
    raw.cancel("skip")
    done, answer = raw.call(HELD, options={"timeout": 1})
    assert (done, answer[0]) == (False, CANCELED)


def test_a_call_that_is_sent_twice_ends_its_session(
    raw: RawCaller, held: "tuple[Session, queue.SimpleQueue[Any]]"
) -> None:
    raw.send(HELD)
    raw.repeat(HELD)
    raw.await_end()
    assert held[1].get(timeout=PATIENCE)
    assert held[1].empty()


def test_all_hear_of_a_callees_end_though_one_cannot_be_told(
    router: Router, backend: Session, held: "tuple[Session, queue.SimpleQueue[Any]]"
) -> None:
    callee, came = held
    with (
        joined(router, "browser", via="websocket") as deaf,
        joined(router, "operator") as other,
    ):
        deaf.read_no_more()
        # More than the buffers of both sides hold: the router cannot finish with it.
        for _ in range(20):
            deaf.begin(LARGE, on_progress=print)
            came.get(timeout=PATIENCE)
        callee.call(ECHO)
        deaf.close_in_call(HELD)
        came.get(timeout=PATIENCE)
        answer = other.begin(HELD, on_progress=print)
        came.get(timeout=PATIENCE)
        callee.leave()
        with pytest.raises(ApplicationError, match="callee disconnected"):
            answer()
        deaf.abort()
    with joined(router, "backend") as following:
        following.register(_who, HELD)


# --- pages, starting, stopping -------------------------------------------------------------------


def test_the_start_page_is_served_beside_the_services(router: Router) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=PATIENCE)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == 200
    assert response.read() == (REPOSITORY / "crossbar/web/index.html").read_bytes()
    connection.close()


def test_a_node_starts_again_after_a_kill_and_leaves_nothing_behind_after_a_stop(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    first = start_router(folder)
    with pytest.raises(RuntimeError, match="already running"):
        start_router(folder)
    first.process.kill()
    first.process.wait()
    # As if the worker, too, had had no chance to clean up, and another process had its number.
    first.socket.touch()
    (folder / "node.pid").write_text(json.dumps({"pid": 1}))
    second = start_router(folder)
    assert second.stop() == 1  # Crossbar calls a stop by SIGTERM not clean
    assert not second.socket.exists()
    assert not (folder / "node.pid").exists()


# --- the template --------------------------------------------------------------------------------


def test_a_template_is_filled_in() -> None:
    template = (
        '{"port": "${port}", "url": "http://${host}:${port}/", "n": [1, null],'
        ' "permissions": [{"uri": "${namespace}.", "to": "${host}"}, {"uri": "fixed"}]}'
    )
    values: dict[str, str | int] = {"port": 9080, "host": 'a"b'}
    assert json.loads(render_node(template, values, ["com.a", "com.b"])) == {
        "port": 9080,
        "url": 'http://a"b:9080/',
        "n": [1, None],
        "permissions": [
            {"uri": "com.a.", "to": 'a"b'},
            {"uri": "com.b.", "to": 'a"b'},
            {"uri": "fixed"},
        ],
    }


def test_a_value_is_not_a_template() -> None:
    values = {"a": "${b}", "b": "no"}
    assert json.loads(render_node('{"x": "-${a}-"}', values, [])) == {"x": "-${b}-"}


@pytest.mark.parametrize(
    ("template", "namespaces", "problem"),
    [
        ('{"a": [{"b": "${nope}"}]}', [], r"node\.a\[0\]\.b: .*\$\{nope\}"),
        ('{"a": "${namespace}"}', ["com.a"], r"\$\{namespace\}"),
        ("{", [], "not JSON"),
        ("{}", ["com.a."], "com.a."),
        ("{}", [""], "namespace"),
        ("{}", ["com.*"], "namespace"),
        ("{}", ["taskbus"], "reserved"),
        ("{}", ["taskbus.control"], "reserved"),
        ("{}", ["wamp"], "reserved"),
    ],
)
def test_a_mistake_is_named(template: str, namespaces: list[str], problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        render_node(template, {}, namespaces)
