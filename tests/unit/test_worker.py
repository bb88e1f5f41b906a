"""The forker, its children, and attempts in them: real processes throughout."""

import base64
import json
import os
import signal
import socket
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from taskbus.model.job import Note
from taskbus.model.task import MOST_WARNINGS
from taskbus.worker.attempt import Attempt
from taskbus.worker.channel import (
    MOST_CHILDREN,
    FrameReader,
    receive_job,
    send_job,
    wait_readable,
)
from taskbus.worker.output import LARGEST_CHUNK, MOST_OUTPUT, STREAMS
from taskbus.worker.spares import ForkerGone, Spares
from tests.support import forkless
from tests.support.attempts import (
    HANDLERS,
    PATH,
    TIMEOUT,
    Watch,
    begin,
    children_of,
    finish,
    job_in_hand_outlives_a_shortage,
    printed,
    running_job,
    step,
    take,
    text_of,
)
from tests.support.processes import PATIENCE, line, python
from tests.support.site import alive, eventually


@pytest.fixture(scope="module")
def shared() -> Iterator[Spares]:
    """A forker for the tests that leave it as it was."""
    spares = Spares(HANDLERS, PATH, 2)
    yield spares
    spares.close()


@pytest.fixture
def own() -> Iterator[Spares]:
    """A forker for one test."""
    spares = Spares(HANDLERS, PATH, 2)
    yield spares
    spares.close()


def run(spares: Spares, name: str, *args: Any, **kwargs: Any) -> tuple[Attempt, list[Note]]:
    attempt = begin(spares, name, *args, **kwargs)
    notes = finish(spares, attempt)
    return attempt, notes


def result(spares: Spares, name: str, *args: Any, **kwargs: Any) -> Any:
    """The positional results of a task that has to succeed."""
    attempt, _ = run(spares, name, *args, **kwargs)
    assert attempt.outcome is not None
    assert attempt.outcome.ok, attempt.outcome.body
    return json.loads(attempt.outcome.body)["args"]


def failure(attempt: Attempt) -> dict[str, Any]:
    assert attempt.outcome is not None
    assert not attempt.outcome.ok
    found: dict[str, Any] = json.loads(attempt.outcome.body)
    return found


# What a task is given and gives back


def test_a_result(shared: Spares) -> None:
    attempt, notes = run(shared, "echo", 1, "é\0", None, a={"b": [1.5]})
    assert attempt.outcome is not None
    assert attempt.outcome.ok
    assert json.loads(attempt.outcome.body) == {
        "args": ["com.t.echo", 1, "é\0", None],
        "kwargs": {
            "a": {"b": [1.5]},
            "details": {"caller_authid": "ann", "job": attempt.job.id, "attempt": 1},
        },
    }
    assert notes == []


def test_much_goes_both_ways(shared: Spares) -> None:
    text = "é" * 3_000_000
    assert result(shared, "echo", text) == ["com.t.echo", text]


def test_a_failure(shared: Spares) -> None:
    attempt, _ = run(shared, "fail")
    told = failure(attempt)
    assert (told["error"], told["message"]) == ("com.example.error.asked", "as asked")
    assert told["about"] == {"value": "x", "remedy": "do not ask"}


def test_an_exception(shared: Spares) -> None:
    attempt, _ = run(shared, "crash")
    assert failure(attempt)["message"] == "ZeroDivisionError: of all things"
    assert "in crash" in failure(attempt)["traceback"]


def test_leaving_is_a_failure(shared: Spares) -> None:
    attempt, _ = run(shared, "leave")
    assert failure(attempt)["message"] == "SystemExit: bye"


def test_an_unfit_result(shared: Spares) -> None:
    attempt, _ = run(shared, "odd_result")
    assert failure(attempt)["error"] == "taskbus.error.invalid_result"


