<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** Waits for whatever comes first of streams, signals and timers. One at a time is served. */
final class Loop
{
    /** A signal that comes just before the wait begins is seen after so many seconds. */
    private const LONGEST_WAIT = 0.5;

    /** @var array<int, array{resource, \Closure}> */
    private array $readers = [];

    /** @var array<int, array{resource, \Closure}> */
    private array $writers = [];

    /** @var array<int, array{float, \Closure}> */
    private array $timers = [];

    /** @var list<\Closure> what signals that came are to do */
    private array $caught = [];

    private int $timer = 0;
    private bool $hasSignals = false;

    /** @param resource $stream */
    public function onReadable($stream, ?\Closure $then): void
    {
        self::set($this->readers, $stream, $then);
    }

    /** @param resource $stream */
    public function onWritable($stream, ?\Closure $then): void
    {
        self::set($this->writers, $stream, $then);
    }

    /** Calls it once, in so many seconds; what is returned cancels it. */
    public function after(float $seconds, \Closure $then): int
    {
        $this->timers[++$this->timer] = [self::now() + $seconds, $then];
        return $this->timer;
    }

    public function cancel(?int $timer): void
    {
        unset($this->timers[$timer]);
    }

    public function onSignal(int $signal, \Closure $then): void
    {
        $this->hasSignals = true;
        // Not done there: all signals are blocked meanwhile, and so they would be in a process forked then.
        pcntl_signal($signal, function () use ($then): void {
            $this->caught[] = $then;
        }, false);
    }

    /** Goes on until that is so; false where it was not within so many seconds. */
    public function until(\Closure $is, float $seconds = INF): bool
    {
        $deadline = self::now() + $seconds;
        while (!$is()) {
            $left = $deadline - self::now();
            if ($left <= 0) {
                return false;
            }
            $this->turn($left);
        }
        return true;
    }

    /** Seconds of a clock that nobody sets. */
    public static function now(): float
    {
        return hrtime(true) / 1e9;
    }

    private function turn(float $longest): void
    {
        $this->wait(max(0.0, min($longest, self::LONGEST_WAIT, $this->untilNextTimer())));
        if ($this->hasSignals) {
            pcntl_signal_dispatch();
            [$caught, $this->caught] = [$this->caught, []];
            array_walk($caught, static fn (\Closure $then) => $then());
        }
        $now = self::now();
        foreach ($this->timers as $number => [$at, $then]) {
            // One may have cancelled another.
            if ($at <= $now && isset($this->timers[$number])) {
                unset($this->timers[$number]);
                $then();
            }
        }
    }

    private function wait(float $seconds): void
    {
        $read = array_column($this->readers, 0);
        $write = array_column($this->writers, 0);
        $except = null;
        if (!$read && !$write) {
            usleep((int) ($seconds * 1e6));
            return;
        }
        // A signal ends it early, with a warning.
        if (!@stream_select($read, $write, $except, (int) $seconds, (int) (fmod($seconds, 1) * 1e6))) {
            return;
        }
        foreach ($write as $stream) {
            isset($this->writers[(int) $stream]) && $this->writers[(int) $stream][1]();
        }
        foreach ($read as $stream) {
            isset($this->readers[(int) $stream]) && $this->readers[(int) $stream][1]();
        }
    }

    private function untilNextTimer(): float
    {
        return $this->timers ? min(array_column($this->timers, 0)) - self::now() : INF;
    }

    /** @param resource $stream */
    private static function set(array &$handlers, $stream, ?\Closure $then): void
    {
        if ($then === null) {
            unset($handlers[(int) $stream]);
        } else {
            $handlers[(int) $stream] = [$stream, $then];
        }
    }
}
