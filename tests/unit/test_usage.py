"""Limits of memory and CPU time: of real processes, by a clock that stands still."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskbus.model.policy import Policy
from taskbus.worker import usage as usage_module
from taskbus.worker.attempt import Attempt
from taskbus.worker.spares import Spares
from taskbus.worker.usage import LOOK_SECONDS, Limits, Usage
from tests.support.attempts import (
    HANDLERS,
    PATH,
    Watch,
    children_of,
    finish,
    printed,
    running_job,
    step,
    take,
)
from tests.support.processes import REPOSITORY
from tests.support.site import eventually
from tests.support.users import with_users

MIB = 1024 * 1024
BURN = "while :; do :; done"
# Who may see only their own processes are told that there are others, and refused what they use.
HIDING = """
set -e
mount -t proc -o hidepid=1 proc /proc
setpriv --reuid=65534 --regid=65534 --clear-groups "$@" || exit $?
"""
LOOK = """
import os
from taskbus.worker.usage import Usage
os.setsid()
print(Usage(os.getpid()).look().memory > 0)
"""
PROGRAM = {"com.t.program": {"kind": "exec", "target": ["sh", "-c", BURN]}}


@pytest.fixture(scope="module")
def spares() -> Iterator[Spares]:
    made = Spares(HANDLERS | PROGRAM, PATH, 1)
    yield made
    made.close()


def begin(spares: Spares, policy: Policy, name: str, *args: Any) -> Attempt:
    job = running_job(name, *args)._replace(policy=policy.text)
    return Attempt(job, job.uri, take(spares), spares, 0.0, 20.0)


def failure(attempt: Attempt) -> dict[str, Any]:
    assert attempt.outcome is not None
    assert not attempt.outcome.ok
    found: dict[str, Any] = json.loads(attempt.outcome.body)
    return found


def look_until_it_ends(spares: Spares, attempt: Attempt) -> None:
    """As the worker does, several times a second."""
    while attempt.outcome is None:
        eventually(lambda: overruns(attempt))
        finish(spares, attempt)


def overruns(attempt: Attempt) -> bool:
    attempt.enforce(attempt._look_at)
    return attempt._overrun is not None


def test_a_job_without_limits_is_not_looked_at(spares: Spares) -> None:
    attempt = begin(spares, Policy(retry_on=("com.x",)), "add", 1)
    assert Limits.of(attempt.job, attempt.child.pid) is None
    assert attempt.wake == 20.0
    finish(spares, attempt)


def test_a_job_with_limits_is_looked_at_a_few_times_a_second(spares: Spares) -> None:
    attempt = begin(spares, Policy(memory=500, cpu=100), "hog", MIB)
    assert attempt.wake == LOOK_SECONDS
    attempt.enforce(LOOK_SECONDS)
    assert attempt.wake == 2 * LOOK_SECONDS
    attempt.kill()
    finish(spares, attempt)
    assert failure(attempt)["error"] == "taskbus.error.killed"


def test_too_much_memory(spares: Spares) -> None:
    attempt = begin(spares, Policy(memory=100), "hog", 200 * MIB)
    printed(spares, attempt)
    assert overruns(attempt)
    finish(spares, attempt)
    told = failure(attempt)
    assert told["error"] == "taskbus.error.memory_exceeded"
    assert told["about"]["limit"] == 100
    assert 200 <= told["about"]["used"] < 300
    assert told["message"] == f"used {told['about']['used']} MiB of memory, its limit is 100"


def test_memory_within_the_limit(spares: Spares) -> None:
    attempt = begin(spares, Policy(memory=300), "hog", 200 * MIB, "return")
    printed(spares, attempt)
    assert not overruns(attempt)
    finish(spares, attempt)
    assert attempt.outcome is not None
    assert attempt.outcome.ok


@pytest.mark.parametrize("name", ["burn", "program"])
def test_too_much_cpu_time(spares: Spares, name: str) -> None:
    attempt = begin(spares, Policy(cpu=0.2), name)
    look_until_it_ends(spares, attempt)
    told = failure(attempt)
    assert told["error"] == "taskbus.error.cpu_exceeded"
    assert told["about"]["limit"] == 0.2
    assert told["about"]["used"] > 0.2
    assert told["message"].startswith(f"used {told['about']['used']:.2f} seconds of CPU time")


def test_a_program_may_die_before_the_process_that_runs_it(
    spares: Spares, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which then has the time to say that it was killed."""
    attempt = begin(spares, Policy(cpu=0.2), "program")
    monkeypatch.setattr(Limits, "kill", lambda _: None)
    monkeypatch.setattr(attempt, "kill", lambda: os.kill(program(), signal.SIGKILL))

    def program() -> int:
        (pid,) = children_of(attempt.child.pid)
        return pid

    look_until_it_ends(spares, attempt)
    assert failure(attempt)["error"] == "taskbus.error.cpu_exceeded"


