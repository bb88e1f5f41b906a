<?php

declare(strict_types=1);

namespace Bench;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

/** See bench/tasks.py. */
final class Noop implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        return null;
    }
}
