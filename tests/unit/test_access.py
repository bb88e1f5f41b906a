"""Access keys: their form, their scopes, and what a permit makes of them."""

import hmac
from typing import Any

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.core import permit as permits
from taskbus.core.keyring import KIND, Keyring
from taskbus.core.permit import UNLIMITED, Permit
from taskbus.model.access import (
    ACTIONS,
    CALL,
    MANAGE,
    READ,
    SUBMIT,
    AccessKey,
    check_key,
    check_scopes,
    digest_of,
    new_token,
    parse_scope,
    scopes_of,
    split_token,
)
from taskbus.model.errors import Forbidden, InvalidArgument, JobNotFound, KeyNotFound
from tests.support.sides import sides_of
from tests.support.values import a_job

NOW = 1000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def request(**changes: Any) -> dict[str, Any]:
    id_, token = new_token()
    _, secret = split_token(token) or ("", "")
    asked = {"id": id_, "name": "x", "digest": digest_of(secret), "scopes": ["call:com.a.*"]}
    return asked | changes


def permit(*scopes: str) -> Permit:
    return Permit([parse_scope(one) for one in scopes])


# --- keys ----------------------------------------------------------------------------------------


def test_a_token_is_an_id_and_a_secret() -> None:
    id_, token = new_token()
    _, other = new_token()
    assert split_token(token) == (id_, token[len(f"tb_{id_}_") :])
    assert token != other


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token + "0",
        lambda token: token[:-1],
        lambda token: token.upper(),
        lambda token: " " + token,
        lambda token: token + "\n",
        lambda token: token.replace("tb_", "tc_"),
        lambda token: token.encode(),
        lambda _: None,
    ],
)
def test_what_is_no_token(change: Any) -> None:
    token = change(new_token()[1])
    assert split_token(token) is None
    assert not check_key(request(), NOW).is_proved(token)


def test_only_the_whole_key_proves_it() -> None:
    (id_, token), (_, other) = new_token(), new_token()
    secret = token.rpartition("_")[2]
    key = check_key(request(id=id_, digest=digest_of(secret)), NOW)
    assert key.is_proved(token)
    no_id, no_secret = f"tb_{'0' * 12}_{secret}", f"tb_{id_}_{other.rpartition('_')[2]}"
    for wrong in (other, secret, no_id, no_secret, token[:-1] + "x", ""):
        assert not key.is_proved(wrong)
    assert secret not in repr(key)


