<?php

declare(strict_types=1);

namespace Taskbus\Worker;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Tasks;

/** A spare child: it waits for a job, runs it, tells its worker about it and leaves. */
final class Child
{
    private const RESULT = 'R';
    private const FAILURE = 'E';
    private const PROGRESS = 'P';

    public function __construct(
        private readonly System $system,
        private readonly Tasks $tasks,
        private readonly int $socket,
        private readonly int $stdout,
        private readonly int $stderr,
    ) {
    }

    /** @param array<string, string> $classes by the pattern of their entry in the API map */
    public function live(array $classes): never
    {
        posix_setsid();
        $this->system->move($this->stdout, 1);
        $this->system->move($this->stderr, 2);
        $job = $this->received();
        if ($job === null) {
            $this->system->leave(0);
        }
        // What the classes drew while they were loaded would be followed by the same in each child.
        mt_srand();
        $request = Job::request($job);
        Job::run(
            $this->tasks,
            $classes[$request->handler ?? ''] ?? '',
            $request,
            fn (float $fraction, string $message) => $this->tell(
                self::PROGRESS,
                Json::encode(['fraction' => $fraction, 'message' => $message]),
            ),
            $this->report(...),
        );
    }

    /** null when the worker let go of this spare. */
    private function received(): ?string
    {
        $parts = [];
        do {
            $part = $this->system->read($this->socket);
            if ($part === '') {
                return null;
            }
            $parts[] = $part;
        } while (!str_ends_with($part, "\n"));
        return implode('', $parts);
    }

    private function report(Answer $answer): never
    {
        // Closed before the last frame, so that the worker, which reads that, knows that all output
        // is there, and need not wait for the end of this process.
        $this->system->close(1);
        $this->system->close(2);
        if ($answer->error === null) {
            $this->tell(self::RESULT, $answer->json());
        } else {
            $this->tell(self::FAILURE, self::error($answer));
        }
        $this->system->leave(0);
    }

    /** As the record of the job has it. */
    private static function error(Answer $answer): string
    {
        return '{"error":' . Json::encode($answer->error) . ',"message":' . substr($answer->args, 1, -1)
            . ",\"about\":$answer->kwargs,\"traceback\":" . Json::encode($answer->trace) . '}';
    }

    private function tell(string $kind, string $body): void
    {
        $this->system->write($this->socket, "$kind$body\n");
    }
}
