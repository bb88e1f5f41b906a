"""taskbus: any call on the bus can run now or later, and nothing accepted is ever lost.

The way data flows, one way::

    caller (WAMP | HTTP | cron | CLI)
      -> backend   URI -> task, foreground or background
      -> intake    store job + first event in one commit, put its id in the queue
      -> worker    reserve -> claim (fenced) -> hand to a spare child
      -> child     run the task in a fresh process, frames up a pipe, exit
      -> settle    state + event in one atomic write, delete from the queue
      -> relay     journal -> WAMP topics and waiting callers

The store is truth, the queue is a hint: a job id in beanstalkd only says "look at this job".
Packages point down only: ``cli -> wire -> {site | edge | worker | adapter} -> core -> handler ->
port -> model``.

This module is what task code imports, so it pulls in nothing but the standard library's lightest
parts: every module loaded here makes each fork of a worker slower.
"""

from taskbus.model.errors import TaskFailure
from taskbus.model.task import TaskInput, TaskResult

__all__ = ["TaskFailure", "TaskInput", "TaskResult"]
