<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

final class Steps implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        $messages = $task->args;
        $goOn = fopen(array_shift($messages), 'r');
        foreach ($messages as $number => $message) {
            $task->progress(($number + 1) / count($messages), $message);
            fread($goOn, 1);
        }
        return count($messages);
    }
}
