<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** An error that came in place of an answer. */
final class Refused extends \RuntimeException
{
    /**
     * @param string $uri the error's
     * @param list<mixed> $args the first one is the message, usually
     * @param array<string, mixed> $kwargs
     */
    public function __construct(
        public readonly string $uri,
        public readonly array $args = [],
        public readonly array $kwargs = [],
    ) {
        $message = is_string($args[0] ?? null) ? $args[0] : '';
        parent::__construct($message === '' ? $uri : "$message ($uri)");
    }
}
