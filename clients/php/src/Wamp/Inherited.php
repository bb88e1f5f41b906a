<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/**
 * Streams that are this process's alone: a forked child closes its copies. In its hands a connection
 * would stay open, a lock held, and the end of a pipe unseen, after this process has gone.
 */
final class Inherited
{
    /** @var array<int, resource> */
    private static array $streams = [];

    /** @param resource $stream */
    public static function add($stream): void
    {
        self::$streams[(int) $stream] = $stream;
    }

    /** @param resource $stream */
    public static function close($stream): void
    {
        unset(self::$streams[(int) $stream]);
        fclose($stream);
    }

    /** For the child, first of all. */
    public static function closeAll(): void
    {
        array_map(fclose(...), self::$streams);
        self::$streams = [];
    }
}