def test_code_that_cannot_be_loaded_fails_its_own_jobs_only(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("raise SystemExit\n")
    broken = {
        "com.t.crash": {"kind": "python", "target": "tests.support.nothing:x"},
        "com.t.leave": {"kind": "python", "target": "leaving:x"},
    }
    spares = Spares(HANDLERS | broken, [*PATH, str(tmp_path)], 1)
    try:
        for name, said in (("crash", "ModuleNotFoundError"), ("leave", "SystemExit")):
            attempt, _ = run(spares, name)
            assert said in failure(attempt)["message"]
        assert result(spares, "add", 1) == [11]
    finally:
        spares.close()


def test_each_job_has_a_process_a_group_and_a_session_of_its_own(shared: Spares) -> None:
    [first], [second] = result(shared, "identity"), result(shared, "identity")
    for pid, group, session, parent in (first, second):
        assert pid == group == session
        assert parent == shared._process.pid
    assert first[0] != second[0]


def test_stdin_is_empty(shared: Spares) -> None:
    assert result(shared, "read_stdin") == [""]


def test_threads_work_in_a_child(shared: Spares) -> None:
    assert result(shared, "threaded") == [6]


def test_many_jobs_leave_nothing_behind(own: Spares) -> None:
    result(own, "add", 1)
    files = len(os.listdir("/proc/self/fd"))
    theirs = len(os.listdir(f"/proc/{own._process.pid}/fd"))
    for number in range(50):
        assert result(own, "add", number) == [number + 10]
    spare = take(own)
    spare.close()
    assert len(os.listdir("/proc/self/fd")) <= files + 6
    # While it forks spares, it has their ends open.
    eventually(lambda: len(os.listdir(f"/proc/{own._process.pid}/fd")) <= theirs + 6)


# What a task says


def test_progress(shared: Spares) -> None:
    attempt = begin(shared, "progress", 0.25)
    notes = finish(shared, attempt)
    assert notes == [("progress", {"fraction": 0.25, "message": "at 0.25"})]


def test_only_the_newest_progress_is_kept(shared: Spares) -> None:
    _, notes = run(shared, "progress", 0.1, 0.2, 7)
    assert notes[-1] == ("progress", {"fraction": 1.0, "message": "at 7"})
    assert len(notes) == 1


def test_output(shared: Spares) -> None:
    attempt, notes = run(shared, "talk", "raw é ".encode().hex(), b"cooked ".hex())
    assert text_of(notes) == "raw é printed"
    assert text_of(notes, "stderr") == "cooked complained"
    assert attempt.outcome is not None
    assert attempt.outcome.ok


def test_output_that_is_no_text(shared: Spares) -> None:
    _, notes = run(shared, "talk", "00ff", "")
    assert bytes_of(notes) == b"\0\xffprinted"
    assert any("base64" in data for _, data in notes)


@pytest.mark.parametrize("stream", STREAMS)
def test_output_beyond_the_limit_is_counted_only(shared: Spares, stream: str) -> None:
    written = MOST_OUTPUT + 5000
    attempt, notes = run(shared, "flood", written, STREAMS.index(stream) + 1)
    assert attempt.outcome is not None
    assert attempt.outcome.ok
    assert text_of(notes, stream) == "x" * MOST_OUTPUT
    assert dropped(notes) == {stream: written - MOST_OUTPUT}


def dropped(notes: list[Note]) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, data in notes:
        if "dropped" in data:
            found[data["stream"]] = found.get(data["stream"], 0) + data["dropped"]
    return found


def test_what_the_parent_keeps_of_a_flood_is_bounded(shared: Spares) -> None:
    """However much is written, and for however long nothing of it can be stored."""
    attempt = begin(shared, "flood", 50 * MOST_OUTPUT)
    asked = steps = 0
    tracemalloc.start()
    try:
        while attempt.outcome is None:
            step(shared, attempt)
            steps += 1
            if steps % 64 == 0:
                asked += 1
                # What was read between two of them is put together, however little came at a time.
                assert len(attempt.notes()) <= asked + 3 * MOST_OUTPUT / LARGEST_CHUNK
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    notes = finish(shared, attempt)
    assert dropped(notes) == {"stdout": 49 * MOST_OUTPUT}
    assert asked
    assert peak < 8 * MOST_OUTPUT


def test_many_lines_are_few_events(shared: Spares) -> None:
    attempt, notes = run(shared, "lines", 1000)
    assert attempt.outcome is not None
    assert text_of(notes) == "".join(f"line {number}\n" for number in range(1000))
    assert len(notes) == 1


def test_a_character_in_two_writes(shared: Spares) -> None:
    attempt = begin(shared, "halves")
    written = b""
    while attempt.outcome is None:
        step(shared, attempt)
        written += bytes_of(attempt.notes())
        attempt.saved()
    assert (written + bytes_of(finish(shared, attempt))).decode() == "é" * 500


def bytes_of(notes: list[Note], stream: str = "stdout") -> bytes:
    return b"".join(
        base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
        for kind, data in notes
        if kind == "output" and data["stream"] == stream
    )


def test_output_of_other_processes_of_the_job(shared: Spares) -> None:
    _, notes = run(shared, "run_shell", "echo one; (echo two >&2; (sh -c 'echo three'))")
    assert text_of(notes) == "one\nthree\n"
    assert text_of(notes, "stderr") == "two\n"


def test_output_after_the_result_ends_with_the_job(shared: Spares) -> None:
    """Who goes on writing when the task has returned is ended, and what it had written is kept."""
    script = "echo begun; (while :; do echo on; done) & echo $!"
    attempt, notes = run(shared, "run_shell", script)
    assert attempt.outcome is not None
    assert attempt.outcome.ok
    said = text_of(notes).split()
    assert "begun" in said
    pid = next(int(word) for word in said if word.isdigit())
    eventually(lambda: not alive({pid}))


def test_warnings_are_kept_up_to_a_number(shared: Spares) -> None:
    _, notes = run(shared, "warn", MOST_WARNINGS + 50)
    assert notes == [("warning", {"reason": f"odd {n}"}) for n in range(MOST_WARNINGS)]


def test_notes_wait_a_moment_for_more(shared: Spares) -> None:
    attempt = begin(shared, "hang")
    while attempt.wake == 20.0:
        step(shared, attempt, now=1.0)
    assert 1.0 < attempt.wake < 2.0
    assert attempt.flush(1.0) == []
    assert attempt.flush(attempt.wake) == [("output", {"stream": "stdout", "text": "hanging\n"})]
    assert attempt.wake == 20.0
    attempt.kill()
    finish(shared, attempt)


def test_notes_are_given_again_until_they_are_saved(shared: Spares) -> None:
    attempt = begin(shared, "hang")
    while not attempt.notes():
        step(shared, attempt)
    hanging = [("output", {"stream": "stdout", "text": "hanging\n"})]
    assert attempt.notes() == hanging
    assert attempt.notes(final=True) == hanging
    attempt.saved()
    assert attempt.notes(final=True) == []
    attempt.kill()
    finish(shared, attempt)


def test_what_the_forker_is_told_to_bind_is_not_told_to_programs(shared: Spares) -> None:
    _, notes = run(shared, "run_shell", 'echo "[$LD_BIND_NOW]"')
    assert text_of(notes, "stdout") == "[]\n"


@pytest.mark.parametrize("size", [10, 447, 448, 449, 3_000_000])
def test_a_job_may_come_in_pieces(size: int) -> None:
    ours, theirs = socket.socketpair()
    job = b"x" * (size - 1)
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        received = pool.submit(receive_job, theirs.fileno())
        send_job(ours, job)
        assert received.result() == job + b"\n"


@pytest.mark.parametrize("begun", [b"", b"{", b"x" * 1000])
def test_who_never_gets_the_whole_job_gets_none(begun: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(begun)
        assert receive_job(theirs.fileno()) is None


def test_frames_may_come_in_pieces() -> None:
    data = b"Pab\n" + b"R\n" + b"E" + b"x" * 256 + b"\n"
    reader = FrameReader()
    frames = [frame for byte in data for frame in reader.feed(bytes([byte]))]
    assert frames == [(b"P", b"ab"), (b"R", b""), (b"E", b"x" * 256)]
    assert FrameReader().feed(data + data) == frames * 2


# How a task may die


def test_an_exit_without_a_result(shared: Spares) -> None:
    attempt, _ = run(shared, "exit_at_once", 3)
    assert failure(attempt)["error"] == "taskbus.error.killed"
    assert "exited with status 3" in failure(attempt)["message"]


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "SIGTERM"), (40, "signal 40")],
)
def test_a_signal(shared: Spares, number: int, name: str) -> None:
    attempt, _ = run(shared, "kill_myself", number)
    assert failure(attempt)["error"] == "taskbus.error.killed"
    assert f"was killed by {name}" in failure(attempt)["message"]
    assert failure(attempt)["about"]["signal"] == name


