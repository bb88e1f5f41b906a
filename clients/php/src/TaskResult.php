<?php

declare(strict_types=1);

namespace Taskbus;

/** What a task gives back: `new TaskResult(42, total: 100)` has one positional, one keyword result. */
final class TaskResult
{
    /** @var list<mixed> */
    public readonly array $args;

    /** @var array<string, mixed> */
    public readonly array $kwargs;

    /** Values as JSON has them: null, booleans, numbers, texts, arrays, and stdClass for objects. */
    public function __construct(mixed ...$results)
    {
        $this->args = array_values(array_filter($results, 'is_int', ARRAY_FILTER_USE_KEY));
        $this->kwargs = array_filter($results, 'is_string', ARRAY_FILTER_USE_KEY);
    }

    /** A plain value is the one positional result. */
    public static function of(mixed $value): self
    {
        return $value instanceof self ? $value : new self($value);
    }
}
