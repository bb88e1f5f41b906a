<?php

declare(strict_types=1);

namespace Example;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

/** `sleeper(seconds=1, steps=4)` -> the seconds it slept; it tells its progress after each step. */
final class Sleeper implements TaskInterface
{
    public function run(TaskInput $task): float
    {
        [$seconds, $steps] = $task->args + [1, 4];
        for ($step = 1; $step <= $steps; $step++) {
            usleep((int) (1e6 * $seconds / $steps));
            $task->progress($step / $steps, "step $step of $steps");
        }
        return (float) $seconds;
    }
}
