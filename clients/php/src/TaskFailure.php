<?php

declare(strict_types=1);

namespace Taskbus;

/** Thrown by a task that chooses the message, the error URI and the details of its failure. */
final class TaskFailure extends \RuntimeException
{
    /** @var array<string, mixed> */
    public readonly array $about;

    /** Further arguments are details by name: `new TaskFailure('no such shop', $uri, shop: 'x')`. */
    public function __construct(
        string $message,
        public readonly string $errorUri = 'taskbus.error.task_failed',
        mixed ...$about,
    ) {
        parent::__construct($message);
        $this->about = array_filter($about, 'is_string', ARRAY_FILTER_USE_KEY);
    }
}
