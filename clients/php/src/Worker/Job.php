<?php

declare(strict_types=1);

namespace Taskbus\Worker;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Tasks;

/** One job, which is all that this process does. */
final class Job
{
    /**
     * Runs it, reports how it ended, and ends.
     *
     * @param mixed $request see Tasks::answer
     * @param \Closure(float, string): void $progress
     * @param \Closure(Answer): void $report is called once, when there is no more output
     */
    public static function run(
        Tasks $tasks,
        string $class,
        mixed $request,
        \Closure $progress,
        \Closure $report,
    ): never {
        // Another value, in a php.ini of old, would change numbers.
        ini_set('serialize_precision', '-1');
        $answer = null;
        $owner = getmypid();
        // A task that calls exit(), or exhausts its memory, comes here at once.
        register_shutdown_function(static function () use (&$answer, $report, $owner): void {
            if (getmypid() !== $owner) {
                return; // A process that the task has forked.
            }
            ini_set('memory_limit', '-1');
            // After those that the task has registered.
            register_shutdown_function(static function () use (&$answer, $report): void {
                while (ob_get_level() > 0 && ob_end_flush()) {
                    // The next one.
                }
                $report($answer ?? Answer::lastWords());
            });
        });
        $answer = $tasks->answer($class, $request, $progress);
        // Here, as a warm process leaves without PHP's own end.
        $tasks->forget();
        exit(0);
    }

    /** The request in a JSON text; null, which is none, where PHP cannot read it. */
    public static function request(string $json): mixed
    {
        try {
            return Json::decode($json);
        } catch (\JsonException) {
            return null;
        }
    }

    /** What PHP itself has to say of the code goes to stderr, which is the job's log. */
    public static function logErrors(): void
    {
        $is_logged = ini_get('log_errors') && ini_get('error_log') === '';
        ini_set('display_errors', $is_logged ? '0' : 'stderr');
    }
}
