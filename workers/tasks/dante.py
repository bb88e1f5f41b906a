"""The two first tasks: one that answers at once, one that takes its time."""

import shutil
import time

from taskbus import TaskInput, TaskResult


class GetFreeSpace:
    """``get_free_space(path="/")`` -> free bytes, and kwargs total and used."""

    def run(self, task: TaskInput) -> TaskResult:
        """Look at the file system that holds the path."""
        usage = shutil.disk_usage(task.args[0] if task.args else "/")
        return TaskResult(usage.free, total=usage.total, used=usage.used)


class Sleeper:
    """``sleeper(seconds=1)`` -> the seconds it slept."""

    def run(self, task: TaskInput) -> TaskResult:
        """Sleep."""
        seconds = float(task.args[0]) if task.args else 1.0
        time.sleep(seconds)
        return TaskResult(seconds)
