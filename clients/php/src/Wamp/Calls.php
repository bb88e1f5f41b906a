<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Portable;
use Taskbus\TaskInput;
use Taskbus\TaskResult;
use Taskbus\Tasks;

/**
 * The foreground calls of this process: each runs in a forked process of its own. So a call that
 * blocks keeps nobody waiting, and whatever a task does, its caller gets an answer.
 */
final class Calls
{
    private const CHUNK = 262_144;
    private const OF_CALLS = [Answer::class, Child::class, Json::class, Portable::class, TaskInput::class,
        TaskResult::class, Trace::class];

    /** @var array<int, Running> by process */
    private array $running = [];

    /** @var array<int, array{Entry, Invocation, int}> by request; in the order of their coming */
    private array $waiting = [];

    /** @var array<int, array{Entry, float}> those without an answer, and when they came, by request */
    private array $open = [];

    private ?Session $session = null;
    private readonly string $memory;

    /** @param int $most how many run at a time; further ones wait */
    public function __construct(
        private readonly Loop $loop,
        private readonly Tasks $tasks,
        private readonly Guard $guard,
        private readonly int $most,
        private readonly Tally $tally,
    ) {
        $this->memory = (string) ini_get('memory_limit');
        // Large messages of several calls pass through here. What a task uses is bounded in its process.
        ini_set('memory_limit', '-1');
        $loop->onSignal(SIGCHLD, $this->reap(...));
        // Loaded once, and not by each call in its process.
        array_map('class_exists', self::OF_CALLS);
    }

    /** From now on this is where answers go. */
    public function attach(Session $session): void
    {
        $this->session = $session;
        $session->onInterrupt = fn (int $request) => $this->end($request,
            Answer::failure('the caller has gone, or canceled it', 'wamp.error.canceled'));
        $session->onDrained($this->passOn(...));
    }

    /** The session is gone, and so are those who wait for answers. */
    public function detach(): void
    {
        $this->session = null;
        $this->endAll(Answer::failure('the connection was lost'));
    }

    public function run(Entry $entry, Invocation $call): void
    {
        $late = "{$call->procedure($entry)} did not end within " . self::shown($entry->timeout) . ' seconds';
        $this->open[$call->request] = [$entry, Loop::now()];
        $timer = $this->loop->after($entry->timeout, fn () => $this->end($call->request,
            Answer::failure($late, 'taskbus.error.timeout')));
        if (count($this->running) < $this->most) {
            $this->start($entry, $call, $timer);
        } else {
            $this->waiting[$call->request] = [$entry, $call, $timer];
        }
    }

    public function count(): int
    {
        return count($this->running) + count($this->waiting);
    }

    /** Answers all calls, and ends their processes. */
    public function endAll(Answer $answer): void
    {
        foreach (array_keys($this->waiting) as $request) {
            $this->end($request, $answer);
        }
        foreach ($this->running as $one) {
            $this->finish($one, $answer);
        }
    }

    private function end(int $request, Answer $answer): void
    {
        if (isset($this->waiting[$request])) {
            $this->loop->cancel($this->waiting[$request][2]);
            unset($this->waiting[$request]);
            $this->settle($request, $answer);
        }
        foreach ($this->running as $one) {
            if ($one->request === $request) {
                $this->finish($one, $answer);
            }
        }
    }

    private function finish(Running $one, Answer $answer): void
    {
        $one->kill();
        $this->answer($one, $answer);
    }

    private function start(Entry $entry, Invocation $call, int $timer): void
    {
        [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $pid = pcntl_fork();
        if ($pid === 0) {
            fclose($ours);
            Child::work($theirs, $this->tasks, $entry, $call, $this->memory);
        }
        fclose($theirs);
        if ($pid < 0) {
            fclose($ours);
            $this->loop->cancel($timer);
            $this->settle($call->request, Answer::failure(
                'cannot start a process: ' . pcntl_strerror(pcntl_get_last_error()),
                'taskbus.error.handler_unreachable'));
            return;
        }
        posix_setpgid($pid, $pid);
        $this->guard->watch($pid);
        stream_set_blocking($ours, false);
        stream_set_chunk_size($ours, self::CHUNK);
        Inherited::add($ours);
        $one = new Running($call->request, $pid, $ours, $call->procedure($entry), $timer);
        $this->running[$pid] = $one;
        $this->loop->onReadable($ours, fn () => $this->hear($one));
    }

    /** Reads what is there; false where that was nothing. */
    private function hear(Running $one): bool
    {
        $bytes = (string) @fread($one->pipe, self::CHUNK);
        foreach ($one->frames->feed($bytes) as [$kind, $payload]) {
            if ($kind === Child::PROGRESS) {
                $one->progress = $payload;
                $this->passOn();
            } else {
                $this->answer($one, Child::read($kind, $payload));
            }
        }
        if ($bytes === '' && feof($one->pipe)) {
            $this->loop->onReadable($one->pipe, null);
        }
        return $bytes !== '';
    }

    private function answer(Running $one, Answer $answer): void
    {
        if (!$one->isAnswered) {
            $one->isAnswered = true;
            if ($one->progress !== null) {
                $this->session?->progress($one->request, $one->progress);
            }
            $this->settle($one->request, $answer);
        }
    }

    /** The answer to a call; its caller may have gone before. */
    private function settle(int $request, Answer $answer): void
    {
        [$entry, $began] = $this->open[$request];
        unset($this->open[$request]);
        $this->tally->call($entry->uri, $answer->error === null, Loop::now() - $began);
        $this->session?->answer($request, $answer);
    }

    /** Tells the progress of each call; where the router does not keep up, the newest alone. */
    private function passOn(): void
    {
        foreach ($this->running as $one) {
            if ($this->session === null || $this->session->isBehind()) {
                return;
            }
            if ($one->progress !== null && !$one->isAnswered) {
                $progress = $one->progress;
                $one->progress = null;
                $this->session->progress($one->request, $progress);
            }
        }
    }

    /** Some processes have ended. */
    private function reap(): void
    {
        foreach ($this->running as $pid => $one) {
            if (pcntl_waitpid($pid, $status, WNOHANG) === $pid) {
                $this->reaped($one, $status);
            }
        }
        while ($this->waiting && count($this->running) < $this->most) {
            $request = array_key_first($this->waiting);
            [$entry, $call, $timer] = $this->waiting[$request];
            unset($this->waiting[$request]);
            $this->start($entry, $call, $timer);
        }
    }

    private function reaped(Running $one, int $status): void
    {
        $this->guard->forget($one->pid);
        while ($this->hear($one)) {
            // Its last words were there before its end.
        }
        $how = pcntl_wifsignaled($status) ? 'was killed by signal ' . pcntl_wtermsig($status)
            : 'exited with status ' . pcntl_wexitstatus($status);
        $this->answer($one, Answer::failure("the process that ran it $how", 'taskbus.error.killed'));
        unset($this->running[$one->pid]);
        $this->loop->cancel($one->timer);
        $this->loop->onReadable($one->pipe, null);
        Inherited::close($one->pipe);
    }

    private static function shown(float $seconds): string
    {
        return sprintf('%g', $seconds);
    }
}
