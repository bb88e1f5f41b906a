<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/**
 * No call outlives the process that runs it, however that ends: a small process of its own kills the
 * process groups that are left when its pipe ends.
 */
final class Guard
{
    /** @var resource|null */
    private $pipe = null;

    /** @var array<int, true> */
    private array $groups = [];

    public function watch(int $group): void
    {
        $this->groups[$group] = true;
        $this->tell("+$group\n");
    }

    public function forget(int $group): void
    {
        unset($this->groups[$group]);
        $this->tell("-$group\n");
    }

    /** Be there before a call is, which so has not long to wait for it. */
    public function start(): void
    {
        if ($this->pipe !== null) {
            Inherited::close($this->pipe);
        }
        [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $pid = pcntl_fork();
        if ($pid === 0) {
            fclose($ours);
            Inherited::closeAll();
            // What is meant for the group of its owner, as Ctrl-C, is not meant for it.
            posix_setsid();
            self::work($theirs);
        }
        fclose($theirs);
        if ($pid < 0) {
            fclose($ours);
            throw new \RuntimeException('cannot start a process: ' . pcntl_strerror(pcntl_get_last_error()));
        }
        $this->pipe = $ours;
        Inherited::add($ours);
        foreach ($this->groups as $group => $_) {
            @fwrite($this->pipe, "+$group\n");
        }
    }

    private function tell(string $line): void
    {
        if (@fwrite($this->pipe, $line) === false) {
            // Somebody has ended it; the next one is told of all groups.
            $this->start();
        }
    }

    /** @param resource $pipe */
    private static function work($pipe): never
    {
        foreach ([SIGTERM, SIGINT, SIGHUP, SIGCHLD] as $signal) {
            pcntl_signal($signal, SIG_DFL);
        }
        $groups = [];
        // As a reader of sockets usually does, it would take a minute of silence for the end.
        stream_set_timeout($pipe, -1);
        while (($line = fgets($pipe)) !== false) {
            $group = (int) substr($line, 1);
            if ($line[0] === '+') {
                $groups[$group] = $group;
            } else {
                unset($groups[$group]);
            }
        }
        foreach ($groups as $group) {
            posix_kill(-$group, SIGKILL);
        }
        // Not by exit(), which would do what its owner has left for its own end.
        posix_kill(posix_getpid(), SIGKILL);
        exit(1);
    }
}