def test_a_segmentation_fault(shared: Spares) -> None:
    attempt, _ = run(shared, "segfault")
    assert "was killed by SIGSEGV" in failure(attempt)["message"]


def test_what_it_wrote_before_is_kept(shared: Spares) -> None:
    attempt, notes = run(shared, "with_grandchild", "die")
    assert "status 3" in failure(attempt)["message"]
    assert text_of(notes).strip().isdigit()


# Timeouts


def test_a_task_has_until_its_timeout(shared: Spares) -> None:
    attempt = begin(shared, "hang")
    assert printed(shared, attempt) == "hanging"
    attempt.kept(TIMEOUT)
    assert attempt.wake == TIMEOUT
    attempt.enforce(TIMEOUT - 0.001)
    # Its pipes would close; the forker may have new spares to tell of.
    assert not wait_readable(attempt.open, 0.05)
    attempt.enforce(TIMEOUT)
    finish(shared, attempt)
    assert failure(attempt)["error"] == "taskbus.error.timeout"
    assert failure(attempt)["message"] == "did not end within 100 seconds"


def test_a_task_may_clean_up_after_its_timeout(shared: Spares) -> None:
    attempt = begin(shared, "hang_politely")
    assert printed(shared, attempt) == "hanging"
    attempt.enforce(TIMEOUT)
    assert text_of(finish(shared, attempt)) == "cleaned up"
    assert failure(attempt)["error"] == "taskbus.error.timeout"


