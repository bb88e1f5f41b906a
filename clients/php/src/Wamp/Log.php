<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** Lines on stderr, as all programs of the bus write them. */
final class Log
{
    public static function info(string $words): void
    {
        self::line('INFO', $words);
    }

    public static function warning(string $words): void
    {
        self::line('WARNING', $words);
    }

    public static function error(string $words): void
    {
        self::line('ERROR', $words);
    }

    private static function line(string $level, string $words): void
    {
        // A line break in what others say would begin a line in their name.
        $words = strtr($words, ["\n" => '\n', "\r" => '\r']);
        $now = new \DateTimeImmutable();
        // In one write: several processes may have the same log.
        fwrite(STDERR, $now->format('Y-m-d H:i:s,v') . " $level php: $words\n");
    }
}
