"""Access keys on a running bus: what their scopes allow, what they do not, and their end."""

import json
import math
import os
import queue
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from taskbus.core.keyring import KIND
from taskbus.model.identity import new_job_id
from taskbus.model.signed_request import Signature, Signed, sign
from taskbus.wire import open_sides
from tests.support.access_keys import Key, new_key
from tests.support.processes import PATIENCE
from tests.support.router import NOTIFY_TOPIC, Session, Via
from tests.support.site import Site, eventually, running_site
from tests.support.web import Client

pytestmark = pytest.mark.acceptance

DENIED = "wamp.error.not_authorized"
FORBIDDEN = "taskbus.error.forbidden"
NOT_FOUND = "taskbus.error.job_not_found"
LOOK, ORDER = "com.example.shop.look", "com.example.shop.order"
SHOPPING, BELOW = "com.example.shopping.look", "com.example.shop.stock.*"
SECRET = "com.example.vault.open"
ENTRIES = "".join(
    f'[api."{uri}"]\nexec = ["echo", "{{}}"]\nmode = "{mode}"\n'
    for uri, mode in (
        (LOOK, "foreground"),
        (ORDER, "background"),
        (SHOPPING, "foreground"),
        (BELOW, "foreground"),
        (SECRET, "background"),
    )
)
_made: list[Key] = []


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # Short: the paths of sockets are limited.
    with (
        tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name,
        running_site(Path(name), entries=ENTRIES) as up,
    ):
        yield up


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


@pytest.fixture(scope="module")
def shop(site: Site) -> Iterator[Session]:
    """A session that may do everything with the URIs of the shop."""
    with make(site, *(f"{one}:com.example.shop.*" for one in ALL)).joined() as session:
        yield session


ALL = ("call", "submit", "read", "manage", "publish")


def make(site: Site, *scopes: str, **about: Any) -> Key:
    _made.append(new_key(site, *scopes, **about))
    return _made[-1]


def error_of(action: Any, *args: Any, **kwargs: Any) -> str | None:
    try:
        action(*args, **kwargs)
    except ApplicationError as error:
        return str(error.error)
    return None


@pytest.fixture
def other(operator: Session) -> str:
    """A job that is none of the shop's, and does not run in this test."""
    return str(operator.call("taskbus.job.submit", SECRET, delay=3600))


# --- joining -------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["socket", "websocket"])
def test_a_key_opens_every_door(site: Site, via: Via) -> None:
    with make(site, f"call:{LOOK}").joined(via) as session:
        assert session.call(LOOK) is None


@pytest.mark.parametrize("via", ["socket", "websocket"])
def test_others_are_refused(site: Site, via: Via) -> None:
    key, another = make(site, "*"), make(site, "*")
    wrong = key.token[:-1] + ("0" if key.token[-1] != "0" else "1")
    for authid, ticket in (
        (key.id, wrong),
        (key.id, another.token),
        (key.id, key.token.split("_")[2]),
        (key.id, ""),
        (key.token, key.token),
        ("operator", key.token),
        ("0" * 12, key.token),
    ):
        with pytest.raises(ApplicationError) as caught, key.joined(via, authid, ticket):
            pass
        assert caught.value.error == DENIED
        assert key.token not in str(caught.value)


# --- calling and submitting ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["call:com.example.shop.*"], {LOOK, "com.example.shop.stock.x"}),
        ([f"call:{LOOK}"], {LOOK}),
        (["submit:com.example.shop.*"], {ORDER}),
        ([f"submit:{ORDER}", "call:com.example.shopping.*"], {ORDER, SHOPPING}),
        (["call:com.example.shop.stock.*"], {"com.example.shop.stock.x"}),
        (["read:*", "manage:*", "publish:*", "hooks:*", "metrics:*"], set()),
        (["call:*"], {LOOK, SHOPPING, "com.example.shop.stock.x"}),
        (["*"], {LOOK, ORDER, SHOPPING, "com.example.shop.stock.x"}),
    ],
)
def test_what_a_key_may_call(site: Site, scopes: list[str], allowed: set[str]) -> None:
    asked = (
        LOOK, ORDER, SHOPPING, "com.example.shop.stock.x",
        # Nobody may ask for these, whatever they have.
        "com.example.shop.stock.X", "com.example.Shop.look", "com.example.shop",
        "wamp.session.list", "wamp.session.kill_by_authid", "wamp.subscription.get_events",
        "taskbus.access.list", "taskbus.access.create", "taskbus.access.authenticate",
        "taskbus.job.unknown", "taskbus.task.webhook", "crossbar.x.y",
    )  # fmt: skip
    with make(site, *scopes).joined() as session:
        assert {uri for uri in asked if error_of(session.call, uri) is None} == allowed


