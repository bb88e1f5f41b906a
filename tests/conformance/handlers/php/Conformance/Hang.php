<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

class Hang implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        $alive = fopen($task->args[0], 'w');
        while (@fwrite($alive, '.')) {
            $task->progress(0.5);
            usleep(10_000);
        }
        return null;
    }
}
