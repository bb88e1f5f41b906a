"""Job ids."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskbus.model import identity
from taskbus.model.identity import is_job_id, new_job_id
from taskbus.model.uri import check_uri


def test_form() -> None:
    made = new_job_id()
    assert re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", made)
    assert is_job_id(made)
    check_uri(f"taskbus.job.{made}")


@pytest.mark.parametrize(
    "text", [None, 1, "", "0" * 25, "0" * 27, "0" * 25 + "u", "0" * 25 + "A", b"0" * 26]
)
def test_other_forms(text: object) -> None:
    assert not is_job_id(text)


def test_ids_sort_by_creation() -> None:
    made = [new_job_id() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_ids_of_several_threads_differ_and_sort() -> None:
    threads = 8
    begin = threading.Barrier(threads, timeout=60)

    def make() -> list[str]:
        begin.wait()
        return [new_job_id() for _ in range(3000)]

    with ThreadPoolExecutor(threads) as pool:
        found = [one.result() for one in [pool.submit(make) for _ in range(threads)]]
    assert all(made == sorted(made) for made in found)
    assert len({one for made in found for one in made}) == threads * 3000


def test_ids_go_on_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_job_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    after = [new_job_id() for _ in range(100)]
    assert [before, *after] == sorted({before, *after})


def test_the_time_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: 1469918176385 * 1_000_000)
    # The example of ULID's specification.
    assert new_job_id().startswith("01aryz6s41")
