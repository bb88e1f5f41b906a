"""What every queue has to do; see ``taskbus.port.queue``."""

import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

import greenstalk
import pytest

from taskbus.adapter.beanstalkd import BeanstalkdQueue
from taskbus.adapter.memory import MemoryBroker, MemoryQueue
from taskbus.model.errors import QueueUnavailable
from taskbus.model.identity import new_job_id
from taskbus.model.job import Placement
from taskbus.model.options import DEFAULT_QUEUE
from taskbus.port.queue import Delivery, Queue, QueueStats
from tests.support.beanstalkd import Beanstalkd, running_beanstalkd
from tests.support.processes import PATIENCE
from tests.support.site import eventually


class Service(Protocol):
    """A queue server, as these tests need it."""

    def connect(self, *queues: str) -> Queue:
        """A new connection, to take from these queues, or from the default one."""

    def stop(self) -> None:
        """The server crashes."""

    def start(self) -> None:
        """It comes back."""


class MemoryService:
    def __init__(self, connections: ExitStack) -> None:
        self._connections = connections
        self._broker = MemoryBroker()
        self.stop, self.start = self._broker.stop, self._broker.start

    def connect(self, *queues: str) -> Queue:
        queue = MemoryQueue(self._broker, queues or (DEFAULT_QUEUE,))
        self._connections.callback(queue.close)
        return queue


class BeanstalkdService:
    def __init__(self, connections: ExitStack, server: Beanstalkd) -> None:
        self._connections = connections
        self.address = server.address
        self.stop, self.start, self.drain = server.stop, server.start, server.drain

    def connect(self, *queues: str, ttr: int = 60) -> Queue:
        queue = BeanstalkdQueue(self.address, ttr, queues or (DEFAULT_QUEUE,))
        self._connections.callback(queue.close)
        return queue


@contextmanager
def beanstalkd() -> Iterator[BeanstalkdService]:
    with (
        tempfile.TemporaryDirectory(prefix="taskbus-") as folder,
        running_beanstalkd(Path(folder)) as server,
        ExitStack() as connections,
    ):
        yield BeanstalkdService(connections, server)


@pytest.fixture(params=["memory", pytest.param("beanstalkd", marks=pytest.mark.integration)])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    if request.param == "beanstalkd":
        with beanstalkd() as made:
            yield made
    else:
        with ExitStack() as connections:
            yield MemoryService(connections)


@pytest.fixture
def queue(service: Service) -> Queue:
    return service.connect()


def put(queue: Queue, *jobs: str, priority: int = 500, into: str = DEFAULT_QUEUE) -> None:
    queue.put([Placement(job, priority, into) for job in jobs])


def take(queue: Queue) -> Delivery:
    """The next delivery, which has to come."""
    queue.request()
    return taken(queue)


def taken(queue: Queue) -> Delivery:
    """The delivery that was asked for, which has to come."""
    while True:
        assert is_readable(queue, PATIENCE)
        if delivery := queue.take():
            return delivery
        queue.request()


