<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\TaskFailure;
use Taskbus\Tasks;

/** Loads a class in a process of its own first: loading one can end it, as an error of PHP's own does. */
final class Probe
{
    /** What is wrong with the class, and the remedy; null where it can be loaded. */
    public static function problem(Tasks $tasks, string $class): ?string
    {
        [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $pid = pcntl_fork();
        if ($pid === 0) {
            fclose($ours);
            self::load($theirs, $tasks, $class);
        }
        fclose($theirs);
        $said = (string) stream_get_contents($ours);
        fclose($ours);
        // One that takes too long, as default_socket_timeout has it, says no more.
        posix_kill($pid, SIGKILL);
        pcntl_waitpid($pid, $status);
        return match ($said) {
            'fine' => null,
            '' => "cannot load the class $class: the process that tried it was killed, or takes too long",
            default => $said,
        };
    }

    /** @param resource $pipe */
    private static function load($pipe, Tasks $tasks, string $class): never
    {
        Inherited::closeAll();
        $said = null;
        register_shutdown_function(static function () use ($pipe, $class, &$said): void {
            $said ??= "cannot load the class $class: " . Json::decode(Answer::lastWords()->args)[0];
            fwrite($pipe, $said);
        });
        try {
            $tasks->load($class);
            $said = 'fine';
        } catch (TaskFailure $failure) {
            $said = "{$failure->getMessage()}; {$failure->about['remedy']}";
        }
        exit(0);
    }
}
