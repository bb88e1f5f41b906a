<?php

/**
 * Tasks in PHP behind a web server: every class below one folder that implements
 * Taskbus\TaskInterface, for `http` entries of the API map. This file is all that it takes; how to
 * serve it is in docs/php.md. The folder is for classes only: each file in it can be loaded by
 * whoever may call.
 */

declare(strict_types=1);

namespace Taskbus;

// A parameter of FastCGI, or an environment variable, of the same name counts more.
HttpDoor::serve([
    // The folder of the classes: Disk\GetFreeSpace is in Disk/GetFreeSpace.php. Behind nginx or Apache name
    // one that is not below the document root: there, whoever asks would be shown the source.
    'TASKBUS_TASKS' => __DIR__ . '/tasks',
    // The URIs below it are classes: with 'com.example.shop', com.example.shop.disk.get_free_space is
    // Disk\GetFreeSpace. With '', the whole URI is the name of a class.
    'TASKBUS_NAMESPACE' => '',
    // The namespace that all classes are in, such as 'Example\Shop'.
    'TASKBUS_CLASSES' => '',
    // The file of the secret that callers send; with '', only programs on this machine may call.
    'TASKBUS_SECRET_FILE' => '',
    // The header that has it: 'Authorization', as 'Bearer SECRET', or another one with the secret alone.
    'TASKBUS_HEADER' => 'Authorization',
    // Seconds of CPU time that a call may use.
    'TASKBUS_SECONDS' => 300,
]);

// What follows is made from clients/php/src by clients/php/build.php.

/** What a class has to be that the API map names: `php = "Example\\GetFreeSpace"`. */
interface TaskInterface
{
    /**
     * Does the work of one call, or of one job.
     *
     * @return mixed a TaskResult; any other value is the one positional result
     * @throws \Throwable whatever is thrown is the failure; a TaskFailure chooses its error URI
     */
    public function run(TaskInput $task): mixed;
}

/** One call of a task. Lists in it are arrays, objects are stdClass: [] and {} stay apart. */
final class TaskInput
{
    private const LONGEST_MESSAGE = 1000;

    /**
     * @param list<mixed> $args as the caller sent them
     * @param array<string, mixed> $kwargs keyword arguments by name
     * @param object $details who called and how: caller_authid, caller_authrole, procedure, trace;
     *     in a job also job (its id) and attempt (1 for the first)
     * @param ?\Closure(float, string): void $progress takes what progress() is told
     * @param ?\Closure(string): void $log takes what log() is told, in place of stderr
     */
    public function __construct(
        public readonly string $uri,
        public readonly array $args = [],
        public readonly array $kwargs = [],
        public readonly object $details = new \stdClass(),
        private readonly ?\Closure $progress = null,
        private readonly ?\Closure $log = null,
    ) {
    }

    /** Tells whoever watches how far the task is, from 0.0 to 1.0; a long message keeps its start. */
    public function progress(float $fraction, string $message = ''): void
    {
        // Not a number becomes 0: that it is none concerns nobody who watches.
        $fraction = is_nan($fraction) ? 0.0 : min(1.0, max(0.0, $fraction));
        if ($this->progress !== null) {
            ($this->progress)($fraction, Portable::start($message, self::LONGEST_MESSAGE));
        }
    }

    /** A line for the log: in a job's journal, or in the backend's log. */
    public function log(string $line): void
    {
        if ($this->log !== null) {
            ($this->log)($line);
        } else {
            file_put_contents('php://stderr', $line . "\n");
        }
    }
}

/** What a task gives back: `new TaskResult(42, total: 100)` has one positional, one keyword result. */
final class TaskResult
{
    /** @var list<mixed> */
    public readonly array $args;

    /** @var array<string, mixed> */
    public readonly array $kwargs;

    /** Values as JSON has them: null, booleans, numbers, texts, arrays, and stdClass for objects. */
    public function __construct(mixed ...$results)
    {
        $this->args = array_values(array_filter($results, 'is_int', ARRAY_FILTER_USE_KEY));
        $this->kwargs = array_filter($results, 'is_string', ARRAY_FILTER_USE_KEY);
    }

    /** A plain value is the one positional result. */
    public static function of(mixed $value): self
    {
        return $value instanceof self ? $value : new self($value);
    }
}