@pytest.mark.parametrize("way", ["child", "orphan", "session"])
def test_other_processes_of_the_job_count(spares: Spares, way: str) -> None:
    attempt = begin(spares, Policy(cpu=0.4), "burn_elsewhere", way)
    look_until_it_ends(spares, attempt)
    assert failure(attempt)["error"] == "taskbus.error.cpu_exceeded"


def test_who_has_left_the_session_is_counted_and_killed_once_seen(spares: Spares) -> None:
    """Even when its parent has died since."""
    attempt = begin(spares, Policy(cpu=100), "burn_elsewhere", "session")
    pid = int(printed(spares, attempt))
    assert attempt._limits is not None
    usage = attempt._limits._usage
    assert usage.look().cpu > 0.4
    os.killpg(attempt.child.pid, signal.SIGKILL)
    finish(spares, attempt)
    assert usage.look().cpu > 0.4
    assert pid in usage._seen
    with Watch(pid) as stray:
        usage.kill()
        assert stray.ended()


def test_a_process_with_a_used_number_is_left_alone(spares: Spares) -> None:
    attempt = begin(spares, Policy(memory=500), "hog", MIB)
    printed(spares, attempt)
    usage = Usage(0)
    usage._seen = {attempt.child.pid: 1}
    usage.kill()
    spares.kill(attempt.child, signal.SIGTERM)
    finish(spares, attempt)
    assert failure(attempt)["about"]["signal"] == "SIGTERM"


def test_cpu_time_of_who_has_ended_and_was_waited_for_counts() -> None:
    usage = Usage(os.getpgid(0))
    before = usage.look().cpu
    code = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
    assert usage.look().cpu > before + 0.4


def test_cpu_time_does_not_become_less() -> None:
    usage = Usage(os.getpgid(0))
    before = usage.look().cpu
    usage._cpu = before + 1000
    assert usage.look().cpu == before + 1000


def test_processes_of_others_may_be_hidden(tmp_path: Path) -> None:
    within = (
        *with_users(tmp_path),
        "unshare",
        "--pid",
        "--fork",
        "--mount",
        "sh",
        "-c",
        HIDING,
        "sh",
    )
    done = subprocess.run(
        [*within, sys.executable, "-c", LOOK],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("name", ["burn", "program"])
def test_the_kernel_holds_the_limit_where_the_worker_does_not_look(
    spares: Spares, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_SLACK", 0)
    attempt = begin(spares, Policy(cpu=0.5), name)
    while attempt.outcome is None:
        step(spares, attempt)
    finish(spares, attempt)
    assert failure(attempt)["error"] == "taskbus.error.cpu_exceeded"
    assert "CPU time" in failure(attempt)["message"]


def test_a_spare_that_has_died_is_no_place_for_limits(spares: Spares) -> None:
    child = take(spares)
    with Watch(child.pid) as dead:
        os.kill(child.pid, signal.SIGKILL)
        assert dead.ended()
    while child.pid not in [exit_.pid for exit_ in spares.hear()]:
        pass
    job = running_job("add", 1)._replace(policy=Policy(cpu=1).text)
    with pytest.raises(OSError, match="No such process"):
        Attempt(job, job.uri, child, spares, 0.0, 20.0)
    child.close()
