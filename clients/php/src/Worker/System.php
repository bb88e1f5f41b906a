<?php

declare(strict_types=1);

namespace Taskbus\Worker;

/** What a forker needs of Linux and PHP has no functions for; descriptors are numbers. */
final class System
{
    // FFI wants structures of a fixed size: so many descriptors go with one packet at most.
    private const MOST_RIGHTS = 64;
    private const CHUNK = 65536;

    private const UNIX = 1;
    private const STREAM = 1;
    private const CLOSE_ON_EXEC = 0o2000000;
    private const SET_DESCRIPTOR_FLAGS = 2;
    private const RIGHTS = 1;
    private const LEVEL_SOCKET = 1;
    private const READABLE = 1;
    private const ON_PARENTS_DEATH = 1;
    private const OPEN_PROCESS = 434;

    private const DECLARATIONS = '
        struct poll { int fd; short events; short found; };
        struct part { void *base; size_t length; };
        struct message {
            void *name; unsigned int name_length; struct part *parts; size_t count;
            void *control; size_t control_length; int flags;
        };
        struct rights { size_t length; int level; int type; int fds[' . self::MOST_RIGHTS . ']; };
        int socketpair(int domain, int type, int protocol, int *fds);
        int pipe2(int *fds, int flags);
        int open(const char *path, int flags);
        int fcntl(int fd, int command, int value);
        int dup2(int from, int to);
        int close(int fd);
        ssize_t read(int fd, void *buffer, size_t length);
        ssize_t write(int fd, const char *data, size_t length);
        ssize_t sendmsg(int fd, struct message *message, int flags);
        int poll(struct poll *fds, unsigned long count, int milliseconds);
        int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
        long syscall(long number, long a, long b);
        void _exit(int status);
    ';

    private readonly \FFI $c;
    private readonly \FFI\CData $buffer;
    private readonly \FFI\CData $pair;

    /** @throws \FFI\Exception where the settings of PHP forbid it */
    public function __construct()
    {
        $this->c = \FFI::cdef(self::DECLARATIONS);
        $this->buffer = $this->c->new('char[' . self::CHUNK . ']');
        $this->pair = $this->c->new('int[2]');
    }

    /** @return array{int, int} both ends of a socket, which programs do not inherit */
    public function socketPair(): array
    {
        $type = self::STREAM | self::CLOSE_ON_EXEC;
        self::check($this->c->socketpair(self::UNIX, $type, 0, $this->pair), 'socketpair');
        return [$this->pair[0], $this->pair[1]];
    }

    /** @return array{int, int} what to read from and what to write to, which programs do not inherit */
    public function pipe(): array
    {
        self::check($this->c->pipe2($this->pair, self::CLOSE_ON_EXEC), 'pipe');
        return [$this->pair[0], $this->pair[1]];
    }

    /** Programs do not inherit it. */
    public function keep(int $fd): void
    {
        self::check($this->c->fcntl($fd, self::SET_DESCRIPTOR_FLAGS, 1), 'fcntl');
    }

    /** The descriptor $to becomes this one. */
    public function move(int $fd, int $to): void
    {
        self::check($this->c->dup2($fd, $to), 'dup2');
        $this->close($fd);
    }

    public function close(int $fd): void
    {
        $this->c->close($fd);
    }

    /** Nothing is to be read from stdin. */
    public function shutStdin(): void
    {
        $this->move(self::check($this->c->open('/dev/null', 0), 'open'), 0);
    }

    /** What is there, once there is something; empty at the end, which a broken connection is, too. */
    public function read(int $fd, int $most = self::CHUNK): string
    {
        $count = $this->c->read($fd, $this->buffer, min($most, self::CHUNK));
        return $count > 0 ? \FFI::string($this->buffer, $count) : '';
    }

    /** False where nobody reads it any more. */
    public function write(int $fd, string $data): bool
    {
        for ($at = 0; $at < strlen($data); $at += $written) {
            $chunk = substr($data, $at, self::CHUNK);
            $written = $this->c->write($fd, $chunk, strlen($chunk));
            if ($written < 0) {
                return false;
            }
        }
        return true;
    }

    /**
     * Sends a packet, and these descriptors with it.
     *
     * @param list<int> $fds
     */
    public function send(int $socket, string $packet, array $fds): bool
    {
        \FFI::memcpy($this->buffer, $packet, strlen($packet));
        $part = $this->c->new('struct part');
        [$part->base, $part->length] = [$this->pointer($this->buffer), strlen($packet)];
        $rights = $this->c->new('struct rights');
        $rights->length = \FFI::sizeof($rights) - 4 * (self::MOST_RIGHTS - count($fds));
        [$rights->level, $rights->type] = [self::LEVEL_SOCKET, self::RIGHTS];
        foreach ($fds as $nth => $fd) {
            $rights->fds[$nth] = $fd;
        }
        $message = $this->c->new('struct message');
        [$message->parts, $message->count] = [\FFI::addr($part), 1];
        [$message->control, $message->control_length] = [$this->pointer($rights), $rights->length];
        return $this->c->sendmsg($socket, \FFI::addr($message), 0) >= 0;
    }

    /**
     * Waits until some of them have something to read, or have ended; at most so many milliseconds,
     * below 0 for ever.
     *
     * @param list<int> $fds
     * @return list<int>
     */
    public function waitReadable(array $fds, int $longest): array
    {
        $count = count($fds);
        $asked = $this->c->new("struct poll[$count]");
        foreach ($fds as $nth => $fd) {
            $asked[$nth]->fd = $fd;
            $asked[$nth]->events = self::READABLE;
        }
        $found = $this->c->poll($asked, $count, $longest);
        // Below 0: a signal came, and nothing is known.
        return $found <= 0 ? [] : array_values(
            array_filter($fds, static fn (int $nth) => $asked[$nth]->found !== 0, ARRAY_FILTER_USE_KEY)
        );
    }

    /** A descriptor that is readable once this process is dead. */
    public function openProcess(int $pid): int
    {
        return self::check($this->c->syscall(self::OPEN_PROCESS, $pid, 0), 'pidfd_open');
    }

    /** The kernel kills this process when its parent is dead. */
    public function dieWithParent(): void
    {
        self::check($this->c->prctl(self::ON_PARENTS_DEATH, SIGKILL, 0, 0, 0), 'prctl');
    }

    /** Leaves at once: what PHP does at a normal end would copy every page that it touches. */
    public function leave(int $status): never
    {
        $this->c->_exit($status);
        throw new \LogicException('unreachable');
    }

    private function pointer(\FFI\CData $data): \FFI\CData
    {
        return $this->c->cast('void *', \FFI::addr($data));
    }

    private static function check(int $result, string $call): int
    {
        return $result >= 0 ? $result : throw new \RuntimeException("$call failed");
    }
}