def test_a_task_that_does_not_leave_is_killed(shared: Spares) -> None:
    attempt = begin(shared, "hang_stubbornly")
    assert printed(shared, attempt) == "hanging"
    attempt.enforce(TIMEOUT)
    while text_of(attempt.notes()) != "no":
        assert attempt.outcome is None
        step(shared, attempt)
    attempt.kept(TIMEOUT + 20)
    assert attempt.wake > TIMEOUT
    attempt.enforce(attempt.wake)
    finish(shared, attempt)
    assert failure(attempt)["error"] == "taskbus.error.timeout"


# Grandchildren


@pytest.mark.parametrize("then", ["hang", "return", "die"])
def test_no_process_of_a_job_outlives_it(shared: Spares, then: str) -> None:
    attempt = begin(shared, "with_grandchild", then)
    try:
        with Watch(int(printed(shared, attempt))) as grandchild:
            if then == "hang":
                attempt.kill()
            finish(shared, attempt)
            assert grandchild.ended()
    except ProcessLookupError:
        # It was dead before we could look.
        finish(shared, attempt)
    assert attempt.outcome is not None
    assert attempt.outcome.ok == (then == "return")


@pytest.mark.parametrize("escape", [False, True])
def test_a_grandchild_that_writes_for_ever_holds_nobody_up(shared: Spares, escape: bool) -> None:
    attempt, _ = run(shared, "with_flood", escape)
    assert attempt.outcome is not None
    assert attempt.outcome.ok


# Deaths in the worker


def test_killed_spares_are_replaced(own: Spares) -> None:
    spares = children_of(own._process.pid)
    while len(spares) < 2:
        assert wait_readable([own.fileno()], PATIENCE)
        assert own.hear() == []
        spares = children_of(own._process.pid)
    while len(own._idle) < 2:
        assert wait_readable([own.fileno()], PATIENCE)
        assert own.hear() == []
    for pid in spares:
        os.kill(pid, signal.SIGKILL)
    while any(child.pid in spares for child in own._idle):
        assert wait_readable([own.fileno()], PATIENCE)
        assert own.hear() == []
    assert result(own, "pid")[0] not in spares


