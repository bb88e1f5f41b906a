<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

final class Give implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        return new TaskResult(...$task->args, ...$task->kwargs);
    }
}
