<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

use Taskbus\Json;

/** A call that the router passes on. Its arguments are not looked at: they may be large, or odd. */
final class Invocation
{
    public const TYPE = 68;

    // Its details are an object of texts, numbers and further objects and lists.
    private const HEAD = '/^\s*\[\s*68\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*'
        . '(\{(?:[^{}"]++|"(?:[^"\\\\]++|\\\\.)*+"|(?3))*+\})\s*(?:,|(?=\]))/s';

    /**
     * @param string $known the JSON of $details
     * @param string $arguments JSON: a list of the arguments and of the keyword arguments; either
     *     may be missing
     */
    private function __construct(
        public readonly int $request,
        public readonly int $registration,
        public readonly object $details,
        public readonly string $known,
        public readonly string $arguments,
    ) {
    }

    /** None where the message is no invocation. */
    public static function read(string $message): ?self
    {
        if (!preg_match(self::HEAD, $message, $found)) {
            return null;
        }
        return new self((int) $found[1], (int) $found[2], Json::decode($found[3]), $found[3],
            '[' . substr($message, strlen($found[0])));
    }

    /** The URI that was called: one registration may take the calls of many. */
    public function procedure(Entry $entry): string
    {
        return $this->details->procedure ?? $entry->uri;
    }

    /**
     * Who calls, as tasks and jobs know it, and the call's own step of its trace.
     *
     * @return \stdClass caller, caller_authid, caller_authrole, procedure, trace: those that are known
     */
    public function caller(): \stdClass
    {
        $told = new \stdClass();
        foreach (['caller', 'caller_authid', 'caller_authrole', 'procedure'] as $name) {
            if (isset($this->details->$name)) {
                $told->$name = $this->details->$name;
            }
        }
        $trace = Trace::step($this->details->transaction_hash ?? null);
        if ($trace !== null) {
            $told->trace = $trace;
        }
        return $told;
    }
}
