"""Tasks for tests."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from taskbus import TaskFailure, TaskInput, TaskResult

FOREVER = 100_000


class Echo:
    """Gives back all that it was given."""

    def run(self, task: TaskInput) -> TaskResult:
        return TaskResult(task.uri, *task.args, details=task.details, **task.kwargs)


def evaluate(expression: str, *, task: TaskInput) -> Any:
    """The value of a Python expression: what arguments cannot carry, a result can try to."""

    def fail(message: str, **about: Any) -> None:
        raise TaskFailure(message, **about)

    def say(message: str, output: bytes) -> None:
        task.progress(0.5, message)
        os.write(1, output)

    names = {"fail": fail, "say": say, "nested": nested, "TaskResult": TaskResult}
    return eval(expression, names)  # noqa: S307


def nested(levels: int) -> list[Any]:
    """Lists in one another."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


class Counting:
    """How often this object has run."""

    def __init__(self) -> None:
        self.count = 0

    def run(self, _task: TaskInput) -> int:
        self.count += 1
        return self.count


class NoArguments:
    def __init__(self, needed: Any) -> None:
        self.needed = needed

    def run(self, _task: TaskInput) -> None:
        """Never comes so far."""


class Later:
    async def run(self, _task: TaskInput) -> None: ...


async def later() -> None: ...


async def later_one_by_one() -> AsyncIterator[int]:
    yield 1


def one_by_one() -> Iterator[int]:
    yield 1


class Speechless(Exception):
    """Its text is a failure itself."""

    def __str__(self) -> str:
        raise ValueError


class Unmade(TaskFailure):
    """Does not call its base's ``__init__``."""

    def __init__(self) -> None: ...


def raise_one(name: str) -> None:
    raise globals()[name]


def add(left: int, right: int = 10) -> int:
    return left + right


def whoami(*, task: TaskInput) -> dict[str, Any]:
    return {"uri": task.uri, **task.details}


def greedy(task: str = "not a TaskInput", **others: Any) -> list[Any]:
    return [task, others]


def given(task: TaskInput, word: str, most: int) -> list[Any]:
    return [task.uri, word, most]


def pair() -> TaskResult:
    return TaskResult(1, 2, three=3)


def fail() -> None:
    raise TaskFailure(
        "as asked", error_uri="com.example.error.asked", value="x", remedy="do not ask"
    )


def fail_with_details(*, task: TaskInput) -> None:
    raise TaskFailure("as asked", **task.details)


def crash() -> None:
    raise ZeroDivisionError("of all things")


def leave() -> None:
    sys.exit("bye")


def odd_result() -> object:
    return {"when": object()}


def not_a_number() -> float:
    return float("nan")


def bottomless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


# In a child only


def progress(*fractions: float, task: TaskInput) -> None:
    for fraction in fractions:
        task.progress(fraction, f"at {fraction}")


def talk(out: str = "", err: str = "") -> int:
    """Write these bytes (hexadecimal), and text through Python's own streams."""
    os.write(1, bytes.fromhex(out))
    os.write(2, bytes.fromhex(err))
    print("printed", end="")
    print("complained", end="", file=sys.stderr)
    return 7


def flood(size: int, fd: int = 1) -> int:
    left = size
    while left:
        left -= os.write(fd, b"x" * min(left, 1000))
    return size


def flood_for_ever() -> None:
    while True:
        os.write(1, b"x" * 10_000)


def lines(count: int) -> None:
    for number in range(count):
        print(f"line {number}")


def halves() -> None:
    """A text whose characters are written in two pieces each."""
    for _ in range(500):
        for half in b"\xc3", b"\xa9":
            os.write(1, half)


def run_shell(script: str) -> int:
    return subprocess.run(["sh", "-c", script], check=False).returncode


def warn(count: int, *, task: TaskInput) -> None:
    for number in range(count):
        task.warn(f"odd {number}")


def large(size: int) -> str:
    return "é" * size


def exit_at_once(status: int) -> None:
    os._exit(status)


def kill_myself(number: int) -> None:
    os.kill(os.getpid(), number)


def segfault() -> None:
    ctypes.string_at(0)


def pid() -> int:
    return os.getpid()


def identity() -> list[int]:
    """Process, group, session and parent."""
    return [os.getpid(), os.getpgid(0), os.getsid(0), os.getppid()]


def read_stdin() -> str:
    return sys.stdin.read()


