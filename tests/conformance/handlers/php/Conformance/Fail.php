<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskInterface;

final class Fail implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        [$uri, $message] = $task->args;
        throw new TaskFailure($message, $uri ?? 'taskbus.error.task_failed', ...$task->kwargs);
    }
}
