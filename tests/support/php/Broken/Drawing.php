<?php

namespace Broken;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

mt_rand();

/** No child draws what another one does. */
final class Drawing implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        return mt_rand();
    }
}
