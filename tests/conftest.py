"""Servers that several suites use: started once, where a test wants them."""

from collections.abc import Iterator

import pytest

from tests.support.mariadb import MariaDb, running_mariadb
from tests.support.mongo import MongoDb, RealMongoDb, some_mongo


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    with running_mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def mongo() -> Iterator[MongoDb | RealMongoDb]:
    with some_mongo() as server:
        yield server