def test_one_key_has_nothing_of_anothers_answers(site: Site) -> None:
    """What the router keeps, it keeps for all keys."""
    may, may_not = make(site, f"call:{LOOK}"), make(site, f"call:{SHOPPING}")
    with may.joined() as one, may_not.joined() as other:
        for _ in range(2):
            assert error_of(one.call, LOOK) is None
            assert error_of(other.call, LOOK) == DENIED


@pytest.mark.parametrize("uri", [SECRET, SHOPPING, "com.example.nowhere.x", "com.example.shop", 3])
def test_a_job_of_another_uri_is_refused_wherever_it_hides(
    shop: Session, operator: Session, uri: Any
) -> None:
    fine, wrong = {"uri": ORDER}, {"uri": uri}
    newest = operator.call("taskbus.job.list", limit=1)
    for place, procedure, args, kwargs in (
        ("uri", "submit", [uri], {}),
        ("jobs[1].uri", "submit_many", [[fine, wrong]], {}),
        ("jobs[1].uri", "chain", [[fine, wrong]], {}),
        ("jobs[0].uri", "group", [[wrong]], {"then": fine}),
        ("then.uri", "group", [[fine]], {"then": wrong}),
        ("on_success.uri", "submit", [ORDER], {"on_success": wrong}),
        ("on_end.on_failure[1].uri", "submit", [ORDER],
         {"on_end": {"uri": ORDER, "on_failure": [fine, wrong]}}),
    ):  # fmt: skip
        with pytest.raises(ApplicationError) as caught:
            shop.call(f"taskbus.job.{procedure}", *args, **kwargs)
        assert caught.value.error == FORBIDDEN
        assert caught.value.kwargs["field"] == place
    assert operator.call("taskbus.job.list", limit=1) == newest


def test_a_key_runs_a_job_of_its_own_to_its_end(shop: Session) -> None:
    heard: list[Any] = []
    [first, last] = shop.call("taskbus.job.chain", [{"uri": ORDER}, {"uri": LOOK}])
    shop.begin("taskbus.job.wait", last, on_progress=heard.append)()
    assert shop.call("taskbus.job.get", first)["state"] == "succeeded"
    assert shop.call("taskbus.job.events", last)[-1]["kind"] == "succeeded"


# --- jobs of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("procedure", ["get", "events", "wait", "cancel", "replay"])
def test_a_job_that_a_key_may_not_read_is_not_there(
    shop: Session, other: str, procedure: str
) -> None:
    errors = []
    for job in (other, new_job_id()):
        with pytest.raises(ApplicationError) as caught:
            shop.call(f"taskbus.job.{procedure}", job)
        errors.append((caught.value.error, str(caught.value.args[0]).replace(job, "it")))
    assert errors[0] == errors[1]
    assert errors[0][0] == NOT_FOUND


def test_a_job_that_a_key_may_only_read_is_not_managed(
    site: Site, operator: Session, other: str
) -> None:
    with make(site, f"read:{SECRET}").joined() as session:
        assert session.call("taskbus.job.get", other)["uri"] == SECRET
        # It has nothing to do with this procedure.
        assert error_of(session.call, "taskbus.job.cancel", other) == DENIED
    with make(site, f"read:{SECRET}", f"manage:{ORDER}").joined() as session:
        assert error_of(session.call, "taskbus.job.cancel", other) == FORBIDDEN
        assert error_of(session.call, "taskbus.job.replay", other) == FORBIDDEN
    assert operator.call("taskbus.job.get", other)["state"] == "scheduled"


def test_other_arguments_are_for_those_who_may_submit(
    site: Site, operator: Session, other: str
) -> None:
    operator.call("taskbus.job.cancel", other)
    with make(site, f"manage:{SECRET}", f"read:{SECRET}").joined() as session:
        assert error_of(session.call, "taskbus.job.replay", other, args=[1]) == FORBIDDEN
        assert session.call("taskbus.job.replay", other) == other
    operator.call("taskbus.job.wait", other)


@pytest.mark.parametrize("procedure", ["wait", "follow"])
def test_nothing_is_told_while_a_job_of_others_runs(
    shop: Session, other: str, procedure: str
) -> None:
    heard: list[Any] = []
    watching = shop.begin(f"taskbus.job.{procedure}", other, on_progress=heard.append)
    with pytest.raises(ApplicationError, match="no job has the id"):
        watching()
    assert heard == []


