"""Webhooks of a running bus, as their receivers see them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions
from standardwebhooks import WebhookVerificationError

from tests.support.access_keys import new_key
from tests.support.processes import PATIENCE
from tests.support.quick import quick_folder
from tests.support.receiver import Receiver, answering, receiving, verified
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site
from tests.support.web import Client

pytestmark = pytest.mark.acceptance

ADD, FAIL, INSIDE = "com.example.t.add", "com.example.t.fail", "com.example.t.inside"
SETTINGS = """
[webhooks]
exposed = ["com.example.shop.*", "com.example.t.news.*", "job.*", "taskbus.webhook.disabled"]
allow = ["127.0.0.0/8"]
timeout = 2
"""
ENTRIES = f"""
[api."{ADD}"]
python = "tests.support.tasks:add"
mode = "background"
[api."{FAIL}"]
python = "tests.support.tasks:fail"
mode = "background"
[api."{INSIDE}"]
python = "tests.support.tasks:Echo"
mode = "background"
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        quick_folder() as folder,
        running_site(folder, settings=SETTINGS, entries=ENTRIES) as up,
    ):
        yield up


@pytest.fixture(scope="module")
def receiver(site: Site) -> Iterator[Receiver]:
    with receiving() as up:
        yield up


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


def put(session: Session, client: str, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = session.call("taskbus.hook.put", client, **options)
    return told


def publish(session: Session, topic: str, data: Any = None, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = session.call("taskbus.hook.publish", topic, data, **options)
    return told


def ended(session: Session, client: str, job: str, state: str = "succeeded") -> dict[str, Any]:
    """The delivery, once it is so far."""

    def look() -> Any:
        found = session.call("taskbus.hook.delivery", client, job)
        return found["state"] == state and found

    told: dict[str, Any] = eventually(look)
    return told


def refusal(session: Session, uri: str, *args: Any, **kwargs: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        session.call(uri, *args, **kwargs)
    return caught.value


def test_a_delivery_is_signed_and_kept(session: Session, receiver: Receiver) -> None:
    url = receiver.at("signed", answering(200, b"thanks", Content_Type="text/plain"))
    made = put(session, "signed", url=url, topics=["com.example.shop.paid"])
    assert made["new"] is True
    assert made["disabled"] is None
    options = CallOptions(transaction_hash=f"00-{'a' * 32}-{'b' * 16}-01")
    data = {"order": 7, "name": "José"}
    sent = publish(session, "com.example.shop.paid", data, options=options)
    [job] = sent["deliveries"]
    told = ended(session, "signed", job)
    [request] = receiver.requests("signed")
    event = verified(request, made["secret"])
    assert (event["type"], event["data"]) == ("com.example.shop.paid", data)
    assert event["timestamp"].endswith("Z")
    assert request.headers["webhook-id"] == sent["id"] == told["event"]
    assert request.headers["content-type"] == "application/json"
    assert request.headers["traceparent"].split("-")[1] == "a" * 32
    [attempt] = told["attempts"]
    assert (attempt["attempt"], attempt["status"], attempt["response"]) == (1, 200, "thanks")
    assert attempt["ms"] >= 0
    # The secret is in no job, no journal and no answer any more.
    seen = [
        session.call("taskbus.job.get", job), session.call("taskbus.job.events", job),
        session.call("taskbus.hook.get", "signed"), session.call("taskbus.hook.list"),
    ]  # fmt: skip
    assert made["secret"] not in json.dumps(seen)


def test_registering_again_changes_nothing(session: Session, receiver: Receiver) -> None:
    options = {"url": receiver.at("again"), "topics": ["com.example.shop.again"]}
    first = put(session, "again", **options)
    second = put(session, "again", **options)
    assert second["new"] is False
    assert "secret" not in second
    assert {**first, "new": False} == {**second, "secret": first["secret"]}
    third = put(session, "again", **options | {"filter": {"kind": "big"}})
    assert (third["new"], third["filter"]) == (False, {"kind": "big"})
    assert third["updated"] > first["updated"]
    # And the secret is still the same.
    publish(session, "com.example.shop.again", {"kind": "small"})
    publish(session, "com.example.shop.again", {"kind": "big"})
    [event] = receiver.await_events("again")
    assert event["data"] == {"kind": "big"}
    verified(receiver.requests("again")[0], first["secret"])
    session.call("taskbus.hook.delete", "again")
    assert refusal(session, "taskbus.hook.get", "again").error == "taskbus.error.hook_not_found"
    assert publish(session, "com.example.shop.again", {"kind": "big"})["deliveries"] == []


def test_each_endpoint_hears_what_it_wants(session: Session, receiver: Receiver) -> None:
    for client, topics in {
        "all": ["com.example.shop.fan.*"],
        "one": ["com.example.shop.fan.a", "com.example.shop.fan.c"],
        "none": ["com.example.shop.other"],
    }.items():
        put(session, f"fan-{client}", url=receiver.at(f"fan-{client}"), topics=topics)
    sent = [publish(session, f"com.example.shop.fan.{name}") for name in "abc"]
    assert [len(one["deliveries"]) for one in sent] == [2, 1, 2]
    assert {one["type"][-1] for one in receiver.await_events("fan-all", 3)} == set("abc")
    assert {one["type"][-1] for one in receiver.await_events("fan-one", 2)} == set("ac")
    assert receiver.requests("fan-none") == []


def test_an_event_with_an_id_is_sent_once(session: Session, receiver: Receiver) -> None:
    put(session, "once", url=receiver.at("once"), topics=["com.example.shop.once"])
    one, other = (publish(session, "com.example.shop.once", {"n": 1}, id="o-1") for _ in range(2))
    assert one == other
    receiver.await_events("once")
    error = refusal(session, "taskbus.hook.publish", "com.example.shop.once", {"n": 2}, id="o-1")
    assert error.error == "taskbus.error.idempotency_mismatch"
    assert [one.headers["webhook-id"] for one in receiver.requests("once")] == ["o-1"]


def test_the_end_of_a_job_is_an_event(site: Site, session: Session, receiver: Receiver) -> None:
    put(session, "ends", url=receiver.at("ends"), topics=[f"job.failed.{FAIL}", "job.succeeded.*"])
    good = session.call("taskbus.job.submit", ADD, [1])
    [event] = receiver.await_events("ends")
    assert event["type"] == "job.succeeded"
    assert event["data"] == {"job": good, "uri": ADD, "state": "succeeded", "attempt": 1}
    # While control is away, it goes on where it was.
    stopped = site.supervisorctl("stop", "control")
    assert "control: stopped" in stopped.stdout, stopped.stderr
    bad = session.call(FAIL)
    site.supervisorctl("start", "control")
    event = receiver.await_events("ends", 2)[1]
    assert event["type"] == "job.failed"
    assert event["data"]["job"] == bad
    assert event["data"]["error"] == {"error": "com.example.error.asked", "message": "as asked"}
    ids = [one.headers["webhook-id"] for one in receiver.requests("ends")]
    assert [one.split("_")[1] for one in ids] == [good, bad]
    site.await_ready()
    session.call("taskbus.hook.delete", "ends")


def test_a_failure_is_tried_again(session: Session, receiver: Receiver) -> None:
    answers = [500]

    def answer(request: Any) -> None:
        request.reply(answers.pop() if answers else 200, b"oh")

    put(session, "flaky", url=receiver.at("flaky", answer), topics=["com.example.shop.flaky"])
    [job] = publish(session, "com.example.shop.flaky")["deliveries"]
    told = ended(session, "flaky", job)
    assert [one["status"] for one in told["attempts"]] == [500, 200]
    first, second = receiver.requests("flaky")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_a_redirect_is_not_followed(session: Session, receiver: Receiver) -> None:
    target = receiver.at("secret")
    url = receiver.at("redirect", answering(307, Location=target))
    put(session, "redirect", url=url, topics=["com.example.shop.redirect"])
    [job] = publish(session, "com.example.shop.redirect")["deliveries"]
    told = ended(session, "redirect", job, "retrying")
    assert told["attempts"][0]["status"] == 307
    assert told["error"]["error"] == "taskbus.error.webhook_failed"
    assert receiver.requests("secret") == []


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]:1/", "https://0xa000001/"]
)
def test_nothing_goes_where_only_the_bus_can_reach(session: Session, url: str) -> None:
    put(session, "inside", url=url, topics=["com.example.shop.ssrf"])
    [job] = publish(session, "com.example.shop.ssrf")["deliveries"]
    told = ended(session, "inside", job, "retrying")
    assert told["error"]["error"] == "taskbus.error.address_forbidden"
    assert "status" not in told["attempts"][0]
    session.call("taskbus.hook.delete", "inside")


def test_a_gone_endpoint_is_disabled_and_that_is_told(session: Session, receiver: Receiver) -> None:
    heard = session.subscribe("taskbus.webhook.disabled")
    put(session, "watcher", url=receiver.at("watcher"), topics=["taskbus.webhook.disabled"])
    url = receiver.at("gone", answering(410))
    put(session, "gone", url=url, topics=["com.example.shop.gone"])
    [job] = publish(session, "com.example.shop.gone")["deliveries"]
    ended(session, "gone", job, "failed")
    args, _ = heard.get(timeout=PATIENCE)
    assert (args[0]["client"], args[0]["reason"]) == ("gone", "it answered HTTP 410")
    assert receiver.await_events("watcher")[0]["data"]["client"] == "gone"
    assert session.call("taskbus.hook.get", "gone")["disabled"]["reason"] == "it answered HTTP 410"
    assert publish(session, "com.example.shop.gone")["deliveries"] == []
    # It comes back by registering again, and gets what it has missed.
    receiver.behaviours.pop("gone")
    assert put(session, "gone", url=url, topics=["com.example.shop.gone"])["disabled"] is None
    assert session.call("taskbus.hook.replay", "gone", since=0) == [job]
    assert len(ended(session, "gone", job)["attempts"]) == 2


def test_who_hangs_delays_nobody_else(session: Session, receiver: Receiver) -> None:
    for nth in range(20):
        behaviour = receiver.hang if nth % 10 == 0 else None
        url = receiver.at(f"many-{nth}", behaviour)
        put(session, f"many-{nth}", url=url, topics=["com.example.shop.many"])
    for number in range(5):
        assert len(publish(session, "com.example.shop.many", {"n": number})["deliveries"]) == 20
    good = [nth for nth in range(20) if nth % 10]
    for nth in good:
        events = receiver.await_events(f"many-{nth}", 5)
        assert {one["data"]["n"] for one in events} == set(range(5))
    # What is left for those that hang waits for them, and has no worker.
    eventually(lambda: session.call("taskbus.hook.get", "many-0")["failing"])
    eventually(
        lambda: {
            one["state"] for one in session.call("taskbus.hook.deliveries", "many-0")
        } <= {"waiting", "retrying"}
    )  # fmt: skip
    for nth in range(20):
        session.call("taskbus.hook.delete", f"many-{nth}")


def test_a_secret_is_replaced(session: Session, receiver: Receiver) -> None:
    old = put(session, "rotating", url=receiver.at("rotating"), topics=["com.example.shop.r"])
    new = session.call("taskbus.hook.rotate", "rotating")
    assert new["secret"] != old["secret"]
    publish(session, "com.example.shop.r")
    receiver.await_events("rotating")
    [both] = receiver.requests("rotating")
    for secret in (old["secret"], new["secret"]):
        verified(both, secret)
    newest = session.call("taskbus.hook.rotate", "rotating", overlap=0)["secret"]

    def look() -> bool:
        publish(session, "com.example.shop.r")
        latest = receiver.requests("rotating")[-1]
        return len(latest.headers["webhook-signature"].split()) == 1

    eventually(look)
    last = receiver.requests("rotating")[-1]
    verified(last, newest)
    with pytest.raises(WebhookVerificationError):
        verified(last, new["secret"])


def test_order(session: Session, receiver: Receiver) -> None:
    put(session, "ordered", url=receiver.at("ordered", receiver.hang), ordered=True,
        topics=["com.example.shop.in_order"])  # fmt: skip
    jobs = [
        publish(session, "com.example.shop.in_order", {"n": n})["deliveries"][0] for n in range(4)
    ]
    receiver.await_events("ordered")
    states = [session.call("taskbus.job.get", job)["state"] for job in jobs]
    assert states[1:] == ["waiting"] * 3
    receiver.behaviours["ordered"] = answering(200)
    session.call("taskbus.job.cancel", jobs[0])
    ended(session, "ordered", jobs[3])
    told = [json.loads(one.body)["data"]["n"] for one in receiver.requests("ordered")]
    assert told == [0, 1, 2, 3]


def test_a_wamp_event_is_delivered(site: Site, session: Session, receiver: Receiver) -> None:
    put(session, "wamp", url=receiver.at("wamp"), topics=["com.example.t.news.*"])
    with site.joined("backend") as backend:

        def look() -> bool:
            # Control listens a moment after the endpoint came.
            # Autobahn would take the keyword for its own, and end control's session.
            backend.publish("com.example.t.news.a", 1, fun=2)
            return bool(receiver.requests("wamp"))

        eventually(look)
    [event] = receiver.await_events("wamp")
    assert event["type"] == "com.example.t.news.a"
    assert event["data"] == {"args": [1], "kwargs": {"fun": 2}}
    session.call("taskbus.hook.delete", "wamp")


def test_a_subscriber_inside(session: Session) -> None:
    put(session, "inner", call=INSIDE, topics=["com.example.shop.inner", "job.succeeded.*"])
    sent = publish(session, "com.example.shop.inner", {"n": 1})
    [job] = sent["deliveries"]
    session.call("taskbus.job.wait", job)
    assert session.call("taskbus.job.get", job)["args"] == [
        {"id": sent["id"], "type": "com.example.shop.inner", "data": {"n": 1}}
    ]
    # Its own end is no news to it; another job's is.
    other = session.call("taskbus.job.submit", ADD, [1])
    found = eventually(
        lambda: [
            one for one in session.call("taskbus.hook.deliveries", "inner")
            if one["type"] == "job.succeeded"
        ]
    )  # fmt: skip
    assert [one["event"].split("_")[1] for one in found] == [other]
    session.call("taskbus.hook.delete", "inner")


def test_a_ping(session: Session, receiver: Receiver) -> None:
    url = receiver.at("pinged", answering(500))
    put(session, "pinged", url=url, topics=["com.example.shop.x"])
    [job] = session.call("taskbus.hook.ping", "pinged")["deliveries"]
    told = ended(session, "pinged", job, "failed")
    assert (told["type"], len(told["attempts"])) == ("taskbus.webhook.ping", 1)
    receiver.behaviours["pinged"] = answering(202)
    assert session.call("taskbus.hook.replay", "pinged", job=job) == [job]
    ended(session, "pinged", job)
    assert refusal(session, "taskbus.hook.replay", "pinged", job=job).error == (
        "taskbus.error.not_replayable"
    )


def test_what_is_refused(session: Session, receiver: Receiver) -> None:
    url, topics = receiver.at("x"), ["com.example.shop.x"]
    for client, options, error in (
        ("a b", {"url": url, "topics": topics}, "invalid_argument"),
        ("x", {"topics": topics}, "invalid_argument"),
        ("x", {"url": url, "call": ADD, "topics": topics}, "invalid_argument"),
        ("x", {"url": "ftp://x/", "topics": topics}, "invalid_argument"),
        ("x", {"url": "https://ann:pw@x.example/", "topics": topics}, "invalid_argument"),
        ("x", {"url": url, "topics": []}, "invalid_argument"),
        ("x", {"url": url, "topics": ["com.example.*"]}, "topic_not_exposed"),
        ("x", {"url": url, "topics": ["com.secret.x"]}, "topic_not_exposed"),
        ("x", {"url": url, "topics": topics, "filter": {"a": {}}}, "invalid_argument"),
        ("x", {"url": url, "topics": topics, "secret": "whsec_eA=="}, "invalid_argument"),
        ("x", {"call": "com.nowhere.x", "topics": topics}, "unknown_uri"),
    ):
        refused = refusal(session, "taskbus.hook.put", client, **options)
        assert refused.error == f"taskbus.error.{error}", options
    for topic in ("com.secret.x", "job.failed.com.example.x", "taskbus.webhook.disabled"):
        refusal(session, "taskbus.hook.publish", topic)


def test_over_http(site: Site, session: Session, receiver: Receiver) -> None:
    key = new_key(site, "hooks:com.example.shop.*", "publish:com.example.*")
    ask = Client(site, f"Bearer {key.token}")
    asked = {"url": receiver.at("http"), "topics": ["com.example.shop.http"]}
    made = ask("PUT", "/hooks/http", asked)
    assert (made.status, made.headers["location"]) == (201, "/hooks/http")
    again = ask("PUT", "/hooks/http", asked)
    assert (again.status, again.json()["new"]) == (200, False)
    sent = ask("POST", "/v1/events/com.example.shop.http", {"data": {"n": 1}, "id": "h-1"})
    assert sent.status == 202
    [job] = sent.json()["deliveries"]
    receiver.await_events("http")
    verified(receiver.requests("http")[0], made.json()["secret"])
    told = eventually(
        lambda: (found := ask("GET", f"/hooks/http/deliveries/{job}").json())["attempts"] and found
    )
    assert told["attempts"][0]["status"] == 204
    listed = ask("GET", "/hooks/http/deliveries?limit=5&state=succeeded").json()["deliveries"]
    assert [one["id"] for one in listed] == [job]
    assert ask("POST", f"/hooks/http/deliveries/{job}/replay").status == 409
    assert ask("POST", "/hooks/http/replay", {"since": 0}).json() == {"deliveries": []}
    assert ask("POST", "/hooks/http/ping").status == 202
    rotated = ask("POST", "/hooks/http/rotate", {"overlap": 60})
    assert rotated.json()["secret"] != made.json()["secret"]
    assert "http" in [one["client"] for one in ask("GET", "/hooks").json()["hooks"]]
    other = ask("POST", "/v1/events/com.example.shop.http", {"data": {"n": 2}, "id": "h-1"})
    assert other.status == 422
    refused = ask("POST", "/v1/events/com.example.secret", {"data": {}})
    assert (refused.status, refused.json()["error"]) == (403, "taskbus.error.topic_not_exposed")
    wrong = ask("PUT", "/hooks/http", {**asked, "url": "ftp://x/"})
    assert (wrong.status, wrong.json()["field"]) == (400, "url")
    assert ask("DELETE", "/hooks/http").status == 204
    assert ask("GET", "/hooks/http").status == 404


def test_a_key_manages_only_what_its_scopes_cover(
    site: Site, session: Session, receiver: Receiver
) -> None:
    put(session, "theirs", url=receiver.at("theirs"), topics=["com.example.shop.b"])
    narrow = Client(site, f"Bearer {new_key(site, 'hooks:com.example.shop.a.*').token}")
    url = receiver.at("mine")
    asked = {"url": url, "topics": ["com.example.shop.a.x"]}
    assert narrow("PUT", "/hooks/mine", asked).status == 201
    for topics in (["com.example.shop.*"], ["com.example.shop.a.x", "job.*"]):
        assert narrow("PUT", "/hooks/mine", {"url": url, "topics": topics}).status == 403
    # To run a URI with each event is to submit jobs.
    call = {"call": ADD, "topics": ["com.example.shop.a.x"]}
    assert narrow("PUT", "/hooks/mine", call).status == 403
    assert [one["client"] for one in narrow("GET", "/hooks").json()["hooks"]] == ["mine"]
    assert narrow("GET", "/hooks/theirs").status == 404
    assert narrow("DELETE", "/hooks/theirs").status == 404
    assert narrow("PUT", "/hooks/theirs", asked).status == 400
    assert narrow("POST", "/v1/events/com.example.shop.a.x", {"data": {}}).status == 403
    none = Client(site, f"Bearer {new_key(site, 'read:*').token}")
    assert none("GET", "/hooks").status == 403
    assert Client(site)("GET", "/hooks").status == 401
