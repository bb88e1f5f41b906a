<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** What the router, or whoever was called, has answered. */
final class Reply
{
    /**
     * @param ?string $error its URI; null where all went well
     * @param list<mixed> $args positional results, or what comes with the error
     * @param array<string, mixed> $kwargs keyword results
     * @param int $number of a registration
     */
    public function __construct(
        public readonly ?string $error = null,
        public readonly array $args = [],
        public readonly array $kwargs = [],
        public readonly int $number = 0,
    ) {
    }

    /** The first positional result; null where there is none. */
    public function value(): mixed
    {
        return $this->args[0] ?? null;
    }
}
