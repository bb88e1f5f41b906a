"""The stores that every contract is tested on: each test has an empty one of its own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskbus.adapter.memory import MemoryStore
from taskbus.port.backlog import Backlog
from taskbus.port.expiry import Expiry
from taskbus.port.keys import Keys
from taskbus.port.limits import Limits
from taskbus.port.links import Links
from taskbus.port.records import Records
from taskbus.port.sides import Sides
from taskbus.port.store import Store
from taskbus.wire import open_sides
from tests.support.mariadb import MariaDb
from tests.support.mongo import MongoDb, RealMongoDb
from tests.support.sides import sides_of

SHARED = ("sqlite", "mariadb", "mongo")


def _url(kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'taskbus.db'}"
    server: MariaDb | MongoDb | RealMongoDb = request.getfixturevalue(kind)
    return server.database()


@pytest.fixture(params=["memory", *SHARED])
def sides(request: pytest.FixtureRequest) -> Iterator[Sides]:
    kind: str = request.param
    made = sides_of(MemoryStore()) if kind == "memory" else open_sides(_url(kind, request))
    with closing(made.store):
        yield made


@pytest.fixture
def store(sides: Sides) -> Store:
    return sides.store


@pytest.fixture(params=SHARED)
def shared_url(request: pytest.FixtureRequest) -> str:
    """Of a store that several processes may use."""
    return _url(request.param, request)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """SQLite's."""
    return f"sqlite:///{tmp_path / 'taskbus.db'}"


@pytest.fixture
def keys(sides: Sides) -> Keys:
    return sides.keys


@pytest.fixture
def backlog(sides: Sides) -> Backlog:
    return sides.backlog


@pytest.fixture
def links(sides: Sides) -> Links:
    return sides.links


@pytest.fixture
def expiry(sides: Sides) -> Expiry:
    return sides.expiry


@pytest.fixture
def limits(sides: Sides) -> Limits:
    return sides.limits


@pytest.fixture
def records(sides: Sides) -> Records:
    return sides.records