def test_the_journal_has_what_a_key_may_read(shop: Session, operator: Session) -> None:
    since = shop.call("taskbus.journal.read")["position"]
    mine, _ = (operator.call("taskbus.job.submit", uri, delay=3600) for uri in (ORDER, SECRET))

    def jobs(session: Session, **asked: Any) -> list[str]:
        entries = session.call("taskbus.journal.read", after=since, **asked)["entries"]
        return [one["job"] for one in entries]

    assert len(jobs(operator)) == 2
    assert jobs(shop) == jobs(shop, uri="com.*") == [mine]
    assert jobs(shop, uri=SECRET) == []
    heard: list[Any] = []
    shop.begin("taskbus.journal.follow", after=since, limit=1, on_progress=heard.append)()
    assert [one["job"] for page in heard for one in page] == [mine]


def test_a_list_has_what_a_key_may_read(site: Site, operator: Session, other: str) -> None:
    mine = [operator.call("taskbus.job.submit", uri, delay=3600) for uri in (ORDER, LOOK, ORDER)]
    with make(site, f"read:{ORDER}", f"read:{LOOK}", f"manage:{SECRET}").joined() as session:

        def ids(**asked: Any) -> list[str]:
            return [job["id"] for job in session.call("taskbus.job.list", **asked)]

        assert ids(limit=3) == mine[::-1]
        assert ids(limit=2, before=mine[2]) == mine[1::-1]
        assert ids(uri=LOOK, limit=1) == [mine[1]]
        assert ids(uri="com.example.shop.*", limit=2) == mine[:0:-1]
        assert ids(uri="com.*", limit=1) == [mine[2]]
        assert ids(uri=SECRET) == ids(uri="com.example.vault.*") == []
        assert other not in ids(limit=1000)
    with make(site, "read:*").joined() as session:
        assert other in [job["id"] for job in session.call("taskbus.job.list")]


def test_only_what_a_key_may_manage_is_replayed_or_discarded_in_bulk(
    site: Site, operator: Session, other: str
) -> None:
    mine = operator.call("taskbus.job.submit", ORDER, delay=3600)
    for job in (other, mine):
        operator.call("taskbus.job.cancel", job)
    asked = {"state": "cancelled", "limit": 1000}
    with make(site, f"manage:{ORDER}").joined() as session:
        assert mine in session.call("taskbus.job.replay_many", **asked, dry_run=True)
        for procedure in ("replay_many", "discard_many"):
            found = session.call(f"taskbus.job.{procedure}", **asked)
            assert other not in found
            assert session.call(f"taskbus.job.{procedure}", **asked, uri=SECRET) == []
    assert operator.call("taskbus.job.get", other)["state"] == "cancelled"


# --- topics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "match", "allowed"),
    [
        ("taskbus.job.", "prefix", False),
        ("taskbus.", "prefix", False),
        ("taskbus..x", "wildcard", False),
        (f"taskbus.job.{'0' * 26}", "exact", False),
        (NOTIFY_TOPIC, "exact", False),
        ("com.example.", "prefix", False),
        ("com.example.shop", "prefix", False),
        ("com.example.shop.", "prefix", True),
        ("com.example.shop.sold", "exact", True),
        ("com.example.shopping.sold", "exact", False),
        ("com.example..sold", "wildcard", False),
        ("com..", "wildcard", False),
        ("wamp.session.on_join", "exact", False),
        ("taskbus.access.changed", "exact", False),
    ],
)
def test_what_a_key_may_subscribe_to(shop: Session, topic: str, match: str, allowed: bool) -> None:
    assert error_of(shop.subscribe, topic, match) == (None if allowed else DENIED)


def test_a_jobs_topic_is_for_those_who_may_read_it(
    shop: Session, operator: Session, other: str
) -> None:
    job = operator.call("taskbus.job.submit", ORDER, delay=3600)
    assert error_of(shop.subscribe, f"taskbus.job.{other}") == DENIED
    for match in ("prefix", "wildcard"):
        assert error_of(shop.subscribe, f"taskbus.job.{job}", match) == DENIED
    events = shop.subscribe(f"taskbus.job.{job}")
    operator.call("taskbus.job.cancel", job)
    # What has just happened may be told, too.
    while events.get(timeout=PATIENCE)[0][0]["kind"] != "cancelled":
        pass


def test_the_notify_topic_is_for_nobody_who_may_only_read_its_neighbours(site: Site) -> None:
    with make(site, "read:com.example.*").joined() as session:
        asked = (
            (NOTIFY_TOPIC, "exact"),
            ("com.example.", "prefix"),
            ("com.example.queue.", "prefix"),
        )
        for topic, match in asked:
            assert error_of(session.subscribe, topic, match) == DENIED
        assert error_of(session.subscribe, "com.example.dante.", "prefix") is None