/** Thrown by a task that chooses the message, the error URI and the details of its failure. */
final class TaskFailure extends \RuntimeException
{
    /** @var array<string, mixed> */
    public readonly array $about;

    /** Further arguments are details by name: `new TaskFailure('no such shop', $uri, shop: 'x')`. */
    public function __construct(
        string $message,
        public readonly string $errorUri = 'taskbus.error.task_failed',
        mixed ...$about,
    ) {
        parent::__construct($message);
        $this->about = array_filter($about, 'is_string', ARRAY_FILTER_USE_KEY);
    }
}

/** The task classes below one folder: `Example\GetFreeSpace` is in Example/GetFreeSpace.php. */
final class Tasks
{
    private const CLASS_NAME = '/^[A-Za-z_\x80-\xff][\w\x80-\xff]*(\\\\[A-Za-z_\x80-\xff][\w\x80-\xff]*)*$/D';

    /** @var array<string, TaskInterface> */
    private array $made = [];

    /** Makes the classes below the folder known; those of its Composer packages, too, if there are any. */
    public function __construct(private readonly string $folder)
    {
        $composer = "$folder/vendor/autoload.php";
        if (is_file($composer)) {
            require_once $composer;
        }
        spl_autoload_register(function (string $class): void {
            $file = $this->file($class);
            if (is_file($file)) {
                require_once $file;
            }
        });
    }

    /** Where the class is looked for, unless Composer knows better. */
    public function file(string $class): string
    {
        return "$this->folder/" . strtr($class, '\\', '/') . '.php';
    }

    /**
     * Loads the class and makes nothing of it yet.
     *
     * @throws TaskFailure that names the class, the file and the remedy
     */
    public function load(string $class): void
    {
        $problem = $this->problem($class);
        if ($problem !== null) {
            [$words, $remedy] = $problem;
            throw new TaskFailure("cannot load the class $class: $words",
                field: 'php', value: $class, remedy: $remedy);
        }
    }

    /** The task, made once for all calls in this process. */
    public function get(string $class): TaskInterface
    {
        if (!isset($this->made[$class])) {
            $this->load($class);
            $this->made[$class] = new $class();
        }
        return $this->made[$class];
    }

    /** Ends the tasks that were made: their destructors run. What one throws is for the log. */
    public function forget(): void
    {
        try {
            $this->made = [];
        } catch (\Throwable $error) {
            error_log((string) $error);
        }
    }

    /** Runs the task; whatever it throws is the answer. */
    public function perform(string $class, TaskInput $task): Answer
    {
        try {
            return Answer::result(TaskResult::of($this->get($class)->run($task)));
        } catch (TaskFailure $failure) {
            return Answer::thrown($failure);
        } catch (\Throwable $error) {
            $task->log((string) $error);
            return Answer::thrown($error);
        }
    }

    /**
     * The same for a request of the contract of `exec` and `http` handlers, as Json::decode gives it:
     * an object of uri, args, kwargs, details.
     *
     * @param ?\Closure(float, string): void $progress
     * @param ?\Closure(string): void $log
     */
    public function answer(string $class, mixed $request, ?\Closure $progress = null, ?\Closure $log = null): Answer
    {
        $problem = self::flawOfRequest($request);
        if ($problem !== null) {
            return Answer::failure("the request $problem", 'taskbus.error.invalid_argument', [
                'remedy' => 'send {"uri": "com.example.x", "args": [...], "kwargs": {...}, "details": {...}}',
            ]);
        }
        return $this->perform($class, new TaskInput(
            $request->uri,
            $request->args ?? [],
            get_object_vars($request->kwargs ?? new \stdClass()),
            $request->details ?? new \stdClass(),
            $progress,
            $log,
        ));
    }

    private static function flawOfRequest(mixed $request): ?string
    {
        return match (true) {
            !$request instanceof \stdClass => 'is not a JSON object',
            !is_string($request->uri ?? null) => 'has no uri that is a text',
            !is_array($request->args ?? []) => 'has args that are no list',
            !($request->kwargs ?? new \stdClass()) instanceof \stdClass => 'has kwargs that are no object',
            !($request->details ?? new \stdClass()) instanceof \stdClass => 'has details that are no object',
            default => null,
        };
    }

