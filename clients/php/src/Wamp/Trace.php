<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** W3C trace context, as WAMP's transaction_hash has it: a traceparent, then `;` and a tracestate. */
final class Trace
{
    // Later versions may say more behind these four fields; version ff is none.
    private const PARENT = '/^((?!ff)[0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?$/D';
    private const STATE = '/^[ -~]{1,512}$/D';
    private const MOST_MEMBERS = 32;

    /** The next step of the trace in a call's details; null where there is none. */
    public static function step(mixed $text): ?\stdClass
    {
        [$parent, $state] = explode(';', is_string($text) ? $text : '', 2) + [1 => ''];
        if (!preg_match(self::PARENT, $parent, $found) || $found[1] === '00' && isset($found[4])) {
            return null;
        }
        $told = new \stdClass();
        $told->traceparent = "00-$found[2]-" . bin2hex(random_bytes(8)) . "-$found[3]";
        if (preg_match(self::STATE, $state) && substr_count($state, ',') < self::MOST_MEMBERS) {
            $told->tracestate = $state;
        }
        return $told;
    }
}
