<?php

declare(strict_types=1);

namespace Taskbus;

/** One call of a task. Lists in it are arrays, objects are stdClass: [] and {} stay apart. */
final class TaskInput
{
    private const LONGEST_MESSAGE = 1000;

    /**
     * @param list<mixed> $args as the caller sent them
     * @param array<string, mixed> $kwargs keyword arguments by name
     * @param object $details who called and how: caller_authid, caller_authrole, procedure, trace;
     *     in a job also job (its id) and attempt (1 for the first)
     * @param ?\Closure(float, string): void $progress takes what progress() is told
     * @param ?\Closure(string): void $log takes what log() is told, in place of stderr
     */
    public function __construct(
        public readonly string $uri,
        public readonly array $args = [],
        public readonly array $kwargs = [],
        public readonly object $details = new \stdClass(),
        private readonly ?\Closure $progress = null,
        private readonly ?\Closure $log = null,
    ) {
    }

    /** Tells whoever watches how far the task is, from 0.0 to 1.0; a long message keeps its start. */
    public function progress(float $fraction, string $message = ''): void
    {
        // Not a number becomes 0: that it is none concerns nobody who watches.
        $fraction = is_nan($fraction) ? 0.0 : min(1.0, max(0.0, $fraction));
        if ($this->progress !== null) {
            ($this->progress)($fraction, Portable::start($message, self::LONGEST_MESSAGE));
        }
    }

    /** A line for the log: in a job's journal, or in the backend's log. */
    public function log(string $line): void
    {
        if ($this->log !== null) {
            ($this->log)($line);
        } else {
            file_put_contents('php://stderr', $line . "\n");
        }
    }
}