    /** @return array{string, string}|null the problem and the remedy */
    private function problem(string $class): ?array
    {
        if (!preg_match(self::CLASS_NAME, $class)) {
            return ['this is not the name of a class', 'write it as Example\GetFreeSpace'];
        }
        $file = $this->file($class);
        try {
            $is_there = class_exists($class);
        } catch (\Throwable $error) {
            return [$error::class . ": {$error->getMessage()} in {$error->getFile()}:{$error->getLine()}",
                'mend what it names'];
        }
        return match (true) {
            !$is_there => is_file($file)
                ? ["$file does not have it", "declare 'class " . self::last($class) . "' there, in its namespace"]
                : ["there is no file $file", 'write it, or correct the name in the API map'],
            !is_subclass_of($class, TaskInterface::class) =>
                ['it is no task', 'let it implement Taskbus\TaskInterface'],
            !(new \ReflectionClass($class))->isInstantiable() =>
                ['nobody can make one', 'let it be no abstract class, with a public constructor'],
            (new \ReflectionClass($class))->getConstructor()?->getNumberOfRequiredParameters() > 0 =>
                ['its constructor wants arguments', 'give all of them defaults'],
            default => null,
        };
    }

    private static function last(string $class): string
    {
        return substr(strrchr("\\$class", '\\'), 1);
    }
}

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

/**
 * Values that every door of the bus can carry. One that it cannot carry is refused where it is
 * made: the router would drop the message, and a caller would wait for ever.
 */
final class Portable
{
    /** Readers of JSON follow no deeper, some of them by far not as deep as they can be sent. */
    public const DEEPEST = 100;

    /** Bytes of JSON: the router's messages hold 16 MiB. */
    public const LARGEST_RESULT = 16_000_000;

    /** Autobahn for Python takes these keywords of an answer for its own. */
    public const RESERVED_KEYWORDS =
        ['self', 'enc_algo', 'callee', 'callee_authid', 'callee_authrole', 'forward_for'];

    // The integers of msgpack, without their signs.
    private const LARGEST_INTEGER = '18446744073709551615';
    private const SMALLEST_INTEGER = '9223372036854775808';

    private const LONGEST_SHOWN = 200;
    private const LONGEST_STEP = 40;

    /** Whether JSON may have a flaw() where PHP could read or write it; that of few values may. */
    public static function isOdd(string $json): bool
    {
        return substr_count($json, '[') + substr_count($json, '{') > self::DEEPEST
            // A quote within a text has a backslash before it.
            || str_contains($json, '"\u0000') && preg_match('/(?<!\\\\)"\\\\u0000/', $json) === 1;
    }

    /**
     * The first part of a value that cannot be carried, as [place, value, problem, remedy].
     *
     * @return array{string, mixed, string, string}|null null where all of it can
     */
    public static function flaw(string $place, mixed $value, int $deeper = self::DEEPEST + 1): ?array
    {
        return match (true) {
            is_string($value) => self::flawOfText($place, $value),
            is_float($value) && !is_finite($value) =>
                [$place, $value, 'not a finite number', 'send null or a text instead'],
            // One that names itself is its properties.
            $value instanceof \JsonSerializable && ($named = $value->jsonSerialize()) !== $value =>
                self::flaw($place, $named, $deeper),
            $value instanceof \BackedEnum => null,
            is_array($value), is_object($value) => self::flawOfParts($place, $value, $deeper),
            !is_scalar($value) && $value !== null => [
                $place,
                get_debug_type($value),
                get_debug_type($value) . ' is not a JSON type',
                'send texts, finite numbers, true, false, null, lists and objects',
            ],
            default => null,
        };
    }

    /**
     * The same for integers that PHP reads as texts, as they are beyond its own.
     *
     * @return array{string, mixed, string, string}|null
     */
    public static function flawOfIntegers(string $place, string $json): ?array
    {
        // Most JSON has nothing of the kind. What is within a text is none.
        if (preg_match('/\d{19}/', $json)) {
            preg_match_all('/"(?:[^"\\\\]++|\\\\.)*+"(*SKIP)(*FAIL)|(?<![\d.eE+-])-?\d{19,}+(?![.eE])/s', $json, $found);
            foreach ($found[0] as $integer) {
                $digits = ltrim($integer, '-');
                $most = $digits === $integer ? self::LARGEST_INTEGER : self::SMALLEST_INTEGER;
                if ((strlen($digits) <=> strlen($most) ?: strcmp($digits, $most)) > 0) {
                    return [$place, self::shown($integer), 'an integer of more than 64 bits', 'send it as a text'];
                }
            }
        }
        return null;
    }

