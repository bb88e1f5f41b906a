<?php

// A machine that may be short of processes: while the file that the environment names is there, no fork of
// a worker's PHP succeeds. To be loaded first of all.

declare(strict_types=1);

namespace Taskbus\Worker;

function pcntl_fork(): int
{
    $short = (string) getenv('TASKBUS_TEST_NO_FORK');
    clearstatcache();
    return $short !== '' && file_exists($short) ? -1 : \pcntl_fork();
}
