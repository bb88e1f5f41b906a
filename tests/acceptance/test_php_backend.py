"""PHP classes on the running bus: two processes of a backend in PHP share one namespace."""

import json
import os
import queue
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from autobahn.wamp.exception import ApplicationError

from taskbus.adapter.process import Presence
from tests.support.access_keys import new_key
from tests.support.metrics import counted
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.raw_wamp import RawCaller, raw_caller
from tests.support.router import Session
from tests.support.site import Site, alive, eventually, make_site, running_site
from tests.support.web import Client

pytestmark = pytest.mark.acceptance

NAMESPACE = "com.example.called"
CALLED, BRIEF, LATER, UNIQUE, PYTHON, COUNTED = (
    f"{NAMESPACE}.{name}" for name in ("now", "brief", "later", "unique", "python", "counted.*")
)
BELOW = f"{NAMESPACE}.below.it"
PROGRAM = f"php-{NAMESPACE}"
PROCESSES = [f"{PROGRAM}-00", f"{PROGRAM}-01"]
DOC = (REPOSITORY / "docs/php.md").read_text()
SETTINGS = f"""
[php]
tasks = "tasks"
client = "{REPOSITORY}/clients/php"
processes = 2
"""
ENTRIES = f"""
[api."{CALLED}"]
php = "Called"
[api."{BRIEF}"]
php = "Called"
timeout = 0.5
[api."{NAMESPACE}.below.*"]
php = "Called"
[api."{COUNTED}"]
php = "Called"
[api."{NAMESPACE}.missing"]
php = "No\\\\Such"
[api."{LATER}"]
php = "Called"
mode = "background"
[api."{UNIQUE}"]
php = "Called"
mode = "background"
unique = true
[api."{PYTHON}"]
python = "tests.support.tasks:pid"
mode = "background"
"""


def of_doc(language: str, number: int) -> str:
    """One of the documentation's pieces in this language."""
    found: str = re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.DOTALL | re.MULTILINE)[number]
    return found


def make_tasks(folder: Path) -> None:
    """The classes of the site: a test's, the examples', and the documentation's."""
    (folder / "Shop").mkdir(parents=True)
    (folder / "Shop/CountStock.php").write_text(of_doc("php", 0))
    (folder / "Example").symlink_to(REPOSITORY / "workers/php/Example")
    (folder / "Called.php").symlink_to(REPOSITORY / "tests/support/php/Called.php")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder:
        make_tasks(Path(folder) / "tasks")
        with running_site(Path(folder), SETTINGS, ENTRIES + of_doc("toml", 0)) as up:
            yield up


@pytest.fixture
def caller(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


@pytest.fixture
def raw(site: Site) -> Iterator[RawCaller]:
    with raw_caller(site.socket, "operator", site.ticket("operator")) as session:
        yield session


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, str, dict[str, Any]]:
    """The URI, the message and the keywords of the error that a call ends with."""
    with pytest.raises(ApplicationError) as caught:
        call(*args, **kwargs)
    error = caught.value
    return str(error.error), error.args[0] if error.args else "", error.kwargs


class Held(NamedTuple):
    """A call that waits in PHP: its process, the backend's, and what waits for its result."""

    pid: int
    backend: int
    result: Callable[[], Any]


