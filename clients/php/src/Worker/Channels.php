<?php

declare(strict_types=1);

namespace Taskbus\Worker;

/** Between a worker and one child: both ends of the job's socket, stdout and stderr. */
final class Channels
{
    /**
     * @param list<int> $parents
     * @param list<int> $childs
     */
    private function __construct(public readonly array $parents, public readonly array $childs)
    {
    }

    public static function made(System $system): self
    {
        $pairs = [$system->socketPair(), $system->pipe(), $system->pipe()];
        return new self(array_column($pairs, 0), array_column($pairs, 1));
    }
}
