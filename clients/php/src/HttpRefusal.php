<?php

declare(strict_types=1);

namespace Taskbus;

/** Why a request gets no task: an HTTP status, and the error that says which part of it is wrong. */
final class HttpRefusal extends \Exception
{
    public readonly Answer $answer;

    /** @param array<string, string> $headers for the answer */
    public function __construct(
        public readonly int $status,
        string $name,
        string $message,
        string $remedy,
        ?string $field = null,
        mixed $value = null,
        public readonly array $headers = [],
    ) {
        parent::__construct($message);
        $about = ['field' => $field, 'value' => Portable::shown($value), 'remedy' => $remedy];
        $about = array_filter($about, static fn (mixed $one): bool => $one !== null);
        $this->answer = Answer::failure($message, "taskbus.error.$name", $about);
    }

    /** A setting that is wrong; its value is for the log alone, as anybody may have asked. */
    public static function config(string $name, string $value, string $problem, string $remedy): self
    {
        error_log("taskbus: $name: $problem ($value); $remedy");
        return new self(500, 'config', "$name: $problem", $remedy, $name);
    }
}
