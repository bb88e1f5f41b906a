"""Numbers that are given once, in every store."""

from concurrent.futures import ThreadPoolExecutor

from taskbus.core.numbers import Numbers
from taskbus.port.store import Store
from tests.support.sides import sides_of


def test_each_is_given_once(store: Store) -> None:
    records = sides_of(store).records
    one, other = Numbers(records, "x"), Numbers(records, "x")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda nth: (one if nth % 2 else other).next(), range(600)))
    assert len(set(found)) == 600
    assert min(found) == 1


def test_they_grow_and_go_on_after_a_restart(store: Store) -> None:
    records = sides_of(store).records
    before = [Numbers(records, "x").next() for _ in range(3)]
    assert before == sorted(set(before))
    assert Numbers(records, "y").next() == 1
