<?php

declare(strict_types=1);

namespace Taskbus;

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
