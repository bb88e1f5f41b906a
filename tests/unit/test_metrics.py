"""What the bus tells those who watch it: ``/metrics``, ``/healthz``, ``/readyz``."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from autobahn.twisted.wamp import Session
from autobahn.wamp.exception import ApplicationError
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from taskbus.adapter.host import Programs
from taskbus.adapter.process import Presence
from taskbus.core.tally import BOUNDS, Tally, tallied
from taskbus.gateway import health, metrics
from taskbus.gateway.own import Own
from taskbus.gateway.prometheus import GAUGE, Family, Sample, exposition
from taskbus.gateway.route import Answer, Bus, Handler, Headers, Request
from tests.support.beanstalkd import running_beanstalkd

STATUS = {
    "followers": 2,
    "jobs": {"queued": 3, "failed": 0},
    "queue": {"ready": 3, "reserved": 0, "delayed": 0, "buried": 1},
    "queues": {"default": {"ready": 3, "reserved": 0, "delayed": 0, "buried": 1}},
}
UP = dict.fromkeys(("router", "control", "store", "queue", "workers"), True)


def read(text: bytes) -> dict[str, Metric]:
    return {one.name: one for one in text_string_to_metric_families(text.decode())}


def values(family: Metric, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in family.samples}


class Answering:
    """A bus, or a session, that answers."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.calls: list[str] = []

    def call(self, uri: str, /, *_args: Any, **_kwargs: Any) -> "Deferred[Any]":
        self.calls.append(uri)
        answer = self.answers.get(uri, ApplicationError("wamp.error.no_such_procedure"))
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def is_attached(self) -> bool:
        return True


def own(**answers: Any) -> tuple[Own, Answering]:
    """The gateway's own session; names with _ for dots."""
    session = Answering({name.replace("_", "."): answers[name] for name in answers})
    made = Own()
    made.session = cast("Session", session)
    return made, session


def asked(handler: Handler, client: str = "127.0.0.1", bus: Any = None, **sent: str) -> Answer:
    headers = Headers({"Host": ["127.0.0.1:9080"], **{name: [text] for name, text in sent.items()}})
    request = Request("1", "GET", "/", {}, {}, headers, b"", client)
    answer = Deferred.fromCoroutine(
        cast("Any", handler(request, cast("Bus", bus or Answering({}))))
    )
    results: list[Any] = []
    answer.addBoth(results.append)
    [result] = results
    if isinstance(result, Answer):
        return result
    raise result.value


# --- the format ----------------------------------------------------------------------------------


def test_prometheus_reads_what_is_written() -> None:
    labels = {"name": 'a"b\\c\nd é', "other": ""}
    text = exposition(
        [
            Family("a_bytes", GAUGE, "back\\slash\nand line", [Sample(labels, 0.1)]),
            Family("b", GAUGE, "none", []),
            Family("c", GAUGE, "plain", [Sample({}, 12345678901234567890)]),
        ]
    )
    found = read(text)
    [sample] = found["a_bytes"].samples
    assert (sample.labels, sample.value) == (labels, 0.1)
    assert found["a_bytes"].documentation == "back\\slash\nand line"
    assert found["b"].samples == []
    assert found["c"].samples[0].value == 12345678901234567890


def host(count: Callable[[Tally], None] = lambda _: None) -> metrics.Host:
    told: list[Any] = []
    tally = Tally(lambda: 0.0, told.append)
    count(tally)
    tally.save()
    return metrics.Host(
        {"worker": (2, 1)},
        {"control": 4096},
        tallied({**told[0], "bounds": list(BOUNDS)} if told else {}),
    )


def handler(
    own: Own,
    look: Callable[[], metrics.Host] = host,
    parts: Mapping[str, bool] = UP,
    is_open: bool = False,
    sources: Any = (),
) -> Handler:
    [route] = metrics.routes(own, look, lambda: succeed(parts), is_open, sources)
    assert (route.method, route.path) == ("GET", "/metrics")
    return route.handler


