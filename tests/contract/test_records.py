"""What every store's records have to do; see ``taskbus.port.records``."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

from taskbus.port.records import Record, Records
from taskbus.port.sides import Sides
from taskbus.wire import open_sides
from tests.support.processes import PATIENCE

BODY = {"name": "naïve 🐝", "list": [1, {"a.b": None, "$set": 1.5}], "": {}}


def test_a_record_comes_back_as_it_was_written(records: Records) -> None:
    assert records.put("hook", "a", BODY, seen=0)
    assert records.get("hook", "a") == Record("a", BODY, 1)
    assert records.put("hook", "a", {}, seen=1)
    assert records.get("hook", "a") == Record("a", {}, 2)
    assert records.get("hook", "A") is records.get("hook", "b") is records.get("key", "a") is None


def test_another_version_is_not_overwritten(records: Records) -> None:
    assert not records.put("hook", "a", {"n": 1}, seen=1)
    assert records.put("hook", "a", {"n": 2}, seen=0)
    assert not records.put("hook", "a", {"n": 3}, seen=0)
    assert not records.put("hook", "a", {"n": 4}, seen=2)
    assert records.get("hook", "a") == Record("a", {"n": 2}, 1)


def test_all_of_a_kind_by_name(records: Records) -> None:
    for kind, name in (("hook", "b"), ("key", "c"), ("hook", "a"), ("hook", "B" * 191)):
        assert records.put(kind, name, {"of": kind}, seen=0)
    assert [one.name for one in records.all("hook")] == ["B" * 191, "a", "b"]
    assert records.all("key") == [Record("c", {"of": "key"}, 1)]
    assert records.all("none") == []


def test_what_is_removed_is_gone_and_may_come_again(records: Records) -> None:
    assert not records.remove("hook", "a")
    records.put("hook", "a", {"n": 1}, seen=0)
    assert records.remove("hook", "a")
    assert records.get("hook", "a") is None
    assert not records.put("hook", "a", {"n": 2}, seen=1)
    assert records.put("hook", "a", {"n": 3}, seen=0)


def test_changes_grow_with_every_change_of_the_kind(records: Records) -> None:
    seen = [records.changes("hook")]
    records.put("hook", "a", {}, seen=0)
    seen.append(records.changes("hook"))
    records.put("hook", "a", {}, seen=1)
    seen.append(records.changes("hook"))
    records.remove("hook", "a")
    seen.append(records.changes("hook"))
    assert seen == sorted(set(seen))
    records.put("key", "a", {}, seen=0)
    assert records.changes("hook") == seen[-1]


def test_of_many_writers_one_wins_each_version(sides: Sides, records: Records) -> None:
    start = Barrier(8)

    def write(writer: int) -> int:
        start.wait(PATIENCE)
        return sum(records.put("hook", "a", {"by": writer}, seen) for seen in range(10))

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(write, range(8)))
    found = records.get("hook", "a")
    assert found is not None
    assert found.version == won


def test_another_process_sees_it(shared_url: str) -> None:
    first, second = open_sides(shared_url), open_sides(shared_url)
    with closing(first.store), closing(second.store):
        assert first.records.put("hook", "a", BODY, seen=0)
        assert second.records.get("hook", "a") == Record("a", BODY, 1)
        assert second.records.changes("hook") == first.records.changes("hook") > 0
