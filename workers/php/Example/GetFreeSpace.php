<?php

declare(strict_types=1);

namespace Example;

use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

/** `free_space(path="/")` -> free bytes, and kwargs total and used. */
final class GetFreeSpace implements TaskInterface
{
    public function run(TaskInput $task): TaskResult
    {
        $path = $task->args[0] ?? '/';
        if (!is_string($path) || !is_dir($path)) {
            throw new TaskFailure('there is no such folder', 'com.example.widget.error.no_folder',
                field: 'path', value: $path, remedy: 'send the path of a folder');
        }
        [$free, $total] = [(int) disk_free_space($path), (int) disk_total_space($path)];
        return new TaskResult($free, total: $total, used: $total - $free);
    }
}
