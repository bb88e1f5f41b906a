"""A command of the queue server: run a program. What it writes is the job's output."""

import os
import signal
from collections.abc import Sequence

from taskbus.handler.perform import signal_name
from taskbus.model.errors import HandlerUnreachable, TaskFailure, TaskKilled
from taskbus.model.program import is_allowed
from taskbus.model.task import TaskInput, TaskResult
from taskbus.model.trace import VARIABLES, trace_environment

# The job's number, for the program.
VARIABLE = "TASKBUS_JOB"
# Python ignores them; a program expects them as they are by default.
_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


def run(task: TaskInput, programs: Sequence[Sequence[str]]) -> TaskResult:
    """Run ``argv``, looked for in PATH, if it is among the ``programs``; its exit status is 0, or
    the job has failed. No shell reads it. It stays in the group that the worker kills.
    """
    argv = task.kwargs["argv"]
    # Once more: the settings may have changed since it was accepted.
    if not is_allowed(argv, programs):
        raise TaskFailure(
            f"the settings do not allow to run {argv[0]}",
            value=argv,
            remedy="add its words to queue_server.exec in the settings",
        )
    try:
        pid = os.posix_spawnp(
            argv[0],
            argv,
            _environment(task),
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigdef=_SIGNALS,
        )
    except OSError as error:
        raise HandlerUnreachable(
            f"cannot start {argv[0]}: {error.strerror}", value=argv[0]
        ) from error
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        raise TaskKilled(f"{argv[0]} was killed by {signal_name(-status)}")
    if status > 0:
        raise TaskFailure(f"{argv[0]} exited with status {status}", status=status)
    return TaskResult(status=status)


def _environment(task: TaskInput) -> dict[str, str]:
    """Ours, without the trace of whoever started the bus."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, **trace_environment(task.details), VARIABLE: str(task.kwargs["number"])}
