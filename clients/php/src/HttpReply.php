<?php

declare(strict_types=1);

namespace Taskbus;

/**
 * The one answer to a request, whatever a task does meanwhile: what it writes is for the log, and
 * where it ends PHP, by exit() or by an error that nobody can catch, that is the answer.
 */
final class HttpReply
{
    private const LONGEST_LINE = 1000;
    private const TOO_LATE = 'Maximum execution time';

    private string $who = 'taskbus';
    private string $begun = '';
    private int $level = 0;
    private bool $isPassing = false;
    private bool $isStreaming = false;
    private bool $isEnded = false;

    /** @param bool $mayStream whether the caller wants to hear of progress */
    public function __construct(private readonly bool $mayStream)
    {
        ini_set('display_errors', '0');
        ini_set('html_errors', '0');
        ini_set('log_errors', '1');
        ini_set('serialize_precision', '-1');
        // A task hears of it from progress(), and can clean up.
        ignore_user_abort(true);
        while (ob_get_level() > 0 && ob_end_clean()) {
            // What PHP or a prepended file has begun is no part of the answer.
        }
        $this->capture();
        register_shutdown_function($this->lastWords(...));
    }

    /** Whose lines those in the log are from now on. */
    public function name(string $who): void
    {
        $this->who = $who;
    }

    /** Lines for the log. */
    public function log(string $line): void
    {
        foreach (explode("\n", $line) as $one) {
            foreach (str_split($one, self::LONGEST_LINE) as $piece) {
                error_log("$this->who: " . addcslashes($piece, "\0..\10\13..\37\177"));
            }
        }
    }

    /**
     * A line of application/x-ndjson, sent at once.
     *
     * @throws HttpGone
     */
    public function progress(float $fraction, string $message): void
    {
        // A buffer of the task's own is in the way, and not ours to end.
        if (!$this->mayStream || ob_get_level() !== $this->level) {
            return;
        }
        if (!$this->isStreaming) {
            $this->isStreaming = true;
            // Else nginx would keep the lines until there are enough of them.
            $this->head(200, ['Content-Type' => 'application/x-ndjson', 'X-Accel-Buffering' => 'no']);
        }
        $this->pass(Json::encode(['progress' => $fraction, 'message' => $message]) . "\n");
        if (connection_aborted()) {
            throw new HttpGone('the caller has gone away');
        }
    }

    /**
     * The answer; what comes after it is for the log.
     *
     * @param array<string, string> $headers
     */
    public function end(Answer $answer, int $status, array $headers = []): void
    {
        $this->isEnded = true;
        while (ob_get_level() > $this->level && ob_end_flush()) {
            // Of buffers that the task has left open.
        }
        $body = $answer->json() . "\n";
        if (!$this->isStreaming) {
            $length = (string) strlen($body);
            $this->head($status, $headers + ['Content-Type' => 'application/json', 'Content-Length' => $length]);
        }
        if (ob_get_level() < $this->level) {
            $this->capture();
        }
        $this->pass($body);
        $this->flushLog();
    }

    private function capture(): void
    {
        // In pieces of one byte, that is at each echo: what a task says is in the log at once.
        ob_start(fn (string $text, int $phase): string => $this->isPassing ? $text : $this->heard($text, $phase), 1);
        $this->level = ob_get_level();
    }

    /** @param array<string, string> $headers */
    private function head(int $status, array $headers): void
    {
        // With a 200 sent already, as by a flush() of the task, an error is one all the same.
        if (headers_sent()) {
            return;
        }
        header_remove();
        http_response_code($status);
        foreach ($headers + ['Cache-Control' => 'no-store'] as $name => $value) {
            header("$name: $value");
        }
    }

    private function pass(string $text): void
    {
        $this->isPassing = true;
        echo $text;
        $this->isPassing = false;
        flush();
    }

    private function heard(string $text, int $phase): string
    {
        $lines = explode("\n", $this->begun . $text);
        $this->begun = (string) array_pop($lines);
        array_map($this->log(...), $lines);
        if (strlen($this->begun) > self::LONGEST_LINE || $phase & PHP_OUTPUT_HANDLER_FINAL) {
            $this->flushLog();
        }
        return '';
    }

    private function flushLog(): void
    {
        if ($this->begun !== '') {
            $this->log($this->begun);
            $this->begun = '';
        }
    }

    private function lastWords(): void
    {
        if ($this->isEnded) {
            $this->flushLog();
            return;
        }
        $error = error_get_last();
        $this->end(
            str_starts_with($error['message'] ?? '', self::TOO_LATE)
                ? Answer::failure($error['message'], 'taskbus.error.timeout')
                : Answer::lastWords(),
            500,
        );
    }
}
