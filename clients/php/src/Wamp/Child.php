<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Portable;
use Taskbus\TaskInput;
use Taskbus\Tasks;

/** What the forked process of one call does: it runs the task, tells how that went, and ends. */
final class Child
{
    /** Kinds of frames to the parent: a list with a progressive result, or a whole Answer. */
    public const PROGRESS = 0;
    public const RESULT = 1;
    public const ERROR = 2;

    private bool $isAnswered = false;
    private readonly int $pid;

    /** @param resource $pipe to the parent */
    private function __construct(
        private $pipe,
        private readonly string $uri,
        private readonly bool $isHeard,
    ) {
        $this->pid = posix_getpid();
    }

    /**
     * Never returns.
     *
     * @param resource $pipe
     * @param string $memory the ini setting memory_limit, which is for tasks
     */
    public static function work($pipe, Tasks $tasks, Entry $entry, Invocation $call, string $memory): never
    {
        // The parent does the same: whoever is first.
        posix_setpgid(0, 0);
        foreach ([SIGTERM, SIGINT, SIGHUP, SIGCHLD] as $signal) {
            pcntl_signal($signal, SIG_DFL);
        }
        Inherited::closeAll();
        // Two calls must not draw the same numbers, as twins would.
        mt_srand(random_int(0, PHP_INT_MAX));
        @ini_set('memory_limit', $memory);
        $self = new self($pipe, $call->procedure($entry), (bool) ($call->details->receive_progress ?? false));
        register_shutdown_function($self->leave(...));
        // The one of the site's code; the backend has set it aside.
        restore_error_handler();
        try {
            $self->answer($self->perform($tasks, $entry, $call));
            $tasks->forget();
        } catch (\Throwable $error) {
            // As of a log that the task has closed. Further up the stack is the parent's code, which would
            // take this process for the backend.
            error_log((string) $error);
        }
        exit(0);
    }

    /** The answer as the parent reads it. */
    public static function read(int $kind, string $payload): Answer
    {
        ['error' => $error, 'args' => $args] = unpack('Nerror/Nargs', $payload);
        return new Answer(
            $kind === self::ERROR ? substr($payload, 8, $error) : null,
            substr($payload, 8 + $error, $args),
            substr($payload, 8 + $error + $args),
        );
    }

    private function perform(Tasks $tasks, Entry $entry, Invocation $call): Answer
    {
        try {
            [$args, $kwargs] = Json::decode($call->arguments) + [[], new \stdClass()];
        } catch (\JsonException $error) {
            return Answer::failure("args: PHP cannot read them: {$error->getMessage()}",
                'taskbus.error.invalid_argument', ['field' => 'args',
                    'remedy' => 'send valid Unicode, and objects whose keys do not begin with NUL']);
        }
        $kwargs = get_object_vars($kwargs);
        $flaw = Portable::isOdd($call->arguments)
            ? Portable::flaw('args', $args) ?? Portable::flaw('kwargs', $kwargs) : null;
        $flaw ??= Portable::flawOfIntegers('args', $call->arguments);
        if ($flaw !== null) {
            return Answer::refused($flaw);
        }
        return $tasks->perform($entry->class, new TaskInput(
            $this->uri,
            $args,
            $kwargs,
            $call->caller(),
            $this->isHeard ? $this->progress(...) : null,
        ));
    }

    private function progress(float $fraction, string $message): void
    {
        $this->tell(self::PROGRESS, Json::encode([['fraction' => $fraction, 'message' => $message]]));
    }

    private function answer(Answer $answer): void
    {
        if ($this->isForked()) {
            return;
        }
        $this->isAnswered = true;
        $error = (string) $answer->error;
        $this->tell($answer->error === null ? self::RESULT : self::ERROR,
            pack('NN', strlen($error), strlen($answer->args)) . $error . $answer->args . $answer->kwargs);
        if ($answer->error !== null) {
            Log::warning("$this->uri failed: " . Json::decode($answer->args)[0] . " ($error)");
        }
    }

    /** A process that the task has forked does not answer for it. */
    private function isForked(): bool
    {
        return posix_getpid() !== $this->pid;
    }

    /** The end; an early one where the task called exit(), or PHP gave up. */
    private function leave(): void
    {
        if ($this->isForked()) {
            return;
        }
        if (!$this->isAnswered) {
            // It may be what has ended it.
            ini_set('memory_limit', '-1');
            $this->answer(Answer::lastWords());
        }
        // After those that the task has registered.
        register_shutdown_function(static function (): void {
            while (ob_get_level() > 0 && ob_end_flush()) {
                // The next one.
            }
            // To take PHP down in an orderly way would take ten times as long as the rest of a small call.
            posix_kill(posix_getpid(), SIGKILL);
        });
    }

    private function tell(int $kind, string $payload): void
    {
        $frame = Frames::frame($payload, $kind);
        // Where the parent is gone, its guard will end this process, too.
        while ($frame !== '' && ($went = @fwrite($this->pipe, $frame)) > 0) {
            $frame = substr($frame, $went);
        }
    }
}
