<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/**
 * How often the calls of each entry of the API map have ended how, and how long they took: what
 * `/metrics` tells. Saved once a second in a file, from which the next process goes on; where that
 * fails, counts are lost and nothing else.
 */
final class Tally
{
    /** Seconds: upper bounds, and one more bucket behind them. They and the file are those of Python's backends. */
    private const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];
    private const SAVE_SECONDS = 1.0;
    private const KIND = 'call';

    /** @var array<string, array{array<string, int>, list<int>, float}> outcomes, buckets and seconds, by entry */
    private array $counts = [];

    private ?int $timer = null;

    /** @param string $file none where it is empty */
    public function __construct(private readonly Loop $loop, private readonly string $file)
    {
        $told = $file === '' ? null : json_decode((string) @file_get_contents($file), true);
        // Another version may have had others.
        if (($told['bounds'] ?? null) == self::BOUNDS) {
            foreach ($told['counts'] as [, $task, $outcomes, , [$buckets, $seconds]]) {
                $this->counts[$task] = [$outcomes, $buckets, (float) $seconds];
            }
        }
    }

    public function call(string $task, bool $hasSucceeded, float $seconds): void
    {
        $this->counts[$task] ??= [[], self::none(), 0.0];
        $counts = &$this->counts[$task];
        $outcome = $hasSucceeded ? 'succeeded' : 'failed';
        $counts[0][$outcome] = ($counts[0][$outcome] ?? 0) + 1;
        $counts[1][count(array_filter(self::BOUNDS, fn (float $bound): bool => $bound < $seconds))]++;
        $counts[2] += $seconds;
        $this->timer ??= $this->file === '' ? null : $this->loop->after(self::SAVE_SECONDS, $this->save(...));
    }

    /** What has been counted since the last time, at once. */
    public function save(): void
    {
        if ($this->timer === null) {
            return;
        }
        $this->loop->cancel($this->timer);
        $this->timer = null;
        $told = [];
        foreach ($this->counts as $task => [$outcomes, $buckets, $seconds]) {
            $told[] = [self::KIND, $task, $outcomes, [self::none(), 0.0], [$buckets, $seconds]];
        }
        $fresh = dirname($this->file) . '/.' . basename($this->file) . '.new';
        $text = (string) json_encode(['bounds' => self::BOUNDS, 'counts' => $told]);
        if (@file_put_contents($fresh, $text) !== strlen($text) || !@rename($fresh, $this->file)) {
            Log::warning("counts were not saved: $this->file cannot be written");
        }
    }

    /** @return list<int> */
    private static function none(): array
    {
        return array_fill(0, count(self::BOUNDS) + 1, 0);
    }
}