def test_more_children_than_one_packet_tells_of() -> None:
    many = 3 * MOST_CHILDREN
    spares = Spares(HANDLERS, PATH, many)
    taken = [take(spares) for _ in range(many)]
    assert result(spares, "add", 1) == [11]
    # Stopped, the forker finds them all dead at the same time.
    os.kill(spares._process.pid, signal.SIGSTOP)
    for child in taken:
        with Watch(child.pid) as end:
            os.kill(child.pid, signal.SIGKILL)
            assert end.ended()
    os.kill(spares._process.pid, signal.SIGCONT)
    dead: set[int] = set()
    while not dead.issuperset(child.pid for child in taken):
        assert wait_readable([spares.fileno()], PATIENCE)
        dead.update(exit_.pid for exit_ in spares.hear() if exit_.status == signal.SIGKILL)
    for child in taken:
        child.close()
    spares.close()


def test_a_spare_that_died_unnoticed_runs_nothing() -> None:
    # One at a time: others of its batch have its end of the socket until they get to close it.
    own = Spares(HANDLERS, PATH, 1)
    child = take(own)
    with Watch(child.pid) as dead:
        os.kill(child.pid, signal.SIGKILL)
        assert dead.ended()
    while not (exits := own.hear()):
        pass
    assert [one.pid for one in exits] == [child.pid]
    job = running_job("add", 1)
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        Attempt(job, job.uri, child, own, 0.0, 20.0)
    child.close()
    assert result(own, "add", 1) == [11]
    own.close()


def test_a_machine_short_of_processes_costs_no_job_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short"
    monkeypatch.setenv(forkless.VARIABLE, str(short))
    handlers = {**HANDLERS, "com.t.run": {"kind": "python", "target": f"{forkless.__name__}:run"}}
    own = Spares(handlers, PATH, 2)
    job_in_hand_outlives_a_shortage(own, short, capfd, "with_grandchild")


def test_a_killed_forker_is_noticed_and_takes_its_children_along(own: Spares) -> None:
    attempt = begin(own, "with_grandchild")
    grandchild_pid = int(printed(own, attempt))
    with ExitStack() as watches:
        child = watches.enter_context(Watch(attempt.child.pid))
        grandchild = watches.enter_context(Watch(grandchild_pid))
        idle = [watches.enter_context(Watch(one.pid)) for one in own._idle]
        os.kill(own._process.pid, signal.SIGKILL)
        with pytest.raises(ForkerGone):
            hear_for_ever(own)
        assert child.ended()
        assert all(one.ended() for one in idle)
        attempt.abandoned(0.0)
        assert grandchild.ended()
    assert failure(attempt)["error"] == "taskbus.error.killed"
    for use in (attempt.kill, lambda: attempt.enforce(TIMEOUT)):
        with pytest.raises(ForkerGone):
            use()
    attempt.child.close()


def test_what_a_child_reported_before_its_forker_died_counts(own: Spares) -> None:
    attempt = begin(own, "add", 1)
    assert wait_readable([attempt.child.sock.fileno()], PATIENCE)
    os.kill(own._process.pid, signal.SIGKILL)
    attempt.abandoned(0.0)
    assert attempt.outcome is not None
    assert attempt.outcome.ok
    attempt.child.close()


def hear_for_ever(spares: Spares) -> None:
    while True:
        assert wait_readable([spares.fileno()], PATIENCE)
        spares.hear()


def test_close_ends_the_forker_and_every_child(own: Spares) -> None:
    attempt = begin(own, "with_grandchild")
    grandchild_pid = int(printed(own, attempt))
    with ExitStack() as stack:
        pids = [
            own._process.pid,
            attempt.child.pid,
            grandchild_pid,
            *(one.pid for one in own._idle),
        ]
        watches = [stack.enter_context(Watch(pid)) for pid in pids]
        own.close()
        assert all(watch.ended() for watch in watches)
    attempt.child.close()


def test_a_forker_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for handlers in ({}, HANDLERS, {"com.t.x": {"kind": "exec", "target": ["x" * 1_000_000]}}):
        with pytest.raises(ForkerGone):
            Spares(handlers, PATH, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("words", [[], ["unread"]])
def test_nothing_outlives_the_parent(number: int, words: list[str]) -> None:
    with python("-m", "tests.support.forker_parent", *words) as parent, ExitStack() as stack:
        pids = [int(word) for word in line(parent).split()]
        assert len(pids) == 3
        watches = [stack.enter_context(Watch(pid)) for pid in pids]
        parent.send_signal(number)
        assert all(watch.ended() for watch in watches)