def is_readable(queue: Queue, seconds: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(queue.fileno(), select.POLLIN)
    return bool(poll.poll(seconds * 1000))


# Order


def test_equal_priorities_come_out_in_order(queue: Queue) -> None:
    jobs = [new_job_id() for _ in range(5)]
    put(queue, *jobs[:3])
    put(queue, *jobs[3:])
    assert [take(queue).job for _ in jobs] == jobs


def test_higher_priorities_come_out_earlier(queue: Queue) -> None:
    queue.put([Placement("low", 0), Placement("normal", 500), Placement("high", 1000)])
    put(queue, "also normal")
    put(queue, "also high", priority=1000)
    found = [take(queue).job for _ in range(5)]
    assert found == ["high", "also high", "normal", "also normal", "low"]


# Deletes with a request


def test_what_is_done_is_deleted_with_the_request_for_the_next(
    service: Service, queue: Queue
) -> None:
    put(queue, "first", "second")
    queue.request(done=take(queue))
    assert taken(queue).job == "second"
    assert service.connect().stats() == QueueStats(0, 1, 0)
    queue.close()
    assert take(service.connect()).job == "second"


def test_what_is_done_is_deleted_while_nothing_comes(service: Service, queue: Queue) -> None:
    other = service.connect()
    put(queue, "first")
    queue.request(done=take(queue))
    eventually(lambda: other.stats() == QueueStats(0, 0, 0))
    while is_readable(queue):
        assert queue.take() is None
        queue.request()
    put(other, "second", "third")
    assert taken(queue).job == "second"
    # It was asked for once.
    assert take(other).job == "third"


def test_what_is_done_may_be_gone_already(service: Service, queue: Queue) -> None:
    put(queue, "first", "second")
    done = take(queue)
    queue.delete(done)
    queue.request(done)
    assert taken(queue).job == "second"


def test_many_at_once(queue: Queue) -> None:
    jobs = [new_job_id() for _ in range(1200)]
    put(queue, *jobs)
    assert queue.stats().ready == 1200
    found = []
    for _ in jobs:
        delivery = take(queue)
        found.append(delivery.job)
        assert queue.delete(delivery)
    assert found == jobs
    assert queue.stats() == QueueStats(0, 0, 0)


def test_none_at_all(queue: Queue) -> None:
    queue.put([])
    assert queue.stats() == QueueStats(0, 0, 0)


def test_what_is_offered_is_there_and_told_once(queue: Queue) -> None:
    assert queue.taken() == []
    few = [Placement("low", 0), Placement("high", 900)]
    many = [Placement(new_job_id(), 500, "many") for _ in range(1200)]
    queue.offer(few)
    queue.offer(many)
    # Whatever else is said in between.
    put(queue, "put")
    assert queue.stats("many").ready == 1200
    queue.offer([Placement("last", 0)])
    assert queue.taken() == [*few, *many, Placement("last", 0)]
    assert queue.taken() == []
    assert [take(queue).job for _ in range(4)] == ["high", "put", "low", "last"]


def test_none_offered(queue: Queue) -> None:
    queue.offer([])
    assert queue.taken() == []


# Asking


def test_readable_when_there_is_a_delivery(service: Service) -> None:
    asking, other = service.connect(), service.connect()
    asking.request()
    assert not is_readable(asking)
    put(other, "job")
    assert taken(asking).job == "job"
    assert not is_readable(asking)


def test_take_waits(service: Service) -> None:
    asking, other = service.connect(), service.connect()
    asking.request()
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(asking.take)
        put(other, "job")
        found = taking.result(PATIENCE)
    assert found is not None
    assert found.job == "job"


def test_one_job_goes_to_one_of_those_who_asked(service: Service) -> None:
    first, second, other = service.connect(), service.connect(), service.connect()
    first.request()
    second.request()
    put(other, "one")
    assert taken(first).job == "one"
    assert not is_readable(second)
    put(other, "two")
    assert taken(second).job == "two"


def test_consumers_get_different_jobs(service: Service) -> None:
    consumers = 4
    jobs = [new_job_id() for _ in range(200)]
    put(service.connect(), *jobs)
    # Behind all others: the end, once for each.
    put(service.connect(), *["end"] * consumers, priority=0)
    begin = threading.Barrier(consumers, timeout=PATIENCE)

    def consume(queue: Queue) -> list[str]:
        begin.wait()
        found: list[str] = []
        while (delivery := take(queue)).job != "end":
            found.append(delivery.job)
            assert queue.delete(delivery)
        return found

    with ThreadPoolExecutor(consumers) as pool:
        work = [pool.submit(consume, service.connect()) for _ in range(consumers)]
        found = [job for one in work for job in one.result()]
    assert sorted(found) == sorted(jobs)


# Several queues


def test_who_asks_gets_what_is_in_its_queues(service: Service) -> None:
    plain, slow, other = service.connect(), service.connect("slow"), service.connect("x.y-z")
    plain.request()
    slow.request()
    put(other, "other's", into="x.y-z")
    assert not is_readable(plain)
    assert not is_readable(slow)
    put(other, "slow's", into="slow")
    assert taken(slow).job == "slow's"
    assert not is_readable(plain)
    put(slow, "default's")
    assert taken(plain).job == "default's"
    assert take(other).job == "other's"


def test_entries_of_several_queues_in_one_put(service: Service) -> None:
    queue = service.connect()
    names = [DEFAULT_QUEUE, "slow", "slow", DEFAULT_QUEUE, "fast"] * 300
    queue.put([Placement(f"{name} {nth}", 500, name) for nth, name in enumerate(names)])
    put(queue, "last")
    for name in (DEFAULT_QUEUE, "slow", "fast"):
        taker = service.connect(name)
        expected = [f"{name} {nth}" for nth, one in enumerate(names) if one == name]
        assert [take(taker).job for _ in expected] == expected
    assert take(queue).job == "last"


def test_priority_and_age_count_over_all_queues_of_one_who_asks(service: Service) -> None:
    queue = service.connect("a", "b")
    put(queue, "first", into="b")
    put(queue, "second", into="a")
    put(queue, "urgent", priority=1000, into="a")
    put(queue, "nobody's", priority=1000, into="c")
    assert [take(queue).job for _ in range(3)] == ["urgent", "first", "second"]


def test_what_comes_back_comes_back_to_its_queue(service: Service) -> None:
    plain, leaving, slow = service.connect(), service.connect("slow"), service.connect("slow")
    put(plain, "one", "two", into="slow")
    assert leaving.release(take(leaving), 0)
    take(leaving)
    leaving.close()
    plain.request()
    assert {take(slow).job, take(slow).job} == {"one", "two"}
    assert not is_readable(plain)


def test_stats_of_queues(service: Service) -> None:
    plain, slow = service.connect(), service.connect("slow")
    put(plain, "one")
    put(plain, "two", "three", "four", into="slow")
    delivery = take(slow)
    take(slow)
    assert plain.stats("default") == QueueStats(1, 0, 0)
    assert plain.stats("slow") == slow.stats("slow") == QueueStats(1, 2, 0)
    assert slow.release(delivery, 3600)
    assert plain.stats("slow") == QueueStats(1, 1, 1)
    assert plain.stats("slow", "default") == QueueStats(2, 1, 1)
    assert plain.stats("unknown") == QueueStats(0, 0, 0)
    assert plain.stats() == slow.stats() == QueueStats(2, 1, 1)


# Reservations


def test_a_deleted_job_is_gone(service: Service) -> None:
    queue = service.connect()
    put(queue, "job")
    delivery = take(queue)
    assert queue.delete(delivery)
    assert not queue.delete(delivery)
    assert not queue.touch(delivery)
    assert not queue.release(delivery, 0)
    assert queue.stats() == QueueStats(0, 0, 0)


def test_a_released_job_is_delivered_again_in_its_place(service: Service) -> None:
    queue, other = service.connect(), service.connect()
    put(queue, "high", priority=900)
    delivery = take(queue)
    put(queue, "normal")
    assert queue.release(delivery, 0)
    assert take(other).job == "high"
    assert take(other).job == "normal"


def test_a_job_released_with_a_delay_comes_later(service: Service) -> None:
    queue, other = service.connect(), service.connect()
    put(queue, "first")
    delivery = take(queue)
    other.request()
    assert queue.release(delivery, 0.3)
    assert not queue.touch(delivery)
    put(queue, "second")
    assert taken(other).job == "second"
    other.request()
    assert taken(other).job == "first"


def test_a_delayed_job_can_be_deleted(queue: Queue) -> None:
    put(queue, "job")
    delivery = take(queue)
    assert queue.release(delivery, 3600)
    assert queue.stats() == QueueStats(0, 0, 1)
    assert queue.delete(delivery)
    assert queue.stats() == QueueStats(0, 0, 0)


def test_touch_is_for_who_has_it(service: Service) -> None:
    queue, other = service.connect(), service.connect()
    put(queue, "job")
    delivery = take(queue)
    assert queue.touch(delivery)
    assert not other.touch(delivery)


def test_close_gives_back_what_was_reserved(service: Service) -> None:
    leaving, other = service.connect(), service.connect()
    put(leaving, "one", "two", "three")
    deliveries = [take(leaving), take(leaving)]
    other.request()
    assert taken(other).job == "three"
    other.request()
    leaving.close()
    leaving.close()  # Once more does no harm.
    assert taken(other).job == "one"
    assert take(other).job == "two"
    # It may come back, but what it had is not its own any more.
    for delivery in deliveries:
        assert not leaving.touch(delivery)
        assert not leaving.release(delivery, 0)
        assert not leaving.delete(delivery)


def test_close_gives_back_what_was_not_taken_yet(service: Service) -> None:
    leaving, other = service.connect(), service.connect()
    leaving.request()
    put(other, "job")
    assert is_readable(leaving, PATIENCE)
    leaving.close()
    assert take(other).job == "job"


def test_who_left_is_given_nothing(service: Service) -> None:
    leaving, other = service.connect(), service.connect()
    leaving.request()
    leaving.close()
    put(other, "job")
    assert take(other).job == "job"


def test_each_start_is_another_instance(service: Service) -> None:
    one, other = service.connect(), service.connect()
    first = one.instance()
    assert first == one.instance() == other.instance()
    service.stop()
    service.start()
    for queue in (one, other):
        with pytest.raises(QueueUnavailable):
            queue.stats()
        assert queue.instance() != first


def test_stats(service: Service) -> None:
    queue, other = service.connect(), service.connect()
    assert queue.stats() == QueueStats(0, 0, 0)
    put(queue, "one", "two", "three", "four")
    assert other.stats() == QueueStats(4, 0, 0)
    first = take(queue)
    take(other)
    assert queue.stats() == QueueStats(2, 2, 0)
    queue.release(first, 3600)
    assert queue.stats() == QueueStats(2, 1, 1)
    other.close()
    # The server may learn of that a moment later than the next connection's question.
    while (stats := queue.stats()) != QueueStats(3, 0, 1):
        assert stats == QueueStats(2, 1, 1)


# The server goes and comes


def test_everything_fails_while_the_server_is_gone(service: Service) -> None:
    queue = service.connect()
    put(queue, "job")
    delivery = take(queue)
    service.stop()
    never_connected = service.connect()
    for one in (queue, never_connected):
        for say in (
            lambda: put(one, "other"),  # noqa: B023
            lambda: one.offer([Placement("other", 500)]),  # noqa: B023
            one.request,
            one.fileno,
            one.stats,
            lambda: one.touch(delivery),  # noqa: B023
            lambda: one.delete(delivery),  # noqa: B023
            lambda: one.release(delivery, 1),  # noqa: B023
        ):
            with pytest.raises(QueueUnavailable):
                say()
        assert one.taken() == []
        one.close()


def test_who_waits_for_a_delivery_learns_that_the_server_is_gone(service: Service) -> None:
    queue = service.connect()
    queue.request()
    service.stop()
    assert is_readable(queue, PATIENCE)
    with pytest.raises(QueueUnavailable):
        queue.take()


def test_entries_are_there_when_the_server_is_back(service: Service) -> None:
    queue, other = service.connect(), service.connect()
    put(queue, "one", "two")
    put(other, "three")
    put(other, "urgent", priority=1000)
    reserved = take(queue)
    assert reserved.job == "urgent"
    service.stop()
    with pytest.raises(QueueUnavailable):
        put(queue, "never")
    service.start()
    # Where nobody had to say anything meanwhile, the break is noticed now.
    with pytest.raises(QueueUnavailable):
        put(other, "never")
    for one in (queue, other):
        assert one.stats() == QueueStats(4, 0, 0)
    assert not queue.touch(reserved)
    put(other, "four")
    assert [take(queue).job for _ in range(5)] == ["urgent", "one", "two", "three", "four"]


# beanstalkd alone


@pytest.mark.integration
def test_beanstalkd_asks_to_ask_again_before_a_reservation_ends() -> None:
    with beanstalkd() as service:
        queue = service.connect(ttr=2)
        put(queue, "job")
        take(queue)
        queue.request()
        assert is_readable(queue, PATIENCE)
        assert queue.take() is None


def test_a_reservation_that_has_ended_is_another_ones() -> None:
    with beanstalkd() as service:
        queue, other = service.connect(ttr=2), service.connect()
        put(queue, "job")
        delivery = take(queue)
        other.request()
        # Beanstalkd 1.12 sometimes does not see that the time is over until the owner says a word.
        while not is_readable(other, 0.1):
            queue.stats()
        assert taken(other).job == "job"
        assert not queue.touch(delivery)
        assert not queue.release(delivery, 0)
        assert not queue.delete(delivery)


@pytest.mark.integration
def test_what_is_no_text_is_delivered_and_deleted_like_any_other() -> None:
    with beanstalkd() as service:
        with closing(greenstalk.Client(service.address, use="taskbus", encoding=None)) as stranger:
            stranger.put(b"\xff\xfe\0", priority=0)
        queue = service.connect()
        put(queue, "job")
        delivery = take(queue)
        assert delivery.job == "\\xff\\xfe\0"
        assert queue.delete(delivery)
        assert take(queue).job == "job"


@pytest.mark.integration
def test_a_server_that_takes_no_more_says_why() -> None:
    with beanstalkd() as service:
        queue = service.connect()
        put(queue, "job")
        service.drain()
        with pytest.raises(QueueUnavailable, match="refuses: DrainingError"):
            put(queue, "other")
        queue.offer([Placement("other", 500)])
        with pytest.raises(QueueUnavailable, match="refuses: DrainingError"):
            queue.taken()
        # What it has, it still gives.
        assert take(queue).job == "job"


@pytest.mark.parametrize("way", ["put", "offer"])
def test_an_answer_that_breaks_off_is_an_unavailable_queue(way: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="taskbus-") as folder,
        socket.socket(socket.AF_UNIX) as server,
    ):
        address = f"{folder}/half.sock"
        server.bind(address)
        server.listen()
        done = threading.Event()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"USING taskbus\r\nWATCHING 2\r\nWATCHING 1\r\nINSER")
                connection.shutdown(socket.SHUT_WR)
                done.wait(PATIENCE)

        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(answer)
            queue = BeanstalkdQueue(address, 60)
            try:
                if way == "put":
                    with pytest.raises(QueueUnavailable):
                        put(queue, "job")
                else:
                    queue.offer([Placement("job", 500)])
                    with pytest.raises(QueueUnavailable):
                        queue.taken()
                    assert queue.taken() == []
            finally:
                done.set()
                queue.close()
            answering.result()