    /** A value short enough for a message, as every door carries it; a long one keeps its start. */
    public static function shown(mixed $value): mixed
    {
        if ($value === null || is_bool($value) || is_int($value) || is_float($value) && is_finite($value)) {
            return $value;
        }
        $text = match (true) {
            is_string($value) => $value,
            is_array($value), is_object($value) =>
                (string) json_encode($value, JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_UNESCAPED_UNICODE),
            is_float($value) => (string) $value,
            default => get_debug_type($value),
        };
        $start = self::start($text, self::LONGEST_SHOWN);
        return strlen($text) > strlen($start) ? "$start..." : $start;
    }

    /** The first characters of a text, as every door can carry it. */
    public static function start(string $text, int $characters): string
    {
        // Some more bytes than can be needed: a long text need not be looked at as a whole.
        $text = substr($text, 0, 4 * $characters + 4);
        if (!preg_match('//u', $text)) {
            $text = json_decode((string) json_encode($text, JSON_INVALID_UTF8_SUBSTITUTE));
        }
        preg_match("/^.{0,$characters}/su", $text, $found);
        return str_starts_with($found[0], "\0") ? '\x00' . substr($found[0], 1) : $found[0];
    }

    /** @return array{string, mixed, string, string}|null */
    private static function flawOfText(string $place, string $text): ?array
    {
        return match (true) {
            !preg_match('//u', $text) => [$place, self::shown($text),
                'a text that is not valid UTF-8', 'send valid Unicode, or bytes as base64'],
            // In WAMP's JSON it would arrive as bytes, or end the session of who reads it.
            str_starts_with($text, "\0") => [$place, self::shown($text),
                'a text that begins with NUL', 'send bytes as base64'],
            default => null,
        };
    }

    /** @return array{string, mixed, string, string}|null */
    private static function flawOfParts(string $place, array|object $whole, int $deeper): ?array
    {
        if ($deeper === 0) {
            return [$place, is_array($whole) ? 'a list' : 'an object',
                'nested more than ' . self::DEEPEST . ' deep', 'send a flatter value'];
        }
        foreach ($whole as $name => $part) {
            $step = $place . (is_int($name) ? "[$name]" : '.' . self::start($name, self::LONGEST_STEP));
            $found = is_int($name) ? null : self::flawOfText($step, $name);
            $found ??= self::flaw($step, $part, $deeper - 1);
            if ($found !== null) {
                return $found;
            }
        }
        return null;
    }
}

/** JSON as the bus has it: objects are stdClass, and floats stay floats. */
final class Json
{
    private const DEEPEST = 512;

    /** @throws \JsonException for anything that is no JSON value */
    public static function encode(mixed $value): string
    {
        return json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES
            | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION, self::DEEPEST);
    }

    /**
     * Integers beyond PHP's own become texts: a float would lose their last digits.
     *
     * @throws \JsonException
     */
    public static function decode(string $text): mixed
    {
        return json_decode($text, false, self::DEEPEST, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    }
}

/** Takes one call over HTTP, and answers it: the contract of `http` entries of the API map. */
final class HttpDoor
{
    // The router carries no larger one.
    private const LARGEST = 16 * 1024 * 1024;
    // Whoever adds one of these passes on requests of others.
    private const OF_PROXIES = ['HTTP_FORWARDED', 'HTTP_VIA', 'HTTP_X_FORWARDED_FOR', 'HTTP_X_REAL_IP'];
    private const SHAPE = 'POST {"uri": "com.example.x", "args": [...], "kwargs": {...}, "details": {...}}';

