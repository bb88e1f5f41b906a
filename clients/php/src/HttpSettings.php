<?php

declare(strict_types=1);

namespace Taskbus;

/** How tasks are served over HTTP: as the file itself says, unless its surroundings know better. */
final class HttpSettings
{
    private const LONGEST_SECRET = 8192;

    private function __construct(
        public readonly string $tasks,
        public readonly string $namespace,
        public readonly string $classes,
        public readonly string $secretFile,
        public readonly string $header,
        public readonly int $seconds,
    ) {
    }

    /**
     * @param array<string, string|int> $written by name; an environment variable, or a parameter of
     *     FastCGI, with the same name counts more
     * @throws HttpRefusal
     */
    public static function of(array $written): self
    {
        $found = [];
        foreach ($written as $name => $value) {
            $given = getenv($name);
            $found[$name] = trim((string) ($given === false || $given === '' ? $value : $given));
        }
        if (!is_dir($found['TASKBUS_TASKS'])) {
            throw HttpRefusal::config('TASKBUS_TASKS', $found['TASKBUS_TASKS'], 'there is no such folder',
                'name the folder of the task classes, absolutely');
        }
        if (!preg_match('/^[1-9]\d{0,8}$/D', $found['TASKBUS_SECONDS'])) {
            throw HttpRefusal::config('TASKBUS_SECONDS', $found['TASKBUS_SECONDS'], 'not a number of seconds',
                'use a whole number, such as 300');
        }
        return new self(
            $found['TASKBUS_TASKS'],
            trim($found['TASKBUS_NAMESPACE'], '.'),
            trim($found['TASKBUS_CLASSES'], '\\'),
            $found['TASKBUS_SECRET_FILE'],
            $found['TASKBUS_HEADER'],
            (int) $found['TASKBUS_SECONDS'],
        );
    }

    /**
     * What the header has to be, read anew for each call, so that a secret can be changed at any time;
     * null where none is wanted.
     *
     * @throws HttpRefusal which does not show the secret
     */
    public function proof(): ?string
    {
        if ($this->secretFile === '') {
            return null;
        }
        $secret = @file_get_contents($this->secretFile, false, null, 0, self::LONGEST_SECRET + 1);
        [$problem, $remedy] = match (true) {
            $secret === false => ['it cannot be read', 'make it readable for the user that runs PHP'],
            (fileperms($this->secretFile) & 0007) !== 0 => ['everybody may read it', 'run chmod o= for it'],
            $this->isPublic() => ['it is below the document root, where anybody may fetch it', 'move it elsewhere'],
            trim($secret) === '' => ['it is empty', 'write the secret into it'],
            strlen($secret) > self::LONGEST_SECRET => ['it is too long', 'write the secret alone into it'],
            default => ['', ''],
        };
        if ($problem !== '') {
            throw HttpRefusal::config('TASKBUS_SECRET_FILE', $this->secretFile, $problem, $remedy);
        }
        return (strcasecmp($this->header, 'Authorization') === 0 ? 'Bearer ' : '') . trim($secret);
    }

    private function isPublic(): bool
    {
        // PHP remembers for a while where a link has led to.
        clearstatcache(true, $this->secretFile);
        $root = realpath(($_SERVER['DOCUMENT_ROOT'] ?? '') ?: '/nowhere');
        return $root !== false && str_starts_with((string) realpath($this->secretFile), "$root/");
    }
}
