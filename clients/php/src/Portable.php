<?php

declare(strict_types=1);

namespace Taskbus;

/**
 * Values that every door of the bus can carry. One that it cannot carry is refused where it is
 * made: the router would drop the message, and a caller would wait for ever.
 */
final class Portable
{
    /** Readers of JSON follow no deeper, some of them by far not as deep as they can be sent. */
    public const DEEPEST = 100;

    /** Bytes of JSON: the router's messages hold 16 MiB. */
    public const LARGEST_RESULT = 16_000_000;

    /** Autobahn for Python takes these keywords of an answer for its own. */
    public const RESERVED_KEYWORDS =
        ['self', 'enc_algo', 'callee', 'callee_authid', 'callee_authrole', 'forward_for'];

    // The integers of msgpack, without their signs.
    private const LARGEST_INTEGER = '18446744073709551615';
    private const SMALLEST_INTEGER = '9223372036854775808';

    private const LONGEST_SHOWN = 200;
    private const LONGEST_STEP = 40;

    /** Whether JSON may have a flaw() where PHP could read or write it; that of few values may. */
    public static function isOdd(string $json): bool
    {
        return substr_count($json, '[') + substr_count($json, '{') > self::DEEPEST
            // A quote within a text has a backslash before it.
            || str_contains($json, '"\u0000') && preg_match('/(?<!\\\\)"\\\\u0000/', $json) === 1;
    }

    /**
     * The first part of a value that cannot be carried, as [place, value, problem, remedy].
     *
     * @return array{string, mixed, string, string}|null null where all of it can
     */
    public static function flaw(string $place, mixed $value, int $deeper = self::DEEPEST + 1): ?array
    {
        return match (true) {
            is_string($value) => self::flawOfText($place, $value),
            is_float($value) && !is_finite($value) =>
                [$place, $value, 'not a finite number', 'send null or a text instead'],
            // One that names itself is its properties.
            $value instanceof \JsonSerializable && ($named = $value->jsonSerialize()) !== $value =>
                self::flaw($place, $named, $deeper),
            $value instanceof \BackedEnum => null,
            is_array($value), is_object($value) => self::flawOfParts($place, $value, $deeper),
            !is_scalar($value) && $value !== null => [
                $place,
                get_debug_type($value),
                get_debug_type($value) . ' is not a JSON type',
                'send texts, finite numbers, true, false, null, lists and objects',
            ],
            default => null,
        };
    }

    /**
     * The same for integers that PHP reads as texts, as they are beyond its own.
     *
     * @return array{string, mixed, string, string}|null
     */
    public static function flawOfIntegers(string $place, string $json): ?array
    {
        // Most JSON has nothing of the kind. What is within a text is none.
        if (preg_match('/\d{19}/', $json)) {
            preg_match_all('/"(?:[^"\\\\]++|\\\\.)*+"(*SKIP)(*FAIL)|(?<![\d.eE+-])-?\d{19,}+(?![.eE])/s', $json, $found);
            foreach ($found[0] as $integer) {
                $digits = ltrim($integer, '-');
                $most = $digits === $integer ? self::LARGEST_INTEGER : self::SMALLEST_INTEGER;
                if ((strlen($digits) <=> strlen($most) ?: strcmp($digits, $most)) > 0) {
                    return [$place, self::shown($integer), 'an integer of more than 64 bits', 'send it as a text'];
                }
            }
        }
        return null;
    }

    /** A value short enough for a message, as every door carries it; a long one keeps its start. */
    public static function shown(mixed $value): mixed
    {
        if ($value === null || is_bool($value) || is_int($value) || is_float($value) && is_finite($value)) {
            return $value;
        }
        $text = match (true) {
            is_string($value) => $value,
            is_array($value), is_object($value) =>
                (string) json_encode($value, JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_UNESCAPED_UNICODE),
            is_float($value) => (string) $value,
            default => get_debug_type($value),
        };
        $start = self::start($text, self::LONGEST_SHOWN);
        return strlen($text) > strlen($start) ? "$start..." : $start;
    }

    /** The first characters of a text, as every door can carry it. */
    public static function start(string $text, int $characters): string
    {
        // Some more bytes than can be needed: a long text need not be looked at as a whole.
        $text = substr($text, 0, 4 * $characters + 4);
        if (!preg_match('//u', $text)) {
            $text = json_decode((string) json_encode($text, JSON_INVALID_UTF8_SUBSTITUTE));
        }
        preg_match("/^.{0,$characters}/su", $text, $found);
        return str_starts_with($found[0], "\0") ? '\x00' . substr($found[0], 1) : $found[0];
    }

    /** @return array{string, mixed, string, string}|null */
    private static function flawOfText(string $place, string $text): ?array
    {
        return match (true) {
            !preg_match('//u', $text) => [$place, self::shown($text),
                'a text that is not valid UTF-8', 'send valid Unicode, or bytes as base64'],
            // In WAMP's JSON it would arrive as bytes, or end the session of who reads it.
            str_starts_with($text, "\0") => [$place, self::shown($text),
                'a text that begins with NUL', 'send bytes as base64'],
            default => null,
        };
    }

    /** @return array{string, mixed, string, string}|null */
    private static function flawOfParts(string $place, array|object $whole, int $deeper): ?array
    {
        if ($deeper === 0) {
            return [$place, is_array($whole) ? 'a list' : 'an object',
                'nested more than ' . self::DEEPEST . ' deep', 'send a flatter value'];
        }
        foreach ($whole as $name => $part) {
            $step = $place . (is_int($name) ? "[$name]" : '.' . self::start($name, self::LONGEST_STEP));
            $found = is_int($name) ? null : self::flawOfText($step, $name);
            $found ??= self::flaw($step, $part, $deeper - 1);
            if ($found !== null) {
                return $found;
            }
        }
        return null;
    }
}
