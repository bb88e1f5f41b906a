<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** What the API map says of a URI, or of all below one: `com.x.*`. */
final class Entry
{
    public function __construct(
        public readonly string $uri,
        public readonly string $class,
        public readonly bool $isBackground,
        public readonly float $timeout,
    ) {
    }

    /**
     * Those that name PHP classes.
     *
     * @param mixed $listed what taskbus.api.list has answered
     * @return list<self>
     */
    public static function ofPhp(mixed $listed): array
    {
        $found = [];
        foreach (is_array($listed) ? $listed : [] as $one) {
            if ($one->kind === 'php' && isset($one->class)) {
                $found[] = new self($one->uri, $one->class, $one->mode === 'background', (float) $one->timeout);
            }
        }
        return $found;
    }
}
