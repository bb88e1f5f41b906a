<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** What the command line says. */
final class Options
{
    public const USAGE = <<<'TEXT'
        usage: php wamp.php NAMESPACE [OPTION VALUE]...

        Serves the PHP classes that the API map names below NAMESPACE, as com.example.widget. Ends by a
        signal: TERM lets the calls in hand finish, a second one ends them.

          --router ADDRESS     unix:/path/of/socket or tcp://host:port  (unix:PROJECT/var/run/router.sock)
          --realm NAME         (realm1)
          --authid NAME        who it is for the router  (php)
          --secret-file FILE   with its ticket; only for the eyes of its owner  (PROJECT/var/secrets/php)
          --tasks FOLDER       where Example\Task is Example/Task.php  (PROJECT/workers/php)
          --calls NUMBER       how many run at a time, each in a process; others wait  (32)
          --ready-file FILE    locked while it serves all its URIs  (none)
          --tally-file FILE    how its calls have ended, for /metrics  (none)

        Exit status: 0 ended by a signal, 2 a wrong option or file, 3 the router does not let it in,
        4 the API map has no php entry below NAMESPACE.

        TEXT;

    private function __construct(
        public readonly string $namespace,
        public readonly string $router,
        public readonly string $realm,
        public readonly string $authid,
        public readonly string $secretFile,
        public readonly string $tasks,
        public readonly int $calls,
        public readonly string $readyFile,
        public readonly string $tallyFile,
    ) {
    }

    /** What PHP lacks for a backend, and the remedy; none where it is empty. */
    public static function missing(): string
    {
        $lacking = array_filter(['pcntl', 'posix'], fn (string $name): bool => !extension_loaded($name));
        return $lacking ? 'this PHP has no extension ' . implode(', ', $lacking) . '; install php-cli, and see php.ini'
            : '';
    }

    /**
     * @param list<string> $words without the program's name
     * @param string $project the folder whose var/ and workers/ are used where nothing is said
     * @throws \InvalidArgumentException that names the option, the value and the remedy
     */
    public static function read(array $words, string $project): self
    {
        $given = [
            '--router' => "unix:$project/var/run/router.sock",
            '--realm' => 'realm1',
            '--authid' => 'php',
            '--secret-file' => "$project/var/secrets/php",
            '--tasks' => "$project/workers/php",
            '--calls' => '32',
            '--ready-file' => '',
            '--tally-file' => '',
        ];
        $names = [];
        while ($words) {
            $word = array_shift($words);
            if (!str_starts_with($word, '-')) {
                $names[] = $word;
            } elseif (!array_key_exists($word, $given)) {
                throw new \InvalidArgumentException("$word: there is no such option; see php wamp.php --help");
            } elseif (!$words) {
                throw new \InvalidArgumentException("$word: its value is missing; see php wamp.php --help");
            } else {
                $given[$word] = array_shift($words);
            }
        }
        if (count($names) !== 1) {
            throw new \InvalidArgumentException('name one namespace, as com.example.widget; see php wamp.php --help');
        }
        self::check('NAMESPACE', $names[0], '/^[0-9a-z_]+(\.[0-9a-z_]+)*$/D', 'write it as com.example.widget');
        self::check('--router', $given['--router'], '#^(unix:/.+|tcp://(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5})$#D',
            'write unix:/path/of/socket or tcp://host:port');
        self::check('--realm', $given['--realm'], '/^[^\s.#]+(\.[^\s.#]+)*$/D', 'name a realm of the router');
        self::check('--authid', $given['--authid'], '/^\S+$/D', 'name whom the secret belongs to');
        // Each has a descriptor, and PHP waits for those below 1024 only.
        self::check('--calls', $given['--calls'], '/^[1-9]\d{0,2}$/D', 'write a number from 1 to 999');
        if (!is_dir($given['--tasks'])) {
            throw new \InvalidArgumentException(
                "--tasks: there is no folder {$given['--tasks']}; make it, or name the one with your classes");
        }
        return new self($names[0], $given['--router'], $given['--realm'], $given['--authid'], $given['--secret-file'],
            $given['--tasks'], (int) $given['--calls'], $given['--ready-file'], $given['--tally-file']);
    }

    /**
     * The ticket, as it is now.
     *
     * @throws \InvalidArgumentException
     */
    public function ticket(): string
    {
        $file = $this->secretFile;
        $text = is_file($file) ? @file_get_contents($file) : false;
        if ($text === false) {
            throw new \InvalidArgumentException("--secret-file: cannot read $file; 'taskbus up' makes it");
        }
        if (fileperms($file) & 0o77) {
            throw new \InvalidArgumentException("--secret-file: others may use $file; chmod 600 it");
        }
        if (trim($text) === '') {
            throw new \InvalidArgumentException("--secret-file: $file is empty; 'taskbus up' makes one if there is none");
        }
        return trim($text);
    }

    private static function check(string $name, string $value, string $pattern, string $remedy): void
    {
        if (!preg_match($pattern, $value)) {
            throw new \InvalidArgumentException("$name: this is none: '$value'; $remedy");
        }
    }
}
