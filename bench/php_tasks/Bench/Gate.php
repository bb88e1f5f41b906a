<?php

declare(strict_types=1);

namespace Bench;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

/** See bench/tasks.py. */
final class Gate implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        [$address, $lock] = $task->args;
        $file = fopen($lock, 'r');
        Stamp::tell($address, 'waiting');
        flock($file, LOCK_SH);
        return null;
    }
}
