<?php

declare(strict_types=1);

use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

/** Does what its first argument says: what tasks do to an answer, knowing or not. */
final class Act implements TaskInterface
{
    public function run(TaskInput $task): mixed
    {
        return $this->{$task->args[0]}($task, ...array_slice($task->args, 1));
    }

    private function give(TaskInput $task, mixed ...$values): TaskResult
    {
        return new TaskResult(...$values, ...$task->kwargs);
    }

    private function told(TaskInput $task): array
    {
        return [$task->uri, $task->details];
    }

    private function say(TaskInput $task): int
    {
        echo "said\nby ";
        print "echo\033[31m\n";
        $task->log('logged');
        ob_start();
        echo 'kept';
        flush();
        $undefined['a'];
        return 1;
    }

    private function head(): int
    {
        http_response_code(204);
        header('Content-Type: text/html');
        header('Content-Length: 3');
        setcookie('a', 'b');
        return 1;
    }

    private function fail(): never
    {
        throw new TaskFailure('no such shop', 'com.example.error.no_shop', shop: 'x');
    }

    private function crash(): never
    {
        throw new DomainException('of all things');
    }

    private function leave(): never
    {
        echo '{"args": ["not this"]}';
        exit('bye');
    }

    private function eat(): string
    {
        return str_repeat('x', 1 << 40);
    }

    private function fill(): never
    {
        for ($kept = new SplDoublyLinkedList();; $kept->push([count($kept)])) {
        }
    }

    private function burn(): never
    {
        set_time_limit(1);
        for (;;) {
        }
    }

    private function odd(): float
    {
        return NAN;
    }

    private function later(): int
    {
        register_shutdown_function(function () {
            echo 'said at the end';
        });
        return 1;
    }

    private function step(TaskInput $task, string $pipe): string
    {
        $task->progress(0.25, 'a quarter');
        $heard = file_get_contents($pipe);
        $task->progress(7.0);
        return $heard;
    }

    private function hang(TaskInput $task, string $ended): never
    {
        try {
            for (;;) {
                $task->progress(0.5);
                usleep(5000);
            }
        } finally {
            file_put_contents($ended, get_debug_type($task));
        }
    }
}