def test_secrets_are_compared_in_a_time_that_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the ticket is no key at all."""
    compared: list[tuple[Any, Any]] = []

    def compare(*both: Any) -> bool:
        compared.append(both)
        return bool(both[0] == both[1])

    key = check_key(request(), NOW)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for ticket in (new_token()[1], "wrong", None):
        assert not key.is_proved(ticket)
    assert [len(one) for both in compared for one in both] == [64] * 6


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "short"}, "id"),
        ({"id": "operatoroper"}, "id"),  # o is none of the characters
        ({"id": None}, "id"),
        ({"id": "../../../../"}, "id"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"digest": "x" * 64}, "digest"),
        ({"digest": None}, "digest"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "call:com.a.*"}, "scopes"),
        ({"scopes": ["call:com.a.*"] * 101}, "scopes"),
        ({"scopes": [["call:com.a.*"]]}, "scope"),
        ({"rate": "100/minutes"}, "rate"),
        ({"rate": 100}, "rate"),
        ({"expires": NOW}, "expires"),
        ({"expires": True}, "expires"),
        ({"expires": float("inf")}, "expires"),
        ({"expires": float("nan")}, "expires"),
        ({"expires": "30d"}, "expires"),
        ({"signing": "yes"}, "signing"),
    ],
)
def test_a_mistake_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_key(request(**changes), NOW)
    assert caught.value.about["field"] == field
    assert caught.value.about["remedy"]


def test_a_secret_in_the_wrong_place_is_not_told_again() -> None:
    token = new_token()[1]
    for changes in ({"id": token}, {"digest": token}):
        with pytest.raises(InvalidArgument) as caught:
            check_key(request(**changes), NOW)
        assert token not in f"{caught.value} {caught.value.about}"


# --- scopes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "uri", "allowed"),
    [
        ("read:com.a.shop.*", "com.a.shop.x", True),
        ("read:com.a.shop.*", "com.a.shop.x.y", True),
        ("read:com.a.shop.*", "com.a.shopping.x", False),
        ("read:com.a.shop.*", "com.a.shop", False),
        ("read:com.a.shop.*", "com.a.shop.", True),
        ("read:com.a.shop.*", "com.A.shop.x", False),
        ("read:com.a.shop.*", "xcom.a.shop.x", False),
        ("read:com.a.shop.x", "com.a.shop.x", True),
        ("read:com.a.shop.x", "com.a.shop.x.y", False),
        ("read:com.a.shop.x", "com.a.shop.xy", False),
        ("read:*", "com.a.shop.x", True),
        ("*", "com.a.shop.x", True),
        ("call:*", "com.a.shop.x", False),
    ],
)
def test_what_a_scope_is_good_for(scope: str, uri: str, allowed: bool) -> None:
    assert parse_scope(scope).allows(READ, uri) is allowed
    assert permit(scope).allows(READ, uri) is allowed


@pytest.mark.parametrize(
    "scope",
    [
        "", "read", "read:", ":com.a.x", "write:com.a.x", "*:com.a.*", "READ:com.a.x",
        "read:com", "read:com.*.x", "read:com.a*", "read:com.a.**", "read:.*", "read:com..x",
        "read:com.A.x", "read: com.a.x", "read:com.a.x ", "read:com.a.x\n", "**", None, 3,
        "call:taskbus.*", "call:wamp.session.list", "submit:taskbus.task.webhook",
        "call:crossbar.x", "submit:taskbus.task.commands", "call:taskbus.access.create",
    ],
)  # fmt: skip
def test_what_is_no_scope(scope: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_scope(scope)
    assert caught.value.about["field"] == "scope"
    assert caught.value.about["remedy"]


def test_each_scope_is_kept_once() -> None:
    assert check_scopes(["call:*", "read:*", "call:*"]) == ("call:*", "read:*")


# --- permits -------------------------------------------------------------------------------------


def test_every_role_but_a_key_is_left_to_the_router() -> None:
    assert UNLIMITED.allows(SUBMIT, "com.a.x")
    UNLIMITED.require(SUBMIT, None)
    assert UNLIMITED.within(READ, "com.a.*") == ["com.a.*"]
    assert UNLIMITED.may_ask("taskbus.job.get")


@pytest.mark.parametrize(
    ("scopes", "wanted", "found"),
    [
        ([], "", []),
        (["read:*"], "", [""]),
        (["read:*", "read:com.a.x"], "com.a.*", ["com.a.*"]),
        (["*"], "com.a.x", ["com.a.x"]),
        (["call:*"], "", []),
        (["read:com.a.*"], "", ["com.a.*"]),
        (["read:com.a.*"], "com.*", ["com.a.*"]),
        (["read:com.a.*"], "com.a.x", ["com.a.x"]),
        (["read:com.a.*"], "com.a.b.*", ["com.a.b.*"]),
        (["read:com.a.*"], "com.ab.*", []),
        (["read:com.a.*"], "com.a", []),
        (["read:com.a.x"], "com.a.*", ["com.a.x"]),
        (["read:com.a.x", "read:com.a.*"], "", ["com.a.*"]),
        (["read:com.a.*", "read:com.a.b.*", "read:com.b.x"], "", ["com.a.*", "com.b.x"]),
        (["read:com.a.x", "read:com.a.*"], "com.a.x", ["com.a.x"]),
    ],
)
def test_what_is_both_wanted_and_allowed(scopes: list[str], wanted: str, found: list[str]) -> None:
    assert permit(*scopes).within(READ, wanted) == found


def test_a_refusal_names_the_scope_that_is_missing() -> None:
    with pytest.raises(Forbidden) as caught:
        permit("submit:com.a.*").require(SUBMIT, "com.ab.x")
    assert caught.value.about["field"] == "uri"
    assert "submit:com.ab.x" in caught.value.about["remedy"]
    for odd in (None, 3, ["com.a.x"], {"com.a.x": 1}):
        with pytest.raises(Forbidden):
            permit("*").require(SUBMIT, odd)


def test_a_job_that_may_not_be_read_is_not_there() -> None:
    job = a_job(uri="com.a.x")
    permit("manage:com.a.x").require_job(MANAGE, job)
    with pytest.raises(Forbidden):
        permit("read:com.a.x").require_job(MANAGE, job)
    with pytest.raises(JobNotFound):
        permit("manage:com.b.*", "submit:*").require_job(MANAGE, job)
    with pytest.raises(JobNotFound):
        permit("manage:com.a.x").require_job(READ, job)


@pytest.mark.parametrize("action", ACTIONS)
def test_who_has_an_action_may_ask_the_procedures_that_are_about_it(action: str) -> None:
    asked = {*permits.PROCEDURES, *(f"{prefix}x" for prefix in permits.FEATURES)}
    about = {**permits.PROCEDURES, **{f"{k}x": v for k, v in permits.FEATURES.items()}}
    may = {one for one in asked if permit(f"{action}:com.a.x").may_ask(one)}
    assert may == {one for one in asked if about[one] == action}
    assert not permit("*").may_ask("taskbus.access.create")


def test_to_call_what_runs_in_the_background_is_to_submit() -> None:
    for mode, action in (("background", SUBMIT), ("foreground", CALL), (None, CALL)):
        assert permit(f"{action}:com.a.x").may_call("com.a.x", mode)
        others = [f"{one}:com.a.x" for one in ACTIONS if one != action]
        assert not permit(*others).may_call("com.a.x", mode)


@pytest.mark.parametrize("uri", ["com.a.X", "com.a..x", "com.a.", ".com.a", "com a.x", "", "com"])
def test_odd_uris_are_nobodys(uri: str) -> None:
    everything = permit("*")
    assert not everything.may_call(uri, None)
    assert not everything.may_publish(uri)
    assert not everything.may_subscribe(uri, "exact")
    assert not everything.may_register(uri)


@pytest.mark.parametrize(
    ("scope", "pattern", "may"),
    [
        ("register:com.a.*", "com.a.x", True),
        ("register:com.a.*", "com.a.x.*", True),
        ("register:com.a.*", "com.a.*", True),
        ("register:com.a.*", "com.a", False),
        ("register:com.a.x", "com.a.x", True),
        ("register:com.a.x", "com.a.x.*", False),
        ("register:com.a.x.*", "com.a.*", False),
        ("register:*", "com.b.x", True),
        ("register:*", "taskbus.x", False),
        ("register:*", "wamp.x.*", False),
        ("*", "com.a.x", True),
        ("call:com.a.*", "com.a.x", False),
    ],
)
def test_who_may_serve_what(scope: str, pattern: str, may: bool) -> None:
    assert permit(scope).may_register(pattern) is may


# --- the keyring ---------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_key_that_is_made_here_is_known_at_once(store: MemoryStore) -> None:
    keyring = Keyring(sides_of(store).records, Clock())
    key = keyring.add(request(scopes=["call:com.a.*", "*"], rate="5/minute", expires=NOW + 60))
    assert keyring.find(key.id) == key
    assert keyring.all() == [key]
    assert [scope.action for scope in scopes_of(key)] == ["call", "*"]
    keyring.remove(key.id)
    assert keyring.find(key.id) is None
    with pytest.raises(KeyNotFound):
        keyring.remove(key.id)


def test_keys_of_another_bus_are_known_after_a_look(store: MemoryStore) -> None:
    here, there = (Keyring(sides_of(store).records, Clock()) for _ in range(2))
    key = there.add(request())
    assert here.find(key.id) is None
    here.refresh()
    assert here.find(key.id) == key
    there.remove(key.id)
    here.refresh()
    assert here.find(key.id) is None


def test_a_key_is_good_until_its_time_is_over(store: MemoryStore) -> None:
    clock = Clock()
    keyring = Keyring(sides_of(store).records, clock)
    (id_, token) = new_token()
    digest = digest_of(token.rpartition("_")[2])
    keyring.add(request(id=id_, digest=digest, expires=NOW + 60))
    assert isinstance(keyring.proved(id_, token), AccessKey)
    assert keyring.proved(id_, token + "0") is None
    assert keyring.proved("0" * 12, token) is None
    clock.now += 60
    assert keyring.find(id_) is keyring.proved(id_, token) is None
    # It is there to be seen, and revoked.
    assert len(keyring.all()) == 1


def test_a_request_that_is_sent_again_makes_no_second_key(store: MemoryStore) -> None:
    keyring = Keyring(sides_of(store).records, Clock())
    asked = request()
    assert keyring.add(asked) == keyring.add(asked)
    with pytest.raises(InvalidArgument, match="another key has it"):
        keyring.add({**request(), "id": asked["id"]})


def test_the_store_has_no_secret(store: MemoryStore) -> None:
    records = sides_of(store).records
    id_, token = new_token()
    secret = token.rpartition("_")[2]
    Keyring(records, Clock()).add(request(id=id_, digest=digest_of(secret)))
    [kept] = records.all(KIND)
    assert secret not in str(kept)