class Gate:
    """A pipe with a name, from which each call that waits reads a byte."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self.pipe = str(pipe)
        self._fd = os.open(pipe, os.O_RDWR)

    def hold(self, session: Session, what: str = "hold", uri: str = CALLED) -> Held:
        """A call that is there now, and waits."""
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        result = session.begin(uri, what, self.pipe, on_progress=said.put)
        pid, backend = said.get(timeout=PATIENCE)["message"].split()
        return Held(int(pid), int(backend), result)

    def let_pass(self, count: int = 1) -> None:
        os.write(self._fd, b"." * count)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.close()


def backends(site: Site) -> list[int]:
    """The processes, once all of them serve."""

    def look() -> list[int]:
        found = [Presence.look(site.var / "run", name) for name in PROCESSES]
        return [one["pid"] for one in found if one] if all(found) else []

    return eventually(look)


def log_of(site: Site) -> str:
    return (site.var / f"log/{PROGRAM}.log").read_text()


def has_said(site: Site, words: str) -> bool:
    """Whether the log has these words."""
    return words in log_of(site)


def says(site: Site, words: str) -> bool:
    """Whether these are the newest words of the log."""
    return log_of(site).rstrip().endswith(words)


def await_end(pid: int) -> None:
    eventually(lambda: not alive({pid}))


def test_results_as_they_are_sent(raw: RawCaller) -> None:
    args = '["give",{},[],{"a":{},"b":[]},1.0,1,-0.5,9223372036854775807,"zażółć 🚀",null,true]'
    kwargs = '{"名":{},"list":[]}'
    done, answer = raw.call(CALLED, args, kwargs)
    assert done
    assert json.dumps(answer) == json.dumps([json.loads(args)[1:], json.loads(kwargs)])
    assert raw.call(CALLED, '["give"]') == (True, [])


def test_large_arguments_and_results(caller: Session) -> None:
    text = "é" * 6_000_000
    assert caller.call(CALLED, "give", text) == text


@pytest.mark.parametrize(
    ("does", "error", "message", "about"),
    [
        ("fail", "com.example.error.no_shop", "no such shop", {"shop": "x"}),
        ("silence", "com.example.error.no_shop", "no such shop", {"shop": "x"}),
        ("crash", "taskbus.error.task_failed", "DomainException: of all things",
         {"type": "DomainException"}),
        ("leave", "taskbus.error.task_failed", "the task called exit()",
         {"remedy": "return a result, or throw a Taskbus\\TaskFailure"}),
        ("undefined", "taskbus.error.task_failed",
         "Error: Call to undefined function no_such_function()", {"type": "Error"}),
        ("suicide", "taskbus.error.killed", "the process that ran it was killed by signal 9", {}),
    ],
)  # fmt: skip
def test_whatever_a_task_does_is_an_answer(
    site: Site, caller: Session, does: str, error: str, message: str, about: dict[str, Any]
) -> None:
    before = backends(site)
    assert refused(caller.call, CALLED, does) == (error, message, about)
    assert caller.call(CALLED, "give", 1) == 1
    assert backends(site) == before


def test_a_task_that_uses_up_the_memory_is_an_answer(caller: Session) -> None:
    error, message, about = refused(caller.call, CALLED, "exhaust")
    assert (error, about) == ("taskbus.error.task_failed", {"type": "fatal error"})
    assert message.startswith("Allowed memory size of 33554432 bytes exhausted")


def test_a_class_that_cannot_be_loaded_is_an_answer_and_stops_nobody(
    site: Site, caller: Session
) -> None:
    error, message, about = refused(caller.call, f"{NAMESPACE}.missing")
    file = site.folder / "tasks/No/Such.php"
    assert error == "taskbus.error.task_failed"
    assert message == f"cannot load the class No\\Such: there is no file {file}"
    assert about["remedy"] == "write it, or correct the name in the API map"
    assert f"{NAMESPACE}.missing: {message}" in log_of(site)


def test_arguments_that_php_cannot_read_are_refused(raw: RawCaller) -> None:
    for args, problem in (
        ('["give",{"\\u0000a":1}]', "args: PHP cannot read them"),
        ('["give","\\u0000!"]', "args[1]: a text that begins with NUL"),
        (f'["give",{"[" * 150}{"]" * 150}]', "args[1]" + "[0]" * 64),
    ):
        done, (error, [message], about) = raw.call(CALLED, args)
        assert (done, error) == (False, "taskbus.error.invalid_argument")
        assert message.startswith(problem)
        assert about["remedy"]


def test_who_calls_and_the_trace_are_in_the_details(raw: RawCaller) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    done, [[[uri, details]]] = raw.call(
        f"{NAMESPACE}.below.it", '["told"]', options={"transaction_hash": f"{trace};a=b"}
    )
    assert done
    assert uri == details.pop("procedure") == f"{NAMESPACE}.below.it"
    assert isinstance(details.pop("caller"), int)
    told = details.pop("trace")
    assert told["traceparent"].split("-")[1] == trace.split("-")[1]
    assert told["traceparent"].split("-")[2] != trace.split("-")[2]
    assert told["tracestate"] == "a=b"
    assert details == {"caller_authid": "operator", "caller_authrole": "operator"}


def test_progress_is_heard(caller: Session) -> None:
    heard: list[Any] = []
    assert caller.begin(CALLED, "steps", on_progress=heard.append)() == 2
    assert heard == [{"fraction": 0.25, "message": "zażółć"}, {"fraction": 1.0, "message": ""}]
    # To whom did not ask for it, it is not told.
    assert caller.call(CALLED, "steps") == 2


def test_what_a_task_prints_is_in_the_log_and_harms_nothing(site: Site, caller: Session) -> None:
    assert caller.call(CALLED, "say") == 1
    eventually(lambda: "warned" in log_of(site))
    said = log_of(site)
    for line in ("echoed\n", "written\n", "passed\n", "warned in "):
        assert line in said


def test_a_call_ends_as_its_process_does(site: Site, caller: Session) -> None:
    assert caller.call(CALLED, "last") == 1
    for words in ("destructed\n", "said at the end\n", "held back\n"):
        eventually(partial(has_said, site, words))


def test_a_process_that_a_task_forks_does_not_answer_for_it(caller: Session) -> None:
    assert caller.call(CALLED, "fork") == 1
    assert caller.call(CALLED, "twins") == "the parent"


def test_nothing_is_to_be_read_from_stdin(caller: Session) -> None:
    assert caller.call(CALLED, "listen") == "end\n"


def test_two_calls_do_not_draw_the_same_numbers(caller: Session) -> None:
    assert len({caller.call(CALLED, "draw") for _ in range(4)}) == 4


@contextmanager
def by_hand(site: Site, tasks: Path) -> Iterator[int]:
    """A third process for ``BELOW``."""
    with subprocess.Popen(
        [
            "php", REPOSITORY / "clients/php/wamp.php", BELOW.removesuffix(".it"),
            "--router", f"unix:{site.socket}",
            "--secret-file", site.var / "secrets/php",
            "--tasks", tasks,
        ],
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr
            assert any("serving 1 URIs" in line for line in process.stderr)
            yield process.pid
        finally:
            process.kill()


def until(caller: Session, does: str, backend: int) -> None:
    """Call it until that process has run it; they take turns."""
    assert backend in [caller.call(BELOW, does) for _ in range(2 * len(PROCESSES) + 2)]


def hold_in(backend: int, caller: Session, gate: Gate) -> tuple[int, Held]:
    """A call that waits in this process, and how many do by now."""
    for count in range(1, 2 * len(PROCESSES) + 3):
        held = gate.hold(caller, uri=BELOW)
        if held.backend == backend:
            return count, held
    raise AssertionError(f"{backend} takes no calls")


def outlives(backend: int, caller: Session, gate: Gate, does: str) -> None:
    """A call in this process is none the worse for two others that do this."""
    count, held = hold_in(backend, caller, gate)
    for _ in range(2):
        until(caller, does, backend)
    gate.let_pass(count)
    assert held.result() == held.pid


def test_a_destructor_that_throws_concerns_its_own_call_alone(
    site: Site, caller: Session, gate: Gate
) -> None:
    with by_hand(site, site.folder / "tasks") as backend:
        outlives(backend, caller, gate, "regret")


def test_an_error_handler_of_the_sites_code_is_for_its_calls(
    site: Site, caller: Session, gate: Gate, tmp_path: Path
) -> None:
    (tmp_path / "Called.php").write_text(f"""<?php
    set_error_handler(fn ($level, $words) => throw new ErrorException($words, 0, $level));
    require '{REPOSITORY}/tests/support/php/Called.php';
    """)
    with by_hand(site, tmp_path) as backend:
        outlives(backend, caller, gate, "strict")


def test_a_call_that_is_queued_becomes_the_job_that_python_would_make_of_it(
    caller: Session, raw: RawCaller
) -> None:
    ours, theirs = (
        caller.call("taskbus.job.get", caller.call(uri, "give", 1, x={})) for uri in (LATER, PYTHON)
    )
    for job, uri in ((ours, LATER), (theirs, PYTHON)):
        assert job["uri"] == job["details"].pop("procedure", uri) == uri
    for name in ("args", "kwargs", "details", "priority", "timeout", "retries", "queue", "tags"):
        assert ours[name] == theirs[name], name
    assert ours["details"]["caller_authid"] == "operator"
    assert ours["args"] == ["give", 1]
    assert ours["kwargs"] == {"x": {}}
    result = caller.call("taskbus.job.wait", ours["id"])
    assert (result.results, result.kwresults) == ((1,), {"x": {}})
    # Larger than PHP's own integers, and passed on as it is.
    done, [[id_]] = raw.call(LATER, '["give",18446744073709551615,{},[]]')
    assert done
    assert caller.call("taskbus.job.get", id_)["args"] == ["give", 2**64 - 1, {}, []]


def test_a_queued_call_is_refused_as_python_would(raw: RawCaller) -> None:
    done, (error, [message], about) = raw.call(LATER, '["\\u0000!"]')
    assert (done, error) == (False, "taskbus.error.invalid_argument")
    assert (message.split(":")[0], about["field"]) == ("args[0]", "args[0]")


def test_the_options_of_the_map_hold_for_a_queued_call(caller: Session, gate: Gate) -> None:
    one, other = (caller.call(UNIQUE, "hold", gate.pipe) for _ in range(2))
    assert one == other
    gate.let_pass()
    assert caller.call("taskbus.job.wait", one) > 0


def test_calls_that_block_keep_nobody_waiting_and_both_processes_take_them(
    site: Site, caller: Session, gate: Gate
) -> None:
    held = [gate.hold(caller) for _ in range(8)]
    assert {one.backend for one in held} == set(backends(site))
    assert len({one.pid for one in held}) == 8
    assert [caller.call(CALLED, "give", n) for n in range(8)] == list(range(8))
    gate.let_pass(8)
    assert [one.result() for one in held] == [one.pid for one in held]


def test_a_call_beyond_its_time_is_ended_with_its_programs(caller: Session, gate: Gate) -> None:
    held = gate.hold(caller, "program", BRIEF)
    error = refused(held.result)
    assert error == ("taskbus.error.timeout", f"{BRIEF} did not end within 0.5 seconds", {})
    await_end(held.pid)


def test_a_call_that_is_cancelled_is_ended_with_its_programs(raw: RawCaller, gate: Gate) -> None:
    [_, _, _, [told]] = raw.begin(CALLED, json.dumps(["program", gate.pipe]))
    assert raw.cancel()[4] == "wamp.error.canceled"
    await_end(int(told["message"].split()[0]))


def test_a_call_whose_caller_has_gone_is_ended(site: Site, gate: Gate) -> None:
    with raw_caller(site.socket, "operator", site.ticket("operator")) as gone:
        [_, _, _, [told]] = gone.begin(CALLED, json.dumps(["hold", gate.pipe]))
    await_end(int(told["message"].split()[0]))


def one_each(site: Site, caller: Session, gate: Gate) -> list[Held]:
    """Calls that wait in the first process, and in the second."""
    found: dict[int, Held] = {}
    wanted = backends(site)
    while set(found) != set(wanted):
        held = gate.hold(caller)
        assert held.backend not in found
        found[held.backend] = held
    return [found[pid] for pid in wanted]


def test_a_process_that_is_killed_fails_its_own_calls_alone(
    site: Site, caller: Session, gate: Gate
) -> None:
    killed, other = one_each(site, caller, gate)
    os.kill(killed.backend, signal.SIGKILL)
    assert refused(killed.result)[0] == "wamp.error.canceled"
    await_end(killed.pid)
    assert [caller.call(CALLED, "give", n) for n in range(4)] == list(range(4))
    gate.let_pass()
    assert other.result() == other.pid
    assert killed.backend not in backends(site)


def test_a_process_that_is_told_to_stop_lets_its_calls_finish(
    site: Site, caller: Session, gate: Gate
) -> None:
    stopped, other = one_each(site, caller, gate)
    os.kill(stopped.backend, signal.SIGTERM)
    eventually(partial(says, site, "stopping; 1 calls in hand"))
    # It takes no more of them.
    more = [gate.hold(caller) for _ in range(2)]
    assert {one.backend for one in more} == {other.backend}
    gate.let_pass(4)
    assert [one.result() for one in (stopped, other, *more)]
    await_end(stopped.backend)
    assert stopped.backend not in backends(site)


def test_a_second_term_ends_the_calls_in_hand(site: Site, caller: Session, gate: Gate) -> None:
    stopped, other = one_each(site, caller, gate)
    for count in (1, 2):
        os.kill(stopped.backend, signal.SIGTERM)
        words = "stopping; 1 calls in hand" if count == 1 else "not waiting for 1 calls"
        eventually(partial(says, site, words))
    assert refused(stopped.result)[0] == "taskbus.error.stopped"
    await_end(stopped.pid)
    gate.let_pass()
    assert other.result() == other.pid
    await_end(stopped.backend)


def test_a_router_that_restarts_is_joined_again(site: Site, gate: Gate) -> None:
    before = backends(site)
    with site.joined() as caller:
        held = gate.hold(caller)
        site.supervisorctl("restart", "router")
    await_end(held.pid)
    site.await_ready()
    with site.joined() as caller:
        assert {caller.call(CALLED, "give", n) for n in range(4)} == set(range(4))
    assert backends(site) == before


def test_calls_are_counted_and_a_restart_does_not_undo_it(site: Site, caller: Session) -> None:
    scrape = Client(site, f"Bearer {new_key(site, 'metrics:*').token}")

    def calls(outcome: str) -> float:
        return counted(scrape, "taskbus_calls_total", task=COUNTED, outcome=outcome)

    def call() -> None:
        assert caller.call(f"{NAMESPACE}.counted.one", "give", 1) == 1
        refused(caller.call, f"{NAMESPACE}.counted.two", "leave")

    call()
    eventually(lambda: (calls("succeeded"), calls("failed")) == (1, 1))
    assert site.supervisorctl("restart", f"{PROGRAM}:*").returncode == 0
    site.await_ready()
    call()
    eventually(lambda: (calls("succeeded"), calls("failed")) == (2, 2))
    assert counted(scrape, "taskbus_call_seconds_count", task=COUNTED) == 4


def test_a_backend_may_do_nothing_else(site: Site, caller: Session) -> None:
    with site.joined("php") as backend:
        for uri, *args in ((CALLED, "give"), ("taskbus.job.list",), ("taskbus.bus.status",)):
            assert refused(backend.call, uri, *args)[0] == "wamp.error.not_authorized"
        assert refused(backend.register, print, "com.elsewhere.x")[0] == "wamp.error.not_authorized"
        [entry] = [
            one
            for one in backend.call("taskbus.api.list", namespace=NAMESPACE)
            if one["uri"] == LATER
        ]
        assert entry["class"] == "Called"
        wrong: Sequence[Any]
        for wrong in ((LATER, {}), (PYTHON, {}, [[], {}]), (LATER, {}, {})):
            error, _, about = refused(backend.call, "taskbus.php.enqueue", *wrong)
            assert error == "taskbus.error.invalid_argument"
            assert about["remedy"]
    error, _, _ = refused(caller.call, "taskbus.php.enqueue", LATER, {}, [[], {}])
    assert error == "wamp.error.not_authorized"
    assert "class" not in caller.call("taskbus.api.list")[0]


def test_the_class_in_the_documentation_works(caller: Session) -> None:
    result = caller.call("com.example.stock.count", "north")
    assert (result.results, result.kwresults) == ((42,), {"shop": "north"})
    error = refused(caller.call, "com.example.stock.count", 1)
    assert error == ("com.example.error.no_shop", "no such shop", {"shop": 1})


def test_the_caller_in_the_documentation_works(site: Site, tmp_path: Path) -> None:
    (tmp_path / "clients").symlink_to(REPOSITORY / "clients")
    (tmp_path / "var").symlink_to(site.var)
    (tmp_path / "caller.php").write_text(of_doc("php", 1))
    done = php("caller.php", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *steps, last = done.stdout.splitlines()
    assert re.fullmatch(r"\d+ of \d+ bytes are free", first)
    assert steps == [f"{25 * n}% step {n} of 4" for n in (1, 2, 3, 4)]
    assert last == (
        "com.example.widget.error.no_folder: there is no such folder; send the path of a folder"
    )


PUBLISHER = r"""
[, $client, $socket, $secret, $topic] = $argv;
require "$client/autoload.php";
$bus = Taskbus\Wamp\Session::open(
    new Taskbus\Wamp\Loop(), "unix:$socket", "realm1", "control", trim(file_get_contents($secret)));
