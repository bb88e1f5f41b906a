<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** A RawSocket with JSON to a router: whole messages, sent and received without waiting. */
final class Connection
{
    private const CHUNK = 262_144;
    /** Up to 16 MiB, JSON. */
    private const HELLO = "\x7F\xF1\x00\x00";

    /** Hears each message: its JSON. */
    public ?\Closure $onMessage = null;

    /** Hears once why it is over; not of close(). */
    public ?\Closure $onLost = null;

    /** Hears that the router has taken all that was sent. */
    public ?\Closure $onDrained = null;

    private readonly Frames $frames;
    private string $out = '';
    private int $sent = 0;
    private bool $isOpen = true;

    /**
     * @param resource $stream
     * @param int $longest bytes of a message that the router takes
     */
    private function __construct(
        private readonly Loop $loop,
        private $stream,
        private readonly int $longest,
    ) {
        $this->frames = new Frames();
        stream_set_blocking($stream, false);
        stream_set_chunk_size($stream, self::CHUNK);
        $loop->onReadable($stream, $this->receive(...));
        Inherited::add($stream);
    }

    /**
     * Waits until the router is there and speaks RawSocket.
     *
     * @param string $address unix:/path/of/socket or tcp://host:port
     * @throws ConnectionLost
     */
    public static function open(Loop $loop, string $address, float $seconds = 10.0): self
    {
        $url = str_starts_with($address, 'unix:/') ? 'unix://' . substr($address, 5) : $address;
        $stream = @stream_socket_client($url, $code, $why, $seconds);
        if ($stream === false) {
            throw new ConnectionLost("cannot reach a router at $address: $why");
        }
        if (str_starts_with($url, 'tcp:') && function_exists('socket_import_stream')) {
            // A router that is gone without a word is noticed.
            $socket = socket_import_stream($stream);
            socket_set_option($socket, SOL_SOCKET, SO_KEEPALIVE, 1);
            socket_set_option($socket, SOL_TCP, TCP_NODELAY, 1);
        }
        stream_set_timeout($stream, (int) ceil($seconds));
        @fwrite($stream, self::HELLO);
        $answer = '';
        while (strlen($answer) < 4 && ($more = (string) @fread($stream, 4 - strlen($answer))) !== '') {
            $answer .= $more;
        }
        $octets = array_values(unpack('C*', $answer));
        if (strlen($answer) < 4 || $octets[0] !== 0x7F) {
            throw new ConnectionLost("what answers at $address is no WAMP router with RawSocket");
        }
        if (($octets[1] & 0x0F) !== 1) {
            throw new ConnectionLost("the router at $address refuses JSON over RawSocket");
        }
        return new self($loop, $stream, min(Frames::LONGEST, 2 ** (9 + ($octets[1] >> 4))));
    }

    /** False where it is too long for the router. */
    public function send(string $message): bool
    {
        if (strlen($message) > $this->longest) {
            return false;
        }
        $this->write(Frames::frame($message));
        return true;
    }

    /** Whether something waits for the router to take it. */
    public function isBehind(): bool
    {
        return $this->out !== '';
    }

    public function isOpen(): bool
    {
        return $this->isOpen;
    }

    public function close(): void
    {
        if ($this->isOpen) {
            $this->isOpen = false;
            $this->out = '';
            $this->loop->onReadable($this->stream, null);
            $this->loop->onWritable($this->stream, null);
            Inherited::close($this->stream);
        }
    }

    private function write(string $bytes): void
    {
        if (!$this->isOpen) {
            return;
        }
        $was_behind = $this->isBehind();
        $this->out .= $bytes;
        if (!$was_behind) {
            $this->flush();
        }
    }

    private function flush(): void
    {
        $went = @fwrite($this->stream, substr($this->out, $this->sent, self::CHUNK));
        if ($went === false) {
            $this->lose('the router closed the connection');
            return;
        }
        $this->sent += $went;
        if ($this->sent < strlen($this->out)) {
            $this->loop->onWritable($this->stream, $this->flush(...));
            return;
        }
        [$this->out, $this->sent] = ['', 0];
        $this->loop->onWritable($this->stream, null);
        $this->onDrained && ($this->onDrained)();
    }

    private function receive(): void
    {
        $bytes = @fread($this->stream, self::CHUNK);
        if ($bytes === false || $bytes === '' && feof($this->stream)) {
            $this->lose('the router closed the connection');
            return;
        }
        foreach ($this->frames->feed($bytes) as [$type, $payload]) {
            if ($type === Frames::PING) {
                $this->write(Frames::frame($payload, Frames::PONG));
            } elseif ($type === Frames::MESSAGE && $this->isOpen) {
                $this->onMessage && ($this->onMessage)($payload);
            }
        }
    }

    private function lose(string $why): void
    {
        if ($this->isOpen) {
            $this->close();
            $this->onLost && ($this->onLost)($why);
        }
    }
}
