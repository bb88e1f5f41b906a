<?php

declare(strict_types=1);

namespace Taskbus\Tests;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Portable;
use Taskbus\TaskFailure;
use Taskbus\TaskInput;
use Taskbus\TaskResult;
use Taskbus\Tasks;

/** Tasks with one class, whose run() has this body. */
function tasks(string $body, string $class = 'Shop'): Tasks
{
    return new Tasks(folder(["$class.php" => "<?php\nuse Taskbus\\{TaskFailure,TaskInput,TaskInterface,TaskResult};\n"
        . "class $class implements TaskInterface { public function run(TaskInput \$task): mixed { $body } }"]));
}

function answered(string $body, array $args = [], array $kwargs = []): string
{
    static $number = 0;
    $class = 'Shop' . ++$number;
    return tasks($body, $class)->perform($class, new TaskInput('com.x', $args, $kwargs, log: fn () => null))->json();
}

test('a plain value is the one positional result', function (): void {
    same('{"args":[42],"kwargs":{}}', answered('return 42;'));
    same('{"args":[null],"kwargs":{}}', answered('return null;'));
});

test('a TaskResult has positional and keyword results', function (): void {
    same('{"args":[1,2],"kwargs":{"total":100}}', answered('return new TaskResult(1, 2, total: 100);'));
    same('{"args":[],"kwargs":{}}', answered('return new TaskResult();'));
});

test('an object is its public properties, as json_encode has it', function (): void {
    same('{"args":[{"open":1}],"kwargs":{}}',
        answered('return new class { public $open = 1; private $shut = 2; };'));
});

test('an empty object and an empty list stay apart', function (): void {
    $args = Json::decode('[{}, [], {"a": {}, "b": []}]');
    same('{"args":[[{},[],{"a":{},"b":[]}]],"kwargs":{}}', answered('return $task->args;', $args));
});

test('numbers keep their kind and all their digits', function (): void {
    $args = Json::decode('[1.0, 1, -0.0, 0.1, 9223372036854775807, 18446744073709551615, 1e300]');
    same(
        '{"args":[[1.0,1,-0.0,0.1,9223372036854775807,"18446744073709551615",1.0e+300]],"kwargs":{}}',
        answered('return $task->args;', $args),
    );
});

test('unicode comes back as it was', function (): void {
    same('{"args":["zażółć 🚀 /"],"kwargs":{"名":"\u0001"}}',
        answered('return new TaskResult($task->args[0], ...$task->kwargs);', ['zażółć 🚀 /'], ['名' => "\x01"]));
});

test('a TaskFailure chooses its error URI and its details', function (): void {
    same('{"error":"com.example.error.no_shop","args":["no such shop"],"kwargs":{"shop":"x"}}',
        answered('throw new TaskFailure("no such shop", "com.example.error.no_shop", shop: "x");'));
    same('{"error":"taskbus.error.task_failed","args":["no"],"kwargs":{}}',
        answered('throw new TaskFailure("no");'));
});

test('any exception is a failure, and its trace is in the log', function (): void {
    $logged = [];
    $tasks = tasks('throw new LogicException("not today");', 'Refuser');
    $answer = $tasks->perform('Refuser', new TaskInput('com.x', log: function (string $line) use (&$logged): void {
        $logged[] = $line;
    }));
    same('{"error":"taskbus.error.task_failed","args":["LogicException: not today"],'
        . '"kwargs":{"type":"LogicException"}}', $answer->json());
    same(true, str_contains($logged[0], 'Refuser.php'));
    same($logged[0], $answer->trace);
});

test('an error whose URI or details cannot be sent is sent as far as it can', function (): void {
    same('{"error":"taskbus.error.task_failed","args":["no"],"kwargs":{"error_uri":"a b"}}',
        answered('throw new TaskFailure("no", "a b");'));
    same('{"error":"a.b","args":["no\ufffd"],"kwargs":{"error_":1,"nan":"NAN","bytes":"\ufffd","self_":2}}', str_replace(
        '�', '\ufffd', answered('throw new TaskFailure("no\xff", "a.b", error: 1, nan: NAN, bytes: "\xff", self: 2);')));
});

test('what no door can carry is refused with its place', function (): void {
    $cases = [
        'return NAN;' => ['args[0]', 'not a finite number'],
        'return ["a" => ["b" => [1, "\xff"]]];' => ['args[0].a.b[1]', 'a text that is not valid UTF-8'],
        'return new TaskResult(x: "\0a");' => ['kwargs.x', 'a text that begins with NUL'],
        'return fopen("php://memory", "r");' => ['args[0]', 'resource (stream) is not a JSON type'],
        'return new TaskResult(callee: 1);' => ['kwargs.callee', 'a keyword that WAMP clients keep for themselves'],
        '$x = []; for ($i = 0; $i < 100; $i++) { $x = [$x]; } return $x;' =>
            ['args' . str_repeat('[0]', 65) . '[...', 'nested more than 100 deep'],
    ];
    foreach ($cases as $body => [$place, $problem]) {
        $answer = json_decode(answered($body));
        same('taskbus.error.invalid_result', $answer->error);
        same($place, $answer->kwargs->field);
        same("the result's $place: $problem", $answer->args[0]);
    }
    same('{"args":["\"\u0000"],"kwargs":{}}', answered('return "\"\0";'));
});

test('an object that names itself for JSON is looked at once', function (): void {
    $named = 'new class implements JsonSerializable { public $x = %s; function jsonSerialize(): static { return $this; } }';
    same('args[0].x', json_decode(answered(sprintf("return $named;", 'NAN')))->kwargs->field);
    same('{"args":[' . Json::encode(array_fill(0, 101, ['x' => 1])) . '],"kwargs":{}}',
        answered(sprintf("return array_fill(0, 101, $named);", '1')));
});