    /** @param array<string, string|int> $written the settings, see HttpSettings */
    public static function serve(array $written): void
    {
        $reply = new HttpReply(str_contains($_SERVER['HTTP_ACCEPT'] ?? '', 'application/x-ndjson'));
        try {
            $settings = HttpSettings::of($written);
            self::checkCaller($settings);
            $request = self::request();
            $tasks = new Tasks($settings->tasks);
            $class = self::className($tasks, $settings, $request->uri);
        } catch (HttpRefusal $refusal) {
            $reply->end($refusal->answer, $refusal->status, $refusal->headers);
            return;
        }
        set_time_limit($settings->seconds);
        $reply->name($request->uri);
        $answer = $tasks->answer($class, $request, $reply->progress(...), $reply->log(...));
        $reply->end($answer, self::status($answer));
    }

    /** A failure that the task has named is its caller's; any other is for who looks after the server. */
    private static function status(Answer $answer): int
    {
        return match (true) {
            $answer->error === null => 200,
            $answer->error === 'taskbus.error.invalid_argument' => 400,
            str_starts_with($answer->error, 'taskbus.') => 500,
            default => 422,
        };
    }

    /** @throws HttpRefusal */
    private static function checkCaller(HttpSettings $settings): void
    {
        $proof = $settings->proof();
        if ($proof === null) {
            if (!self::isFromHere()) {
                throw new HttpRefusal(403, 'forbidden', 'only programs on this machine may call, as no secret is set',
                    'call 127.0.0.1, through no proxy; or set TASKBUS_SECRET_FILE, and let the API map send the secret: auth = {bearer = "file"}');
            }
            return;
        }
        $given = $_SERVER['HTTP_' . strtr(strtoupper($settings->header), '-', '_')] ?? '';
        if (!hash_equals($proof, $given)) {
            throw new HttpRefusal(401, 'unauthenticated', "the header $settings->header does not have the secret",
                'let the API map send it: auth = {bearer = "file"}, or {header = "X-Api-Key", file = "file"}',
                headers: ['WWW-Authenticate' => 'Bearer']);
        }
    }

    /** Not so for a browser that was led here by somebody's name for this machine, nor through a proxy. */
    private static function isFromHere(): bool
    {
        $host = preg_replace('/:\d+$/D', '', $_SERVER['HTTP_HOST'] ?? 'localhost');
        return preg_match('/^(127\.[\d.]+|::1|::ffff:127\.[\d.]+)$/D', $_SERVER['REMOTE_ADDR'] ?? '')
            && ($host === 'localhost' || filter_var(trim($host, '[]'), FILTER_VALIDATE_IP))
            && !array_intersect_key($_SERVER, array_flip(self::OF_PROXIES));
    }

    /** @throws HttpRefusal */
    private static function request(): \stdClass
    {
        $method = $_SERVER['REQUEST_METHOD'] ?? '';
        if ($method !== 'POST') {
            throw new HttpRefusal(405, 'no_such_method', "calls are no $method", self::SHAPE, 'method', $method,
                ['Allow' => 'POST']);
        }
        // A page of somebody else's can send other types without asking, from a browser on this machine.
        $type = strtolower(trim(explode(';', $_SERVER['CONTENT_TYPE'] ?? '')[0]));
        if ($type !== 'application/json') {
            throw new HttpRefusal(415, 'unsupported_media', 'the body is no application/json', self::SHAPE,
                'Content-Type', $type);
        }
        try {
            $request = Json::decode(self::body());
        } catch (\JsonException $error) {
            throw new HttpRefusal(400, 'invalid_argument', 'the body is not JSON: ' . $error->getMessage(), self::SHAPE);
        }
        if (!$request instanceof \stdClass || !is_string($request->uri ?? null)) {
            throw new HttpRefusal(400, 'invalid_argument', 'the body has no uri that is a text', self::SHAPE, 'uri');
        }
        return $request;
    }

    /** @throws HttpRefusal */
    private static function body(): string
    {
        $most = min(self::LARGEST, self::bytes((string) ini_get('post_max_size')) ?: self::LARGEST);
        $length = (int) ($_SERVER['CONTENT_LENGTH'] ?? 0);
        // Of a body that is too large for PHP, there is nothing to read.
        $body = $length > $most ? '' : (string) file_get_contents('php://input', false, null, 0, $most + 1);
        if (max($length, strlen($body)) > $most) {
            throw new HttpRefusal(413, 'too_large', "the body is larger than $most bytes",
                'send less, or let post_max_size in the settings of PHP be up to ' . self::LARGEST,
                'Content-Length', $length);
        }
        return $body;
    }

