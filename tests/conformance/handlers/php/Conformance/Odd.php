<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

final class Odd implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        return match ($task->args[0]) {
            'nan' => NAN,
            'nul' => "\0nul",
            'half' => "half a \xED\xA0\x80",
            'deep' => array_reduce(range(1, 100), fn (array $deep): array => [$deep], []),
            'taken' => new TaskResult(callee: 1),
            'large' => str_repeat('x', 17_000_000),
        };
    }
}
