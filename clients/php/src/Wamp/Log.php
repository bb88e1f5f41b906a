<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** Lines on stderr, as all programs of the bus write them. */
final class Log
{
    private static ?\DateTimeZone $zone = null;

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
        self::$zone ??= self::zone();
        $now = new \DateTimeImmutable('now', self::$zone);
        // In one write: several processes may have the same log.
        fwrite(STDERR, $now->format('Y-m-d H:i:s,v') . " $level php: $words\n");
    }

    /** The machine's, as others write it: PHP's own is UTC, unless it is told another. */
    private static function zone(): \DateTimeZone
    {
        $name = getenv('TZ') ?: explode('/zoneinfo/', (string) @readlink('/etc/localtime'))[1] ?? 'UTC';
        try {
            return new \DateTimeZone(ltrim($name, ':'));
        } catch (\Exception) {
            return new \DateTimeZone('UTC');
        }
    }
}
