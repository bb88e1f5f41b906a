"""The stores that every contract is tested on: each test has an empty one of its own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.adapter.memory_limits import MemoryLimits
from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_limits import SqlLimits
from taskbus.port.limits import Limits
from taskbus.port.store import Store
from taskbus.wire import open_store
from tests.support.mariadb import MariaDb, running_mariadb

SQL = ("sqlite", "mariadb")
SHARED = SQL


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    with running_mariadb() as server:
        yield server


def _url(kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'taskbus.db'}"
    server: MariaDb = request.getfixturevalue("mariadb")
    return server.database()


@pytest.fixture(params=["memory", *SHARED])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    kind: str = request.param
    made: Store = MemoryStore() if kind == "memory" else open_store(_url(kind, request))
    with closing(made):
        yield made


@pytest.fixture(params=SHARED)
def shared_url(request: pytest.FixtureRequest) -> str:
    """Of a store that several processes may use."""
    return _url(request.param, request)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """SQLite's."""
    return f"sqlite:///{tmp_path / 'taskbus.db'}"


@pytest.fixture
def limits(store: Store) -> Limits:
    if isinstance(store, SqlStore):
        return SqlLimits(store)
    assert isinstance(store, MemoryStore)
    return MemoryLimits(store)
