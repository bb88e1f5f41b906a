<?php

declare(strict_types=1);

namespace Taskbus;

/** How a task ended, as JSON that every door can carry: its result, or its error. */
final class Answer
{
    private const FAILED = 'taskbus.error.task_failed';
    private const BAD_ARGUMENT = 'taskbus.error.invalid_argument';
    private const INVALID = 'taskbus.error.invalid_result';
    private const LONGEST_MESSAGE = 8000;
    private const LONGEST_FAILURE = 65536;
    // The router's own rule; it ends the session of who sends another.
    private const URI = '/^(?=.{1,255}$)[^\s.#\0]+(\.[^\s.#]+)*$/Du';

    /**
     * @param ?string $error its URI, null for a result
     * @param string $args JSON: a list; of an error, the message alone
     * @param string $kwargs JSON: an object; of an error, what there is to know about it
     * @param string $trace where an exception was thrown; for a log, and for the job's error
     */
    public function __construct(
        public readonly ?string $error,
        public readonly string $args,
        public readonly string $kwargs,
        public readonly string $trace = '',
    ) {
    }

    public static function result(TaskResult $result): self
    {
        try {
            $args = Json::encode($result->args);
            $kwargs = Json::encode((object) $result->kwargs);
        } catch (\JsonException $error) {
            [$args, $kwargs] = ['', ''];
        }
        $json = $args . $kwargs;
        $reserved = array_intersect(Portable::RESERVED_KEYWORDS, array_keys($result->kwargs));
        // Few values are odd; only these are looked at part by part.
        if (isset($error) || $reserved || Portable::isOdd($json)) {
            $flaw = Portable::flaw('args', $result->args)
                ?? Portable::flaw('kwargs', $result->kwargs)
                ?? self::reserved($reserved, $result)
                ?? (isset($error) ? ['args or kwargs', null, $error->getMessage(), 'send JSON values'] : null);
            if ($flaw !== null) {
                return self::refused($flaw, self::INVALID, "the result's ");
            }
        }
        if (strlen($json) > Portable::LARGEST_RESULT) {
            return self::failure('the result is larger than ' . Portable::LARGEST_RESULT . ' bytes of JSON',
                self::INVALID, ['remedy' => 'store it elsewhere and return where it is']);
        }
        return new self(null, $args, $kwargs);
    }

    /**
     * A value that no door of the bus can carry.
     *
     * @param array{string, mixed, string, string} $flaw see Portable::flaw
     * @param string $whose words before its place
     */
    public static function refused(array $flaw, string $uri = self::BAD_ARGUMENT, string $whose = ''): self
    {
        [$place, $value, $problem, $remedy] = $flaw;
        $place = Portable::shown($place);
        return self::failure("$whose$place: $problem", $uri,
            ['field' => $place, 'value' => $value, 'remedy' => $remedy]);
    }

    /** What a task threw. */
    public static function thrown(\Throwable $error): self
    {
        return $error instanceof TaskFailure
            ? self::failure($error->getMessage(), $error->errorUri, $error->about, (string) $error)
            : self::failure($error::class . ': ' . $error->getMessage(), self::FAILED,
                ['type' => $error::class], (string) $error);
    }

    /** @param array<string, mixed> $about */
    public static function failure(
        string $message,
        string $uri = self::FAILED,
        array $about = [],
        string $trace = '',
    ): self {
        if (!preg_match(self::URI, $uri)) {
            [$uri, $about] = [self::FAILED, $about + ['error_uri' => $uri]];
        }
        $told = [];
        foreach ($about as $name => $value) {
            $is_taken = $name === 'error' || in_array($name, Portable::RESERVED_KEYWORDS, true);
            $name = $is_taken ? "{$name}_" : Portable::start((string) $name, 100);
            $told[$name] = self::isCarried($value) ? $value : Portable::shown($value);
        }
        $args = Json::encode([Portable::start($message, self::LONGEST_MESSAGE)]);
        $kwargs = Json::encode((object) $told);
        if (strlen($kwargs) > self::LONGEST_FAILURE) {
            $kwargs = Json::encode((object) array_map(Portable::shown(...), $told));
        }
        return new self($uri, $args, $kwargs, Portable::start($trace, self::LONGEST_MESSAGE));
    }

    /** The answer of a process that ends without one: the task called exit(), or PHP gave up. */
    public static function lastWords(): self
    {
        $error = error_get_last();
        $is_fatal = $error !== null && $error['type']
            & (E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR);
        return $is_fatal
            ? self::failure("{$error['message']} in {$error['file']}:{$error['line']}", self::FAILED,
                ['type' => 'fatal error'])
            : self::failure('the task called exit()', self::FAILED,
                ['remedy' => 'return a result, or throw a Taskbus\TaskFailure']);
    }

    /** The contract of `exec` and `http` handlers. */
    public function json(): string
    {
        $error = $this->error === null ? '' : '"error":' . Json::encode($this->error) . ',';
        return "{{$error}\"args\":$this->args,\"kwargs\":$this->kwargs}";
    }

    private static function isCarried(mixed $value): bool
    {
        try {
            return !Portable::isOdd(Json::encode($value)) || Portable::flaw('', $value) === null;
        } catch (\JsonException) {
            return false;
        }
    }

    private static function reserved(array $names, TaskResult $result): ?array
    {
        $name = reset($names);
        return $name === false ? null : ["kwargs.$name", Portable::shown($result->kwargs[$name]),
            'a keyword that WAMP clients keep for themselves', 'choose another name'];
    }
}
