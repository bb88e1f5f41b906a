"""A store on a server: what happens to connections, and between transactions."""

import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import pytest
from pymongo import MongoClient
from sqlalchemy import make_url

from taskbus.model.errors import StoreUnavailable
from taskbus.model.job import State, note
from taskbus.port.store import Store
from taskbus.wire import open_store
from tests.support.cutter import Cutter, cutter
from tests.support.mariadb import MariaDb
from tests.support.mongo import MongoDb, running_mongo
from tests.support.processes import PATIENCE
from tests.support.values import a_job, add, added, applied, running, start, succeeded

pytestmark = pytest.mark.integration

When = Literal["before", "after"]


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """PyMySQL leaves the socket of a connection that failed to the garbage collection."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoDb]:
    """One that may be stopped."""
    with running_mongo() as server:
        yield server


@pytest.fixture
def database(mariadb: MariaDb) -> str:
    return mariadb.database()


@pytest.fixture(params=["mariadb", "mongo"])
def server(request: pytest.FixtureRequest) -> MariaDb | MongoDb:
    found: MariaDb | MongoDb = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(server: MariaDb | MongoDb) -> Iterator[Store]:
    with closing(open_store(server.database())) as made:
        yield made


class Cut(NamedTuple):
    """A store whose connections can be cut, and at which words of it."""

    store: Store
    proxy: Cutter
    commit: bytes
    insert: bytes


@pytest.fixture
def cut(server: MariaDb | MongoDb) -> Iterator[Cut]:
    url = make_url(server.database())
    with cutter(server.address) as (proxy, address):
        if isinstance(address, str):
            url = url.update_query_dict({"unix_socket": address})
            words = b"COMMIT", b"INSERT INTO event"
        else:
            url = url.set(port=address[1])
            words = b"commitTransaction", b"insert"
        with closing(open_store(url.render_as_string(hide_password=False))) as made:
            yield Cut(made, proxy, *words)


def test_connections_that_break_between_calls_are_made_anew(
    store: Store, server: MariaDb | MongoDb
) -> None:
    job = added(store)
    assert store.jobs() == [job]
    assert server.cut() > 0
    assert store.job(job.id) == job
    server.cut()
    assert store.jobs() == [job]
    server.cut()
    job = applied(store, start(job))
    server.cut()
    assert store.renew(job, 2000.0)
    server.cut()
    assert store.position() == 2
    server.cut()
    applied(store, succeeded(job))
    server.cut()
    assert store.remove([job.id]) == [job.id]


@pytest.mark.parametrize(
    ("word", "when"), [("insert", "before"), ("commit", "before"), ("commit", "after")]
)
def test_a_submission_whose_connection_breaks_is_stored_once(
    cut: Cut, word: str, when: When
) -> None:
    jobs = [a_job() for _ in range(3)]
    cut.proxy.cut(getattr(cut, word), when)
    add(cut.store, *jobs)
    assert cut.proxy.cuts == 1
    assert cut.store.jobs() == jobs[::-1]
    assert [entry.position for entry in cut.store.journal(0, 9)] == [1, 2, 3]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_changed_is_told_though_the_answer_was_lost(cut: Cut, when: When) -> None:
    store, proxy = cut.store, cut.proxy
    taken, free = added(store), added(store)
    applied(store, start(taken, worker="host/2/2"))
    proxy.cut(cut.commit, when)
    assert store.advance([start(taken), start(free)]) == [False, True]
    assert proxy.cuts == 1
    assert store.job(free.id) == start(free).after
    assert len(store.events(free.id)) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_anothers_change_is_not_taken_for_ours(cut: Cut, when: When) -> None:
    store, proxy = cut.store, cut.proxy
    job = added(store)
    applied(store, start(job, worker="host/2/2"))
    proxy.cut(cut.commit, when)
    assert store.advance([start(job)]) == [False]
    assert proxy.cuts == 1


def test_a_server_that_is_down_is_told_and_used_again_when_it_is_back(
    store: Store, server: MariaDb | MongoDb
) -> None:
    job = running(store)
    server.stop()
    try:
        with pytest.raises(StoreUnavailable):
            added(store)
        with pytest.raises(StoreUnavailable):
            store.advance([succeeded(job)])
        with pytest.raises(StoreUnavailable):
            store.job(job.id)
    finally:
        server.start()
    assert store.job(job.id) == job
    assert dict(store.counts()) == {State.RUNNING: 1}
    applied(store, succeeded(job))
    assert added(store) is not None
    assert store.position() == 4


def test_transactions_that_lock_each_other_out_are_done_again(store: Store) -> None:
    one, other = running(store), running(store)
    rounds = 60
    begin = threading.Barrier(2, timeout=PATIENCE)

    def write(mine: list[str]) -> int:
        won = 0
        for _ in range(rounds):
            begin.wait()
            jobs = [store.job(job) for job in mine]
            changes = [note(job, 1002.0, [("output", {"text": "a"})]) for job in jobs if job]
            won += sum(store.advance(changes))
        return won

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(write, ([one.id, other.id], [other.id, one.id])))
    assert store.position() == 4 + sum(won)
    assert sum(won) >= 2 * rounds


def test_a_lock_that_is_held_for_a_while_is_waited_for(database: str, mariadb: MariaDb) -> None:
    name = make_url(database).database
    with (
        closing(open_store(database)) as store,
        ThreadPoolExecutor(1) as pool,
        mariadb.connected(name) as (db, cursor),
    ):
        job = added(store)
        db.begin()
        cursor.execute("SELECT * FROM job FOR UPDATE")
        waiting = pool.submit(applied, store, start(job))
        # Not from innodb_trx, which does not change while somebody reads it again and again.
        waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
        while mariadb.execute(waits)[0][1] == "0":
            assert not waiting.done()
        db.rollback()
        assert waiting.result().state is State.RUNNING


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql+pymysql://root@localhost/nothing?unix_socket={socket}", "nothing"),
        ("mysql+pymysql://root@localhost?unix_socket={socket}", "names no database"),
        ("mysql+pymysql://nobody:secret@localhost/x?unix_socket={socket}", "Access denied"),
        ("mysql+pymysql://root@localhost/x?unix_socket=/nowhere", "connect"),
        ("mysql+pymysqll://root@localhost/x", "cannot be used"),
        ("oracle://root@localhost/x", "cannot be used"),
        ("nonsense", "cannot be used"),
        ("mongodb://nobody:secret@127.0.0.1:9/x", "refused"),
        ("mongodb://127.0.0.1:9", "No default database"),
        ("mongodb://nobody:se/cret@127.0.0.1/x", "cannot be used"),
    ],
)
def test_a_url_that_leads_nowhere(mariadb: MariaDb, url: str, said: str) -> None:
    with pytest.raises(StoreUnavailable, match=said) as caught:
        open_store(url.format(socket=quote(mariadb.address)))
    assert "secret" not in str(caught.value)


def test_a_mongo_without_transactions_is_refused(tmp_path: Path) -> None:
    server = MongoDb(tmp_path)
    server.start("--standalone")
    try:
        with pytest.raises(StoreUnavailable, match="not part of a replica set"):
            open_store(server.database())
    finally:
        server.stop()


def test_another_schema_version_is_refused(mongo: MongoDb) -> None:
    url = mongo.database()
    open_store(url).close()
    with MongoClient[dict[str, object]](url) as client:
        meta = client.get_default_database()["meta"]
        meta.update_one({"_id": "schema"}, {"$set": {"version": 99}})
    with pytest.raises(StoreUnavailable, match="schema version 99"):
        open_store(url)


def test_a_server_whose_packets_are_too_small_is_refused(database: str, mariadb: MariaDb) -> None:
    before = mariadb.execute("SELECT @@GLOBAL.max_allowed_packet")[0][0]
    mariadb.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        with pytest.raises(StoreUnavailable, match="packets of 1048576 bytes"):
            open_store(database)
    finally:
        mariadb.execute(f"SET GLOBAL max_allowed_packet = {before}")
