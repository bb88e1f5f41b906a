<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** One call in the hands of its forked process. */
final class Running
{
    /** Whether its caller has the answer; its process may have something to do yet. */
    public bool $isAnswered = false;

    /** The newest progress that the router has not been told: JSON. */
    public ?string $progress = null;

    public readonly Frames $frames;

    /** @param resource $pipe from the process */
    public function __construct(
        public readonly int $request,
        public readonly int $pid,
        public $pipe,
        public readonly string $uri,
        public readonly int $timer,
    ) {
        $this->frames = new Frames();
    }

    /** Ends it at once, with all that it has started. */
    public function kill(): void
    {
        posix_kill(-$this->pid, SIGKILL);
    }
}
