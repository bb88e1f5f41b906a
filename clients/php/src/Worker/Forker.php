<?php

declare(strict_types=1);

namespace Taskbus\Worker;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Portable;
use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskResult;
use Taskbus\Tasks;

/**
 * Keeps spare children for a worker: warm with the classes of the site, each runs one job.
 *
 * It says to the worker what the forker of Python's jobs says, see taskbus.worker.channel.
 */
final class Forker
{
    private const MOST_CHILDREN = 16;
    private const PACKET = 256;
    private const LOADED = 42;
    private const AGAIN_MILLISECONDS = 1000;

    /** @var array<int, int> pid of each child by the descriptor that tells its death */
    private array $children = [];

    /** Children that were asked for and are not made yet. */
    private int $owed = 0;

    /** @param array<string, string> $classes by the pattern of their entry in the API map */
    public function __construct(
        private readonly System $system,
        private readonly int $control,
        private readonly Tasks $tasks,
        private readonly array $classes,
    ) {
    }

    /** Loads what children need, so that none of them has to. */
    public function load(): void
    {
        array_map(
            class_exists(...),
            [Answer::class, Child::class, Job::class, Json::class, Portable::class, TaskFailure::class,
                TaskInput::class, TaskResult::class],
        );
        foreach (array_unique($this->classes) as $class) {
            // The jobs of another one fail by themselves, and say why.
            if ($this->canBeLoaded($class)) {
                $this->tasks->load($class);
            }
        }
    }

    /** Serves until the worker is gone, and leaves nothing behind. */
    public function run(): void
    {
        $this->system->send($this->control, 'ready', []);
        while ($this->serve()) {
            // Once more.
        }
        foreach ($this->children as $pid) {
            self::kill($pid, SIGKILL);
        }
    }

    /** Found out by a process of its own: PHP may give up on the class, or end by it. */
    private function canBeLoaded(string $class): bool
    {
        $forker = getmypid();
        $pid = pcntl_fork();
        if ($pid < 0) {
            throw new \RuntimeException('fork failed');
        }
        if ($pid === 0) {
            $this->stayWith($forker);
            try {
                $this->tasks->load($class);
                $this->system->leave(self::LOADED);
            } catch (TaskFailure) {
                $this->system->leave(1);
            }
        }
        pcntl_waitpid($pid, $status);
        return pcntl_wifexited($status) && pcntl_wexitstatus($status) === self::LOADED;
    }

    private function serve(): bool
    {
        $exits = [];
        // No more than a packet has room for; the others are still ready in the next round.
        $ready = $this->system->waitReadable(
            [$this->control, ...array_keys($this->children)],
            $this->owed > 0 ? self::AGAIN_MILLISECONDS : -1,
        );
        foreach (array_slice($ready, 0, self::MOST_CHILDREN) as $fd) {
            if ($fd !== $this->control) {
                $exits[] = $this->reap($fd);
            } elseif (!$this->obey($this->system->read($fd, self::PACKET))) {
                return false;
            }
        }
        if ($exits && !$this->system->send($this->control, 'exits ' . implode(' ', $exits), [])) {
            return false;
        }
        while ($this->owed > 0 && $pids = $this->fork(min($this->owed, self::MOST_CHILDREN))) {
            $this->owed -= count($pids);
        }
        return true;
    }

    private function obey(string $packet): bool
    {
        $words = explode(' ', $packet);
        match ($words[0]) {
            'fork' => $this->owed += (int) $words[1],
            'kill' => $this->signal((int) $words[1], (int) $words[2]),
            default => null,
        };
        return $packet !== '';
    }

    /**
     * So many children, or fewer where the machine has no room for them all just now, of which the
     * jobs in hand must not die.
     *
     * @return list<int>
     */
    private function fork(int $count): array
    {
        $made = array_map(fn () => Channels::made($this->system), range(1, $count));
        $ends = array_merge(...array_map(static fn (Channels $one) => [...$one->parents, ...$one->childs], $made));
        $inherited = [$this->control, ...array_keys($this->children), ...$ends];
        $forker = getmypid();
        $pids = [];
        $theirs = [];
        foreach ($made as $channels) {
            $pid = @pcntl_fork();
            if ($pid < 0) {
                fwrite(STDERR, 'the next children have to wait: ' . pcntl_strerror(pcntl_get_last_error()) . "\n");
                break;
            }
            if ($pid === 0) {
                $this->become($channels->childs, $inherited, $forker);
            }
            $pids[] = $pid;
            array_push($theirs, ...$channels->parents);
        }
        foreach ($pids as $pid) {
            $this->children[$this->system->openProcess($pid)] = $pid;
        }
        if ($pids) {
            $this->system->send($this->control, 'spares ' . implode(' ', $pids), $theirs);
        }
        array_map($this->system->close(...), $ends);
        return $pids;
    }

    /**
     * A child's first steps.
     *
     * @param list<int> $own
     * @param list<int> $inherited
     */
    private function become(array $own, array $inherited, int $forker): never
    {
        $this->stayWith($forker);
        array_map($this->system->close(...), array_diff($inherited, $own));
        (new Child($this->system, $this->tasks, ...$own))->live($this->classes);
    }

    /** A child does not outlive the forker, not even one that has died meanwhile. */
    private function stayWith(int $forker): void
    {
        $this->system->dieWithParent();
        if (posix_getppid() !== $forker) {
            $this->system->leave(1);
        }
    }

    /** What to tell the worker of a dead child, once whatever it left running is dead, too. */
    private function reap(int $watch): string
    {
        $pid = $this->children[$watch];
        unset($this->children[$watch]);
        $this->system->close($watch);
        // Until it is reaped its pid, and so its group's number, cannot be given to another.
        self::kill($pid, SIGKILL);
        pcntl_waitpid($pid, $status);
        return "$pid $status";
    }

    private function signal(int $pid, int $number): void
    {
        if (in_array($pid, $this->children, true)) {
            self::kill($pid, $number);
        }
    }

    private static function kill(int $pid, int $number): void
    {
        // Not yet the leader of its group, or nobody left in it.
        posix_kill(-$pid, $number) || posix_kill($pid, $number);
    }
}