def test_everything_is_told() -> None:
    def count(tally: Tally) -> None:
        tally.attempt("com.x", "succeeded", 0.02, 0.3)
        tally.attempt("com.x", "failed", 0.02, 3000.0)
        tally.call("com.y.*", "succeeded", 0.3)

    made, _ = own(wamp_session_count=7)
    bus = Answering({"taskbus.bus.status": STATUS})
    answer = asked(handler(made, lambda: host(count)), bus=bus)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = read(answer.body)
    assert values(found["taskbus_queue_entries"], "state") == STATUS["queue"]
    assert values(found["taskbus_jobs"], "state") == STATUS["jobs"]
    assert values(found["taskbus_up"], "part") == dict.fromkeys(UP, 1)
    assert found["taskbus_followers"].samples[0].value == 2
    assert values(found["taskbus_workers"], "pool") == {"worker": 2}
    assert values(found["taskbus_workers_ready"], "pool") == {"worker": 1}
    assert found["taskbus_router_sessions"].samples[0].value == 7
    memory = found["taskbus_process_resident_memory_bytes"]
    assert values(memory, "program") == {"control": 4096}
    assert values(found["taskbus_attempts"], "outcome") == {"succeeded": 1, "failed": 1}
    assert values(found["taskbus_calls"], "task") == {"com.y.*": 1}
    took = found["taskbus_attempt_seconds"]
    assert took.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in took.samples if s.name.endswith("_bucket")}
    assert (buckets["0.25"], buckets["0.5"], buckets["1800"], buckets["+Inf"]) == (0, 1, 1, 2)
    ends = {s.name.rpartition("_")[2]: s.value for s in took.samples[-2:]}
    assert ends == {"sum": 3000.3, "count": 2}


def test_others_may_add_what_they_count() -> None:
    async def source() -> list[Family]:
        return [Family("taskbus_webhooks", GAUGE, "Endpoints", [Sample({}, 3)])]

    made, _ = own(wamp_session_count=7)
    bus = Answering({"taskbus.bus.status": STATUS})
    found = read(asked(handler(made, sources=[source]), bus=bus).body)
    assert found["taskbus_webhooks"].samples[0].value == 3


def test_endpoints_of_webhooks_are_told_by_state() -> None:
    endpoints = [
        {"disabled": None, "failing": None},
        {"disabled": None, "failing": {"failures": 3}},
        {"disabled": {"why": "gone"}, "failing": {"failures": 9}},
        {"disabled": {"why": "gone"}, "failing": None},
    ]
    made, session = own(taskbus_hook_list=endpoints, wamp_session_count=7)
    bus = Answering({"taskbus.bus.status": STATUS})
    tell = handler(made, sources=[partial(metrics.webhooks, made)])
    found = read(asked(tell, bus=bus).body)["taskbus_webhook_endpoints"]
    assert values(found, "state") == {"ok": 1, "failing": 1, "disabled": 2}
    del session.answers["taskbus.hook.list"]
    assert read(asked(tell, bus=bus).body)["taskbus_webhook_endpoints"].samples == []


def test_what_is_away_is_told_and_keeps_nothing_back() -> None:
    away = ApplicationError("taskbus.error.store_unavailable", "locked")
    made, _ = own(wamp_session_count=ApplicationError("wamp.error.not_authorized"))
    bus = Answering({"taskbus.bus.status": away})
    found = read(asked(handler(made, parts=UP | {"store": False}), bus=bus).body)
    assert found["taskbus_jobs"].samples == []
    assert found["taskbus_router_sessions"].samples == []
    assert values(found["taskbus_up"], "part")["store"] == 0
    assert values(found["taskbus_workers"], "pool") == {"worker": 2}


