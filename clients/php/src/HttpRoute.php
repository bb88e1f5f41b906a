<?php

declare(strict_types=1);

namespace Taskbus;

/**
 * Which class a URI is. Below the namespace each part names a namespace of PHP, the last one the
 * class: with the namespace com.example.shop, com.example.shop.disk.get_free_space is
 * Disk\GetFreeSpace.
 *
 * No two URIs are one class: who may not call the one cannot reach it by the other.
 */
final class HttpRoute
{
    // A letter begins each word: top_10 and top10 would both be Top10.
    private const PART = '/^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$/D';

    /**
     * @param string $namespace that of URIs, empty for all of them
     * @param string $classes the namespace of PHP in which all classes are, may be empty
     * @return ?string null where it can be none
     */
    public static function className(string $uri, string $namespace, string $classes): ?string
    {
        if ($namespace !== '') {
            if (!str_starts_with($uri, "$namespace.")) {
                return null;
            }
            $uri = substr($uri, strlen($namespace) + 1);
        }
        $parts = explode('.', $uri);
        foreach ($parts as &$part) {
            if (!preg_match(self::PART, $part)) {
                return null;
            }
            $part = str_replace('_', '', ucwords($part, '_'));
        }
        return ltrim($classes . '\\' . implode('\\', $parts), '\\');
    }
}
