<?php

declare(strict_types=1);

namespace Taskbus;

/** JSON as the bus has it: objects are stdClass, and floats stay floats. */
final class Json
{
    private const DEEPEST = 512;

    /** @throws \JsonException for anything that is no JSON value */
    public static function encode(mixed $value): string
    {
        return json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES
            | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION, self::DEEPEST);
    }

    /**
     * Integers beyond PHP's own become texts: a float would lose their last digits.
     *
     * @throws \JsonException
     */
    public static function decode(string $text): mixed
    {
        return json_decode($text, false, self::DEEPEST, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    }
}
