<?php

declare(strict_types=1);

namespace Disk;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

final class GetFreeSpace implements TaskInterface
{
    public function run(TaskInput $task): int
    {
        return 42;
    }
}
