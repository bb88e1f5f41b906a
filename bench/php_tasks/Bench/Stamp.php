<?php

declare(strict_types=1);

namespace Bench;

use Taskbus\TaskInput;
use Taskbus\TaskInterface;

/** See bench/tasks.py. */
final class Stamp implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        $started = microtime(true);
        self::tell($task->args[0], sprintf('%.7f', $started));
        return null;
    }

    public static function tell(string $address, string $message): void
    {
        fwrite(stream_socket_client("udg://$address"), $message);
    }
}
