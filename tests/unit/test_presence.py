"""Presence: ready while the lock is held, and its facts complete. Liveness: who is surely dead."""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from taskbus.adapter.process import Presence, ProcessLiveness


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
    assert first.hold(uris=1)
    assert not second.hold(uris=2)
    told = Presence.look(tmp_path, "x")
    assert told is not None
    assert told["uris"] == 1
    first.drop()
    assert second.hold(uris=2)
    told = Presence.look(tmp_path, "x")
    assert told is not None
    assert told["uris"] == 2
    second.drop()


def test_a_process_is_dead_once_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    liveness = ProcessLiveness()
    assert not liveness.is_dead(liveness.identity())
    host = liveness.identity().rsplit("/", 2)[0]
    with subprocess.Popen(["true"]) as process:
        pid = process.pid
    assert liveness.is_dead(f"{host}/{pid}/1")
    assert not liveness.is_dead(f"another/{pid}/1")

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    # Another user's, of whom /proc tells nothing.
    monkeypatch.setattr(os, "kill", refuse)
    assert not liveness.is_dead(f"{host}/{pid}/1")
