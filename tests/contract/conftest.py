"""The stores that every contract is tested on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.sql import SqlStore
from taskbus.port.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'taskbus.db'}"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, url: str) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqlStore(url)
    with closing(made):
        yield made
