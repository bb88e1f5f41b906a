<?php

declare(strict_types=1);

namespace Conformance;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

final class Leave implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        exit('bye');
    }
}