def threaded() -> int:
    """Threads work in a forked child."""
    found: list[int] = []
    threads = [threading.Thread(target=found.append, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found)


def hang() -> None:
    os.write(1, b"hanging\n")  # In one piece, however Python buffers.
    time.sleep(FOREVER)


def hang_politely() -> None:
    """Clean up on TERM."""

    def clean_up(*_: object) -> None:
        os.write(1, b"cleaned up")
        os._exit(0)

    signal.signal(signal.SIGTERM, clean_up)
    hang()


def hang_stubbornly() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"no"))
    os.write(1, b"hanging\n")  # In one piece, however Python buffers.
    while True:
        time.sleep(FOREVER)


def with_grandchild(then: str = "hang") -> int:
    """Start a process that keeps our stdout and tells its pid there, then hang, return or die."""
    grandchild = subprocess.Popen(
        [sys.executable, "-S", "-c", f"import time; time.sleep({FOREVER})"]
    )
    print(grandchild.pid, flush=True)
    if then == "hang":
        time.sleep(FOREVER)
    elif then == "die":
        os._exit(3)
    return grandchild.pid


def with_flood(escape: bool) -> None:
    """Return while another process goes on writing to our stdout for ever."""
    subprocess.Popen(["yes"], start_new_session=escape)


def steps(go_on: str, *messages: str, task: TaskInput) -> int:
    """Tell each message, and then wait until somebody writes to the FIFO."""
    for number, message in enumerate(messages, 1):
        task.progress(number / len(messages), message)
        read_file(go_on)
    return len(messages)


def march(go_on: str, *messages: str, task: TaskInput) -> int:
    """The same, a byte in the FIFO for each step: its writer keeps it open, and may be ahead."""
    for number, message in enumerate(messages, 1):
        task.progress(number / len(messages), message)
        fifo = os.open(go_on, os.O_RDONLY)
        os.read(fifo, 1)
        os.close(fifo)
    return len(messages)


def read_file(path: str) -> str:
    """Waits where it is a FIFO until somebody writes."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def meet(started: str, go_on: str, words: str = "") -> int:
    """Tell through one FIFO that we run, and wait for the other."""
    os.write(1, words.encode())
    with open(started, "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    read_file(go_on)
    return os.getpid()


def be_one_of(most: int, folder: str) -> int:
    """Wait at the folder's gate, as one of so many at most; fails where those are there already."""
    for nth in range(most):
        with open(f"{folder}/one-{nth}", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            gate = os.open(f"{folder}/gate", os.O_RDONLY)
            while os.read(gate, 1) not in (b"\n", b""):
                pass
            return nth
    raise TaskFailure("too many at a time")


def answer(started: str, go_on: str) -> None:
    """The other side of ``meet``."""
    read_file(started)
    with open(go_on, "w", encoding="utf-8") as file:
        file.write("go")


# What they use


def hog(size: int, then: str = "hang") -> None:
    """Fill so much memory, say so, and hang or return."""
    kept = b"x" * size
    os.write(1, b"%d\n" % len(kept))
    if then == "hang":
        time.sleep(FOREVER)


def burn() -> None:
    os.write(1, b"burning\n")
    while True:
        pass


def burn_elsewhere(way: str) -> None:
    """Another process uses the CPU for a while: a ``child`` that we wait for, an ``orphan`` in our
    group, or one that has left our ``session``. The latter two tell their pids then.
    """
    code = (
        "import os, time\nwhile time.process_time() < 0.5: pass\nprint(os.getpid(), flush=True)\n"
    )
    if way != "child":
        code += f"time.sleep({FOREVER})\n"
    program = [sys.executable, "-S", "-c", code]
    if way == "child":
        subprocess.run(program, check=True)
    elif os.fork() == 0:
        subprocess.Popen(program, start_new_session=way == "session")
        if way == "orphan":
            os._exit(0)
        time.sleep(FOREVER)
    time.sleep(FOREVER)


def steady(enough: str, per_second: int = 1000) -> int:
    """A thousand numbered lines a second until there is a file of this name, written in pieces that
    end anywhere, within a character, too; how many lines it was.
    """
    number, rest = 0, b""
    begun = time.monotonic()
    while not os.path.exists(enough):
        due = int((time.monotonic() - begun) * per_second) - number
        text = "".join(f"line {number + nth} \N{SNOWMAN}\n" for nth in range(due))
        number += due
        data = rest + text.encode()
        cut = len(data) - number % 7
        os.write(1, data[: max(cut, 0)])
        rest = data[max(cut, 0) :]
        time.sleep(0.01)
    os.write(1, rest)
    return number