    /** As PHP's settings have it: 8M are 8388608. */
    private static function bytes(string $size): int
    {
        return (int) $size * match (strtoupper(substr($size, -1))) {
            'K' => 1024,
            'M' => 1024 ** 2,
            'G' => 1024 ** 3,
            default => 1,
        };
    }

    /** @throws HttpRefusal */
    private static function className(Tasks $tasks, HttpSettings $settings, string $uri): string
    {
        $class = HttpRoute::className($uri, $settings->namespace, $settings->classes);
        if ($class === null || !is_file($tasks->file($class)) && !self::isElsewhere($class)) {
            $remedy = match (true) {
                $class !== null => "write the class $class into the folder of the tasks, or call another URI",
                $settings->namespace !== '' => "call a URI below $settings->namespace, in lower case, such as "
                    . "$settings->namespace.get_free_space for the class GetFreeSpace",
                default => 'call a URI in lower case, such as shop.get_free_space for the class Shop\GetFreeSpace',
            };
            throw new HttpRefusal(404, 'unknown_uri', 'no class is behind ' . Portable::shown($uri), $remedy,
                'uri', $uri);
        }
        return $class;
    }

    /** Whether Composer knows the class. PHP itself minds no capitals. */
    private static function isElsewhere(string $class): bool
    {
        return class_exists($class) && (new \ReflectionClass($class))->getName() === $class;
    }
}

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

/**
 * Which class a URI is. Below the namespace each part names a namespace of PHP, the last one the
 * class: with the namespace com.example.shop, com.example.shop.disk.get_free_space is
 * Disk\GetFreeSpace.
 *
 * No two URIs are one class: who may not call the one cannot reach it by the other.
 */
final class HttpRoute
{
    // A letter begins each word: top_10 and top10 would both be Top10.
    private const PART = '/^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$/D';

    /**
     * @param string $namespace that of URIs, empty for all of them
     * @param string $classes the namespace of PHP in which all classes are, may be empty
     * @return ?string null where it can be none
     */
    public static function className(string $uri, string $namespace, string $classes): ?string
    {
        if ($namespace !== '') {
            if (!str_starts_with($uri, "$namespace.")) {
                return null;
            }
            $uri = substr($uri, strlen($namespace) + 1);
        }
        $parts = explode('.', $uri);
        foreach ($parts as &$part) {
            if (!preg_match(self::PART, $part)) {
                return null;
            }
            $part = str_replace('_', '', ucwords($part, '_'));
        }
        return ltrim($classes . '\\' . implode('\\', $parts), '\\');
    }
}

/**
 * The one answer to a request, whatever a task does meanwhile: what it writes is for the log, and
 * where it ends PHP, by exit() or by an error that nobody can catch, that is the answer.
 */
final class HttpReply
{
    private const LONGEST_LINE = 1000;
    private const TOO_LATE = 'Maximum execution time';

    private string $who = 'taskbus';
    private string $begun = '';
    private int $level = 0;
    private bool $isPassing = false;
    private bool $isStreaming = false;
    private bool $isEnded = false;

    /** @param bool $mayStream whether the caller wants to hear of progress */
    public function __construct(private readonly bool $mayStream)
    {
        ini_set('display_errors', '0');
        ini_set('html_errors', '0');
        ini_set('log_errors', '1');
        ini_set('serialize_precision', '-1');
        // A task hears of it from progress(), and can clean up.
        ignore_user_abort(true);
        while (ob_get_level() > 0 && ob_end_clean()) {
            // What PHP or a prepended file has begun is no part of the answer.
        }
        $this->capture();
        register_shutdown_function($this->lastWords(...));
    }

    /** Whose lines those in the log are from now on. */
    public function name(string $who): void
    {
        $this->who = $who;
    }

    /** Lines for the log. */
    public function log(string $line): void
    {
        foreach (explode("\n", $line) as $one) {
            foreach (str_split($one, self::LONGEST_LINE) as $piece) {
                error_log("$this->who: " . addcslashes($piece, "\0..\10\13..\37\177"));
            }
        }
    }

