<?php

/**
 * Runs the tests: every file tests/*Test.php calls test() for each of its cases.
 *
 *     php clients/php/tests/run.php [PART OF A NAME]
 */

declare(strict_types=1);

namespace Taskbus\Tests;

require __DIR__ . '/../autoload.php';

error_reporting(E_ALL);
ini_set('serialize_precision', '-1');
// A warning is a failure, as everywhere in this project; one that was silenced by @ is none.
set_error_handler(static function (int $level, string $message, string $file, int $line): bool {
    if (error_reporting() & $level) {
        throw new \ErrorException($message, 0, $level, $file, $line);
    }
    return true;
});

final class Cases
{
    /** @var array<string, \Closure> */
    public static array $all = [];
}

final class Unexpected extends \Exception
{
}

function test(string $name, \Closure $case): void
{
    Cases::$all[$name] = $case;
}

function same(mixed $expected, mixed $actual): void
{
    if ($expected !== $actual) {
        throw new Unexpected('expected ' . var_export($expected, true) . ', got ' . var_export($actual, true));
    }
}

/** What the closure throws, which has to be of that class. */
function thrown(string $class, \Closure $work): \Throwable
{
    try {
        $work();
    } catch (\Throwable $error) {
        if ($error instanceof $class) {
            return $error;
        }
        throw $error;
    }
    throw new Unexpected("no $class was thrown");
}

/** A folder with these files, which goes when the tests have ended. */
function folder(array $files): string
{
    $folder = sys_get_temp_dir() . '/taskbus-' . bin2hex(random_bytes(6));
    foreach ($files as $name => $text) {
        @mkdir(dirname("$folder/$name"), 0700, true);
        file_put_contents("$folder/$name", $text);
    }
    $owner = getmypid();
    register_shutdown_function(static function () use ($folder, $owner): void {
        // A forked child is not the end.
        if (getmypid() === $owner) {
            remove($folder);
        }
    });
    return $folder;
}

function remove(string $path): void
{
    if (is_dir($path) && !is_link($path)) {
        array_map(static fn (string $name) => remove("$path/$name"), array_diff(scandir($path), ['.', '..']));
        rmdir($path);
    } else {
        unlink($path);
    }
}

foreach (glob(__DIR__ . '/*Test.php') as $file) {
    require $file;
}
$failed = 0;
foreach (Cases::$all as $name => $case) {
    if (!str_contains($name, $argv[1] ?? '')) {
        continue;
    }
    try {
        $case();
        echo "ok      $name\n";
    } catch (\Throwable $error) {
        $failed++;
        echo "FAILED  $name\n        ", $error instanceof Unexpected
            ? "{$error->getMessage()} (line {$error->getTrace()[0]['line']})" : $error, "\n";
    }
}
echo count(Cases::$all), " cases, $failed failed\n";
exit($failed ? 1 : 0);