$bus->publish($topic, [1.0, new stdClass()], ["a" => []]);
$bus->leave();
"""


def test_it_publishes(site: Site) -> None:
    topic, client = f"{NAMESPACE}.topic", str(REPOSITORY / "clients/php")
    with site.joined("control") as session:
        events = session.subscribe(topic)
        secret = str(site.var / "secrets/control")
        done = php("-r", PUBLISHER, client, str(site.socket), secret, topic)
        assert (done.returncode, done.stderr) == (0, "")
        assert events.get(timeout=PATIENCE) == ((1.0, {}), {"a": []})


MISTAKEN = r"""
[, $client, $socket, $secret, $uri] = $argv;
require "$client/autoload.php";
$ticket = trim(file_get_contents($secret));
$bus = Taskbus\Wamp\Session::open(
    new Taskbus\Wamp\Loop(), "unix:$socket", "realm1", "operator", $ticket);
$wrong = [
    fn () => $bus->call($uri, ["give", "\0!"]),
    fn () => $bus->call($uri, ["give", NAN]),
    fn () => $bus->call($uri, array_filter(["give", 0, 1])),
    fn () => $bus->publish($uri, ["name" => 1]),
    fn () => $bus->publish($uri, [], ["a" => ["b" => "\xff"]]),
    fn () => $bus->publish($uri, [str_repeat("x", 1 << 24)]),
    fn () => $bus->call("two words"),
    fn () => $bus->register("a..*", fn () => null),
];
foreach ($wrong as $try) {
    try {
        $try();
    } catch (Taskbus\Wamp\Refused $refused) {
        echo $refused->getMessage(), "\n";
    }
}
echo $bus->call($uri, ["give", "taken"])->value(), "\n";
"""


def test_what_would_end_the_session_is_refused_before(site: Site) -> None:
    client, secret = REPOSITORY / "clients/php", site.var / "secrets/operator"
    done = php("-r", MISTAKEN, str(client), str(site.socket), str(secret), CALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "args[1]: a text that begins with NUL (taskbus.error.invalid_argument)",
        "args[1]: not a finite number (taskbus.error.invalid_argument)",
        "args: not a list (taskbus.error.invalid_argument)",
        "args: not a list (taskbus.error.invalid_argument)",
        "kwargs.a.b: a text that is not valid UTF-8 (taskbus.error.invalid_argument)",
        "the arguments are larger than the router takes; send less (taskbus.error.unsendable)",
        "uri: not a URI (taskbus.error.invalid_argument)",
        "uri: not a URI (taskbus.error.invalid_argument)",
        "taken",
    ]


def php(*words: str, cwd: Path = REPOSITORY) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["php", *words],
        capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=cwd,
    )  # fmt: skip


def run(site: Site, namespace: str, secret: Path) -> "subprocess.CompletedProcess[str]":
    program, router = REPOSITORY / "clients/php/wamp.php", f"unix:{site.socket}"
    return php(str(program), namespace, "--router", router, "--secret-file", str(secret))


def test_it_says_why_it_cannot_serve(site: Site, tmp_path: Path) -> None:
    wrong = tmp_path / "secret"
    wrong.touch(0o600)
    wrong.write_text("not it\n")
    done = run(site, NAMESPACE, wrong)
    assert done.returncode == 3
    assert "the router does not let php in: the ticket is wrong" in done.stderr
    assert str(wrong) in done.stderr
    done = run(site, "com.example.dante", site.var / "secrets/php")
    assert done.returncode == 4
    assert "the API map has no php entry below com.example.dante" in done.stderr


def test_a_class_of_the_map_that_is_not_there_is_found_by_check(tmp_path: Path) -> None:
    site = make_site(tmp_path, entries=f'[api."{NAMESPACE}.missing"]\nphp = "No\\\\Such"\n')
    done = site.taskbus("check")
    line = len((tmp_path / "api.toml").read_text().splitlines())
    assert done.returncode == 4
    place = f"{tmp_path}/api.toml:{line}: {NAMESPACE}.missing"
    assert f"{place}: cannot load the class No\\Such: " in done.stderr
    assert f"there is no file {REPOSITORY}/workers/php/No/Such.php" in done.stderr
