<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

final class Told implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        return new TaskResult($task->uri, $task->details->caller_authid);
    }
}
