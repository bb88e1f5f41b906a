<?php

declare(strict_types=1);

use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskInterface;
use Taskbus\TaskResult;

/** Does what its first argument names, one of the methods below, with the others. */
final class Called implements TaskInterface
{
    private bool $isEloquent = false;
    private bool $hasRegrets = false;

    public function __destruct()
    {
        if ($this->hasRegrets) {
            throw new DomainException('regretted');
        }
        if ($this->isEloquent) {
            fwrite(STDERR, "destructed\n");
        }
    }

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

    private function fail(): never
    {
        throw new TaskFailure('no such shop', 'com.example.error.no_shop', shop: 'x');
    }

    /** The same without a log. */
    private function silence(): never
    {
        fclose(STDERR);
        $this->fail();
    }

    private function crash(): never
    {
        throw new DomainException('of all things');
    }

    private function leave(): never
    {
        exit(3);
    }

    private function exhaust(): never
    {
        ini_set('memory_limit', '32M');
        for ($text = 'x'; true; $text .= $text) {
            // Ever longer.
        }
    }

    private function undefined(): never
    {
        no_such_function();
    }

    private function suicide(): void
    {
        posix_kill(posix_getpid(), SIGKILL);
    }

    private function say(): int
    {
        echo "echoed\n";
        fwrite(STDOUT, "written\n");
        passthru('echo passed');
        trigger_error('warned', E_USER_WARNING);
        return 1;
    }

    private function last(): int
    {
        register_shutdown_function(static function (): void {
            echo "said at the end\n";
        });
        $this->isEloquent = true;
        ob_start();
        echo "held back\n";
        return 1;
    }

    /** A process of its own, which ends as one does. */
    private function fork(): int
    {
        $pid = pcntl_fork();
        if ($pid === 0) {
            exit(0);
        }
        pcntl_waitpid($pid, $status);
        return 1;
    }

    /** A process of its own, which comes back as well. */
    private function twins(): string
    {
        $pid = pcntl_fork();
        $pid === 0 || pcntl_waitpid($pid, $status);
        return $pid === 0 ? 'the child' : 'the parent';
    }

    /** Fails when its answer is made. Tells the parent's process. */
    private function regret(): int
    {
        $this->hasRegrets = true;
        return posix_getppid();
    }

    /** The parent's process, where a warning is an exception. */
    private function strict(): ?int
    {
        try {
            trigger_error('warned', E_USER_WARNING);
        } catch (ErrorException) {
            return posix_getppid();
        }
        return null;
    }

    /** What a program reads from its stdin. */
    private function listen(): string
    {
        return shell_exec('cat; echo end');
    }

    private function draw(): int
    {
        return mt_rand();
    }

    private function steps(TaskInput $task): int
    {
        $task->progress(0.25, 'zażółć');
        $task->progress(7);
        return 2;
    }

    /** Tells its process and its parent's, then waits for a byte in the pipe. */
    private function hold(TaskInput $task, string $pipe): int
    {
        $task->progress(0.5, posix_getpid() . ' ' . posix_getppid());
        $gate = fopen($pipe, 'r');
        // Others wait for theirs.
        stream_set_read_buffer($gate, 0);
        fread($gate, 1);
        return posix_getpid();
    }

    /** Waits for a program that does. */
    private function program(TaskInput $task, string $pipe): string
    {
        $program = proc_open(['head', '-c1', $pipe], [], $pipes);
        $task->progress(0.5, proc_get_status($program)['pid'] . ' ' . posix_getppid());
        return 'ended with ' . proc_close($program);
    }
}
