<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** RawSocket's frames: an octet for the type, three for the length, the payload. */
final class Frames
{
    public const MESSAGE = 0;
    public const PING = 1;
    public const PONG = 2;
    public const LONGEST = 0xFFFFFF;

    private const HEADER = 4;

    private string $buffer = '';

    public static function frame(string $payload, int $type = self::MESSAGE): string
    {
        return pack('N', $type << 24 | strlen($payload)) . $payload;
    }

    /**
     * More of what has come.
     *
     * @return list<array{int, string}> type and payload of each frame that is complete now
     */
    public function feed(string $bytes): array
    {
        $this->buffer .= $bytes;
        [$found, $at] = [[], 0];
        while (strlen($this->buffer) - $at >= self::HEADER) {
            $header = unpack('N', $this->buffer, $at)[1];
            $length = $header & self::LONGEST;
            if (strlen($this->buffer) - $at - self::HEADER < $length) {
                break;
            }
            $found[] = [$header >> 24, substr($this->buffer, $at + self::HEADER, $length)];
            $at += self::HEADER + $length;
        }
        if ($at > 0) {
            $this->buffer = substr($this->buffer, $at);
        }
        return $found;
    }
}
