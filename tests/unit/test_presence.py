"""Presence: ready while the lock is held, and its facts complete."""

import fcntl
import os
from pathlib import Path

from taskbus.adapter.process import Presence


def test_it_tells_who_is_ready_until_that_one_leaves(tmp_path: Path) -> None:
    presence = Presence(tmp_path, "control")
    assert Presence.look(tmp_path, "control") is None
    presence.hold(uris=3)
    assert Presence.look(tmp_path, "control") == {"pid": os.getpid(), "uris": 3}
    presence.drop()
    assert Presence.look(tmp_path, "control") is None


def test_a_holder_that_has_not_written_its_facts_is_not_ready_yet(tmp_path: Path) -> None:
    with (tmp_path / "control.ready").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert Presence.look(tmp_path, "control") is None


def test_of_several_under_one_name_one_is_seen_and_none_waits(tmp_path: Path) -> None:
    first, second = Presence(tmp_path, "x"), Presence(tmp_path, "x")
    first.hold(uris=1)
    second.hold(uris=2)
    told = Presence.look(tmp_path, "x")
    assert told is not None
    assert told["uris"] == 1
    first.drop()
    second.hold(uris=2)
    told = Presence.look(tmp_path, "x")
    assert told is not None
    assert told["uris"] == 2
    second.drop()
