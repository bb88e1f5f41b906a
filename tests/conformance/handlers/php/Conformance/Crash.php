<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

final class Crash implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        throw new \DomainException($task->args[0]);
    }
}