def test_who_may_read_everything_hears_of_everything(site: Site) -> None:
    with make(site, "read:*").joined() as session:
        for topic, match in ((NOTIFY_TOPIC, "exact"), ("taskbus.job.", "prefix")):
            assert error_of(session.subscribe, topic, match) is None
        assert error_of(session.subscribe, "taskbus.", "prefix") == DENIED


@pytest.mark.parametrize(
    ("topic", "error"),
    [
        ("com.example.shop.sold", None),
        ("com.example.shopping.sold", DENIED),
        (NOTIFY_TOPIC, DENIED),
        (f"taskbus.job.{'0' * 26}", DENIED),
        ("wamp.session.on_join", "wamp.error.invalid_uri"),
    ],
)
def test_what_a_key_may_publish(shop: Session, topic: str, error: str | None) -> None:
    assert error_of(shop.publish, topic, 1) == error


def test_nobody_speaks_for_the_bus(site: Site) -> None:
    with make(site, "*").joined() as session:
        assert error_of(session.publish, NOTIFY_TOPIC, 1) == DENIED
        for uri in ("com.example.shop.mine", "taskbus.access.other"):
            assert error_of(session.register, print, uri) == DENIED
        for uri in (LOOK, "taskbus.access.authorize"):
            assert error_of(session.register, print, uri) is not None


# --- the end of a key ----------------------------------------------------------------------------


def test_the_commands_make_list_and_revoke_a_key(site: Site) -> None:
    made = site.taskbus(
        "key", "create", "cron on web1", "--scope", "call:com.example.shop.*", "--scope",
        f"read:{ORDER}", "--rate", "100/minute", "--expires", "30d",
    )  # fmt: skip
    key = Key(site, made.stdout.split("_")[1], made.stdout.strip())
    _made.append(key)
    assert "not shown again" in made.stderr
    [shown] = [one for one in json.loads(keys(site, "--json")) if one["id"] == key.id]
    assert shown["scopes"] == ["call:com.example.shop.*", f"read:{ORDER}"]
    assert shown["rate"] == "100/minute"
    assert shown["expires"] == pytest.approx(time.time() + 30 * 86400, abs=60)
    assert "digest" not in shown
    assert "cron on web1" in keys(site)
    with key.joined() as one, key.joined("websocket") as two:
        revoked = site.taskbus("key", "revoke", key.id)
        assert "2 sessions of it ended" in revoked.stderr
        one.await_end()
        two.await_end()
    assert key.id not in keys(site)
    with pytest.raises(ApplicationError, match="revoked"), key.joined():
        pass
    again = site.taskbus("key", "revoke", key.id)
    assert again.returncode == 2
    assert "no access key has the id" in again.stderr


def keys(site: Site, *words: str) -> str:
    return site.taskbus("key", "list", *words).stdout


def test_a_key_that_signs_is_in_a_file_of_its_own(site: Site) -> None:
    made = json.loads(
        site.taskbus("key", "create", "x", "--scope", "*", "--signing", "--json").stdout
    )
    _made.append(Key(site, made["id"], made["key"]))
    file = site.var / "secrets/signing" / made["id"]
    assert file.read_text().strip() == made["key"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    site.taskbus("key", "revoke", made["id"])
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--scope", "call"], "not a scope"),
        (["--scope", "write:com.example.x"], "not a scope"),
        (["--scope", "call:com.example.x*"], "not an action on a URI"),
        (["--scope", "call:com.Example.x"], "not an action on a URI"),
        (["--scope", "call:taskbus.*"], "reserved namespace"),
        (["--scope", "*", "--rate", "many"], "not a rate"),
        (["--scope", "*", "--expires", "soon"], "not a time"),
        (["--scope", "*", "--expires", "9999w"], "within ten years"),
    ],
)
def test_a_mistake_is_named(site: Site, words: list[str], problem: str) -> None:
    refused = site.taskbus("key", "create", "x", *words)
    assert refused.returncode == 2
    assert problem in refused.stderr
    assert "remedy: " in refused.stderr


def test_a_whole_key_in_the_place_of_its_id_is_not_told_again(site: Site) -> None:
    refused = site.taskbus("key", "revoke", make(site, "*").token)
    assert "a whole key, not its id" in refused.stderr
    assert _made[-1].token not in refused.stderr


def test_a_revoked_key_hears_nothing_more(site: Site, operator: Session) -> None:
    key = make(site, "read:com.example.shop.*")
    with key.joined() as session:
        events = session.subscribe("com.example.shop.sold")
        assert operator.call("taskbus.access.revoke", key.id) == 1
        session.await_end()
        with site.joined("backend") as backend:
            backend.publish("com.example.shop.sold", 1)
        with pytest.raises(queue.Empty):
            events.get_nowait()


