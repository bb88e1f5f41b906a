<?php

declare(strict_types=1);

namespace Jobs;

use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

/** Does what the first argument says, one of the methods below, with the others. */
final class Does implements TaskInterface
{
    private bool $hasRegrets = false;

    public function __destruct()
    {
        if ($this->hasRegrets) {
            echo "destructed\n";
            throw new \DomainException('regretted');
        }
    }

    public function run(TaskInput $task): mixed
    {
        $arguments = $task->args;
        $what = array_shift($arguments);
        return $this->$what($task, ...$arguments);
    }

    private function echo(TaskInput $task, mixed ...$values): TaskResult
    {
        return new TaskResult($task->uri, ...$values, ...$task->kwargs, details: $task->details);
    }

    private function fail(): never
    {
        throw new TaskFailure('as asked', 'com.example.error.asked', value: 'x', remedy: 'do not ask');
    }

    /** Fails when its result is there. */
    private function regret(): int
    {
        $this->hasRegrets = true;
        return 1;
    }

    private function crash(): never
    {
        throw new \DomainException('of all things');
    }

    private function leave(TaskInput $task, int $status): never
    {
        register_shutdown_function(static function (): void {
            echo "the last word\n";
        });
        ob_start();
        echo "held back\n";
        exit($status);
    }

    private function exhaust(): never
    {
        ini_set('memory_limit', '32M');
        for ($text = 'x'; true; $text .= $text) {
            // Ever longer.
        }
    }

    /** More than any limit of the API map. */
    private function hoard(TaskInput $task, int $mebibytes): never
    {
        $hoard = str_repeat('x', $mebibytes << 20);
        for (; true; sleep(100)) {
            // Keeping it.
        }
    }

    private function undefined(): never
    {
        no_such_function();
    }

    private function say(): void
    {
        echo "echoed\n";
        fwrite(STDOUT, "written\n");
        file_put_contents('php://stdout', "put\n");
        passthru('echo passed; echo "told by a program" >/dev/stdout');
        fwrite(STDERR, "complained\n");
        error_log('noted');
        trigger_error('warned', E_USER_WARNING);
    }

    private function progress(TaskInput $task): void
    {
        $task->progress(0.25, 'begun');
        $task->progress(7, 'zażółć');
    }

    private function blob(TaskInput $task, int $bytes): string
    {
        return str_repeat('é', intdiv($bytes, 2));
    }

    private function sleep(): void
    {
        echo getmypid(), "\n";
        for (; true; sleep(100)) {
            // Once more.
        }
    }

    /** Cleans up at its end, which others choose. */
    private function tidy(): void
    {
        pcntl_async_signals(true);
        pcntl_signal(SIGTERM, static function (): never {
            usleep(100_000);
            echo "tidied\n";
            exit(0);
        });
        $this->sleep();
    }

    /** Does not end in its first attempt, whose process it tells. */
    private function endless(TaskInput $task): int
    {
        if ($task->details->attempt === 1) {
            $this->sleep();
        }
        return $task->details->attempt;
    }

    /** Waits for a program that does not end. */
    private function wait(): void
    {
        passthru('echo $$; exec sleep 100000');
    }

    /** Leaves a program behind that holds on to every descriptor but stdout and stderr. */
    private function background(): int
    {
        return (int) exec('sleep 100000 >/dev/null 2>&1 & echo $!');
    }

    /** Forks a process, which ends before the task does. */
    private function fork(): int
    {
        $pid = pcntl_fork();
        if ($pid === 0) {
            exit(7);
        }
        pcntl_waitpid($pid, $status);
        return pcntl_wexitstatus($status);
    }

    private function identity(): array
    {
        return [getmypid(), posix_getpgrp(), posix_getsid(0), posix_getppid()];
    }

    /** What a program that it starts finds open. */
    private function inherited(): array
    {
        exec('readlink /proc/self/fd/*', $found);
        return $found;
    }

    private function input(): array
    {
        return [stream_get_contents(STDIN), is_resource(STDOUT), is_resource(STDERR)];
    }

    private function suicide(): void
    {
        posix_kill(getmypid(), SIGKILL);
    }
}