    /**
     * A line of application/x-ndjson, sent at once.
     *
     * @throws HttpGone
     */
    public function progress(float $fraction, string $message): void
    {
        // A buffer of the task's own is in the way, and not ours to end.
        if (!$this->mayStream || ob_get_level() !== $this->level) {
            return;
        }
        if (!$this->isStreaming) {
            $this->isStreaming = true;
            // Else nginx would keep the lines until there are enough of them.
            $this->head(200, ['Content-Type' => 'application/x-ndjson', 'X-Accel-Buffering' => 'no']);
        }
        $this->pass(Json::encode(['progress' => $fraction, 'message' => $message]) . "\n");
        if (connection_aborted()) {
            throw new HttpGone('the caller has gone away');
        }
    }

    /**
     * The answer; what comes after it is for the log.
     *
     * @param array<string, string> $headers
     */
    public function end(Answer $answer, int $status, array $headers = []): void
    {
        $this->isEnded = true;
        while (ob_get_level() > $this->level && ob_end_flush()) {
            // Of buffers that the task has left open.
        }
        $body = $answer->json() . "\n";
        if (!$this->isStreaming) {
            $length = (string) strlen($body);
            $this->head($status, $headers + ['Content-Type' => 'application/json', 'Content-Length' => $length]);
        }
        if (ob_get_level() < $this->level) {
            $this->capture();
        }
        $this->pass($body);
        $this->flushLog();
    }

    private function capture(): void
    {
        // In pieces of one byte, that is at each echo: what a task says is in the log at once.
        ob_start(fn (string $text, int $phase): string => $this->isPassing ? $text : $this->heard($text, $phase), 1);
        $this->level = ob_get_level();
    }

    /** @param array<string, string> $headers */
    private function head(int $status, array $headers): void
    {
        // With a 200 sent already, as by a flush() of the task, an error is one all the same.
        if (headers_sent()) {
            return;
        }
        header_remove();
        http_response_code($status);
        foreach ($headers + ['Cache-Control' => 'no-store'] as $name => $value) {
            header("$name: $value");
        }
    }

    private function pass(string $text): void
    {
        $this->isPassing = true;
        echo $text;
        $this->isPassing = false;
        flush();
    }

    private function heard(string $text, int $phase): string
    {
        $lines = explode("\n", $this->begun . $text);
        $this->begun = (string) array_pop($lines);
        array_map($this->log(...), $lines);
        if (strlen($this->begun) > self::LONGEST_LINE || $phase & PHP_OUTPUT_HANDLER_FINAL) {
            $this->flushLog();
        }
        return '';
    }

    private function flushLog(): void
    {
        if ($this->begun !== '') {
            $this->log($this->begun);
            $this->begun = '';
        }
    }

    private function lastWords(): void
    {
        if ($this->isEnded) {
            $this->flushLog();
            return;
        }
        $error = error_get_last();
        $this->end(
            str_starts_with($error['message'] ?? '', self::TOO_LATE)
                ? Answer::failure($error['message'], 'taskbus.error.timeout')
                : Answer::lastWords(),
            500,
        );
    }
}

/** Why a request gets no task: an HTTP status, and the error that says which part of it is wrong. */
final class HttpRefusal extends \Exception
{
    public readonly Answer $answer;

    /** @param array<string, string> $headers for the answer */
    public function __construct(
        public readonly int $status,
        string $name,
        string $message,
        string $remedy,
        ?string $field = null,
        mixed $value = null,
        public readonly array $headers = [],
    ) {
        parent::__construct($message);
        $about = ['field' => $field, 'value' => Portable::shown($value), 'remedy' => $remedy];
        $about = array_filter($about, static fn (mixed $one): bool => $one !== null);
        $this->answer = Answer::failure($message, "taskbus.error.$name", $about);
    }

    /** A setting that is wrong; its value is for the log alone, as anybody may have asked. */
    public static function config(string $name, string $value, string $problem, string $remedy): self
    {
        error_log("taskbus: $name: $problem ($value); $remedy");
        return new self(500, 'config', "$name: $problem", $remedy, $name);
    }
}

/**
 * Thrown in a task, by progress(), where its caller is not there any more: nobody wants its result.
 * No \Exception, so that a task that catches those ends, too.
 */
final class HttpGone extends \Error
{
}