test('a result that is too large is refused', function (): void {
    $answer = json_decode(answered('return str_repeat("x", 16000000);'));
    same('taskbus.error.invalid_result', $answer->error);
    same('the result is larger than 16000000 bytes of JSON', $answer->args[0]);
});

test('a class is made once', function (): void {
    $tasks = new Tasks(folder(['Counter.php' => '<?php class Counter implements Taskbus\TaskInterface {'
        . 'private $n = 0; function run(Taskbus\TaskInput $task): mixed { return ++$this->n; } }']));
    $tasks->perform('Counter', new TaskInput('com.x'));
    same('[2]', $tasks->perform('Counter', new TaskInput('com.x'))->args);
});

test('a class in a namespace is in a folder; Composer may know others', function (): void {
    $class = '<?php namespace %s; class Task implements \Taskbus\TaskInterface {'
        . 'function run(\Taskbus\TaskInput $task): mixed { return __NAMESPACE__; } }';
    $tasks = new Tasks(folder([
        'Deep/Er/Task.php' => sprintf($class, 'Deep\Er'),
        'elsewhere.php' => sprintf($class, 'Else_'),
        'vendor/autoload.php' => '<?php spl_autoload_register(function ($class) {'
            . 'if ($class === "Else_\Task") { require __DIR__ . "/../elsewhere.php"; } });',
    ]));
    same('["Deep\\\\Er"]', $tasks->perform('Deep\Er\Task', new TaskInput('com.x'))->args);
    same('["Else_"]', $tasks->perform('Else_\Task', new TaskInput('com.x'))->args);
});

test('a class that is no task is named with its file and the remedy', function (): void {
    $folder = folder([
        'Other.php' => '<?php class Another {}',
        'Plain.php' => '<?php class Plain {}',
        'Broken.php' => '<?php class Broken {',
        'Wants.php' => '<?php class Wants implements Taskbus\TaskInterface { function __construct(int $x) {} '
            . 'function run(Taskbus\TaskInput $task): mixed { return 1; } }',
        'Half.php' => '<?php abstract class Half implements Taskbus\TaskInterface {}',
    ]);
    $tasks = new Tasks($folder);
    $cases = [
        'A\Missing' => "there is no file $folder/A/Missing.php",
        'Other' => "$folder/Other.php does not have it",
        'Plain' => 'it is no task',
        'Broken' => 'ParseError: Unclosed',
        'Wants' => 'its constructor wants arguments',
        'Half' => 'nobody can make one',
        '../etc/passwd' => 'this is not the name of a class',
    ];
    foreach ($cases as $class => $problem) {
        $failure = thrown(TaskFailure::class, fn () => $tasks->load($class));
        same(true, str_starts_with($failure->getMessage(), "cannot load the class $class: $problem"));
        same(['php', $class], [$failure->about['field'], $failure->about['value']]);
        same(true, strlen($failure->about['remedy']) > 5);
    }
    same('taskbus.error.task_failed', $tasks->perform('Plain', new TaskInput('com.x'))->error);
});

test('a request of the contract is checked and answered', function (): void {
    $tasks = tasks('$task->progress(2.0, "half"); $task->log("hm"); '
        . 'return [$task->uri, $task->args, $task->kwargs, $task->details->job];', 'Teller');
    $heard = [];
    $answer = $tasks->answer(
        'Teller',
        Json::decode('{"uri": "com.x", "args": [1], "kwargs": {"a": {}}, "details": {"job": "j"}}'),
        function (float $fraction, string $message) use (&$heard): void {
            $heard[] = [$fraction, $message];
        },
        function (string $line) use (&$heard): void {
            $heard[] = $line;
        },
    );
    same('{"args":[["com.x",[1],{"a":{}},"j"]],"kwargs":{}}', $answer->json());
    same([[1.0, 'half'], 'hm'], $heard);
    $wrong = ['[]', '{}', '{"uri": 1}', '{"uri": "x", "args": {}}', '{"uri": "x", "kwargs": []}',
        '{"uri": "x", "details": 1}'];
    foreach ($wrong as $request) {
        same('taskbus.error.invalid_argument', $tasks->answer('Teller', Json::decode($request))->error);
    }
});

test('a message is cut between characters', function (): void {
    same('zaż', Portable::start('zażółć', 3));
    same("\\x00a", Portable::start("\0a", 10));
    same(str_repeat('é', 200) . '...', Portable::shown(str_repeat('é', 1000)));
});

test('a process that ends without an answer says why', function (): void {
    $autoload = var_export(dirname(__DIR__) . '/autoload.php', true);
    $ends = [
        'exit(0);' => 'the task called exit()',
        'ini_set("memory_limit", "2M"); str_repeat("x", 9000000);' => 'Allowed memory size',
    ];
    foreach ($ends as $code => $start) {
        $code = "require $autoload; class_exists(Taskbus\Answer::class); class_exists(Taskbus\Json::class);"
            . 'class_exists(Taskbus\Portable::class); ini_set("display_errors", "stderr");'
            . 'register_shutdown_function(fn () => print(Taskbus\Answer::lastWords()->json()));' . $code;
        $answer = json_decode((string) shell_exec('php -r ' . escapeshellarg($code) . ' 2>/dev/null'));
        same(true, str_starts_with($answer->args[0], $start));
        same('taskbus.error.task_failed', $answer->error);
    }
});