@pytest.mark.parametrize(
    ("client", "is_open", "is_free"),
    [
        ("127.0.0.1", True, True),
        ("127.9.9.9", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("127.0.0.1", False, False),
        ("10.0.0.1", True, False),
        ("::ffff:10.0.0.1", True, False),
        ("", True, False),
        ("localhost", True, False),
    ],
)
def test_who_need_not_show_a_key(client: str, is_open: bool, is_free: bool) -> None:
    made, _ = own(taskbus_bus_status=STATUS, wamp_session_count=7)
    nobody = Answering({"taskbus.bus.status": ApplicationError("taskbus.error.unauthenticated")})
    tell = handler(made, is_open=is_open)
    if is_free:
        assert asked(tell, client, nobody).status == 200
        assert nobody.calls == []
    else:
        with pytest.raises(ApplicationError, match="unauthenticated"):
            asked(tell, client, nobody)


@pytest.mark.parametrize(
    "sent", [{"Origin": "https://example.com"}, {"Host": "rebound.example.com"}, {"Host": "[::1"}]
)
def test_a_page_on_this_machine_has_to_show_a_key(sent: dict[str, str]) -> None:
    made, _ = own(taskbus_bus_status=STATUS, wamp_session_count=7)
    nobody = Answering({"taskbus.bus.status": ApplicationError("taskbus.error.unauthenticated")})
    with pytest.raises(ApplicationError, match="unauthenticated"):
        asked(handler(made, is_open=True), "127.0.0.1", nobody, **sent)


# --- health --------------------------------------------------------------------------------------


class Asked:
    """The two routes, on a clock that stands still."""

    def __init__(self, own: Own, has_workers: Callable[[], bool] = lambda: True) -> None:
        self.clock = Clock()
        self.readiness = health.Readiness(self.clock, own, has_workers)
        alive, ready = health.routes(self.readiness)
        assert (alive.path, ready.path) == ("/healthz", "/readyz")
        assert alive.public
        assert ready.public
        self.alive, self.ready = alive.handler, ready.handler


def test_who_lives_says_so_without_asking_anybody() -> None:
    made, session = own()
    assert asked(Asked(made).alive) == Answer(200, {"status": "ok"}, {"Cache-Control": "no-store"})
    assert session.calls == []


def test_a_bus_that_works_is_ready() -> None:
    made, _ = own(taskbus_bus_ready={"store": True, "queue": True})
    answer = asked(Asked(made).ready)
    assert (answer.status, answer.body["ready"]) == (200, True)
    assert answer.body["parts"] == dict.fromkeys(UP, "ok")


@pytest.mark.parametrize("part", ["store", "queue", "workers", "control", "router"])
def test_a_part_that_is_missing_is_named(part: str) -> None:
    made, _ = own(taskbus_bus_ready={"store": part != "store", "queue": part != "queue"})
    if part == "control":
        made, _ = own()
    elif part == "router":
        made.session = None
    answer = asked(Asked(made, lambda: part != "workers").ready)
    assert (answer.status, answer.body["ready"]) == (503, False)
    # Of what stands behind it nothing is known.
    behind = {"control": ("store", "queue"), "router": ("control", "store", "queue")}
    down = {name for name, state in answer.body["parts"].items() if state == "down"}
    assert down == {part, *behind.get(part, ())}


def test_a_control_that_hangs_is_down() -> None:
    made, _ = own(taskbus_bus_ready=Deferred())
    site = Asked(made)
    looking = site.readiness.look()
    found: list[Any] = []
    looking.addCallback(found.append)
    assert found == []
    site.clock.advance(3.0)
    assert found == [UP | {"control": False, "store": False, "queue": False}]


def test_many_who_ask_cost_one_look_a_second() -> None:
    answer: Deferred[Any] = Deferred()
    made, session = own(taskbus_bus_ready=answer)
    site = Asked(made)
    found: list[Any] = []
    waiting = [site.readiness.look().addBoth(found.append) for _ in range(3)]
    # One of them hangs up.
    waiting[0].cancel()
    answer.callback({"store": True, "queue": True})
    site.readiness.look().addBoth(found.append)
    assert found[1:] == [UP] * 3
    assert len(session.calls) == 1
    session.answers["taskbus.bus.ready"] = {"store": False, "queue": True}
    site.clock.advance(1.0)
    assert asked(site.ready).status == 503
    assert len(session.calls) == 2


# --- the host ------------------------------------------------------------------------------------


def test_programs_are_found_by_what_they_hold(tmp_path: Path) -> None:
    names = ["worker-00", "worker-01"]
    with running_beanstalkd(tmp_path) as server:
        sockets = {"beanstalkd": Path(server.address), "router": tmp_path / "none"}
        programs = Programs(tmp_path, names, sockets, {"worker": names})
        assert programs.workers() == {"worker": (2, 0)}
        presence = Presence(tmp_path, "worker-01")
        presence.hold()
        assert programs.workers() == {"worker": (2, 1)}
        memory = programs.memory()
        presence.drop()
    assert memory.keys() == {"worker-01", "beanstalkd"}
    assert 1_000_000 < memory["beanstalkd"] < memory["worker-01"]