def test_a_key_whose_time_is_over_is_out(site: Site) -> None:
    key = make(site, "call:*", seconds=1.0)
    with key.joined() as session:
        session.await_end()
    with pytest.raises(ApplicationError, match="expired"), key.joined():
        pass


def test_a_key_that_another_bus_has_revoked_is_out_also_after_a_restart(site: Site) -> None:
    key = make(site, f"call:{LOOK}")
    with key.joined() as session:
        os.kill(site.pid("control"), signal.SIGKILL)
        eventually(lambda: error_of(session.call, LOOK) is None)
        site.await_ready()
        sides = open_sides(f"sqlite:///{site.var}/data/taskbus.db")
        assert sides.records.remove(KIND, key.id)
        sides.store.close()
        session.await_end()


# --- over HTTP -----------------------------------------------------------------------------------


def test_a_key_that_has_used_up_its_rate_is_told_when_there_is_more(site: Site, other: str) -> None:
    limited, free = (
        Client(site, f"Bearer {make(site, 'read:*', rate=rate).token}") for rate in ("2/hour", None)
    )
    target = f"/v1/jobs/{other}"
    assert [limited("GET", target).status for _ in range(3)] == [200, 200, 429]
    answer = limited("GET", target)
    assert answer.json()["error"] == "taskbus.error.rate_limited"
    assert answer.json()["value"] == "2/hour"
    left = answer.json()["about"]["retry_after"]
    assert 0 < left <= 1800
    assert int(answer.headers["retry-after"]) == math.ceil(left)
    assert free("GET", target).status == 200


def test_a_signed_request_is_taken_once(site: Site, other: str) -> None:
    made = json.loads(
        site.taskbus("key", "create", "x", "--scope", "read:*", "--signing", "--json").stdout
    )
    key = Key(site, made["id"], made["key"])
    _made.append(key)
    path, query = f"/v1/jobs/{other}", ""

    def signed(time_: float, nonce: str = "n" * 16) -> Client:
        told = Signature(key.id, int(time_), nonce, "")
        signature = sign(key.token, told, Signed("GET", path, query, b""))
        fields = f"key={key.id},time={told.time},nonce={nonce},signature={signature}"
        return Client(site, f"taskbus-hmac-sha256 {fields}")

    # Its second must not be the one in which the gateway was started.
    now = time.time() + 2
    first = signed(now)
    assert first("GET", path).json()["id"] == other
    again = first("GET", path)
    assert again.status == 401
    assert "used before" in again.json()["detail"]
    for method, target in (("GET", f"{path}?x=1"), ("DELETE", path), ("GET", f"{path}/")):
        assert signed(now, "m" * 16)(method, target).status == 401
    assert signed(now, "m" * 16)("GET", path).status == 200
    held_back = signed(now - 1, "o" * 16)("GET", path)
    assert (held_back.status, held_back.json()["error"]) == (401, "taskbus.error.stale_signature")
    assert site.taskbus("key", "revoke", key.id).returncode == 0
    assert signed(now, "p" * 16)("GET", path).status == 401


def test_a_key_that_does_not_sign_has_no_signature(site: Site, other: str) -> None:
    key = make(site, "read:*")
    told = Signature(key.id, int(time.time() + 2), "n" * 16, "")
    signature = sign(key.token, told, Signed("GET", f"/v1/jobs/{other}", "", b""))
    fields = f"key={key.id},time={told.time},nonce={told.nonce},signature={signature}"
    assert Client(site, f"taskbus-hmac-sha256 {fields}")("GET", f"/v1/jobs/{other}").status == 401


def test_crons_script_signs_as_the_gateway_reads(site: Site, other: str) -> None:
    file = site.folder / "cron.key"
    made = site.taskbus("key", "create", "cron", "--scope", "read:*", "--signing")
    file.write_text(made.stdout)
    file.chmod(0o600)
    _made.append(Key(site, made.stdout.split("_")[1], made.stdout.strip()))
    done = subprocess.run(
        ["sh", site.folder / "cron/request.sh", "-u", f"http://127.0.0.1:{site.port}", "-k", file,
         "GET", f"/v1/jobs/{other}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == other


def test_no_log_has_a_key(site: Site) -> None:
    said = b"".join(file.read_bytes() for file in (site.var / "log").iterdir())
    assert said
    for key in _made:
        assert key.token.encode() not in said
        assert key.token.split("_")[2].encode() not in said
