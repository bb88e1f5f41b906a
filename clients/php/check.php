<?php

/**
 * Whether task classes can be loaded, for `taskbus check`:
 *
 *     php check.php FOLDER CLASS...
 *
 * One line of JSON for each class: {"class": ..., "problem": what is wrong and the remedy, or null}.
 */

declare(strict_types=1);

use Taskbus\Json;
use Taskbus\Tasks;
use Taskbus\Wamp\Options;
use Taskbus\Wamp\Probe;
use Taskbus\Worker\Job;

require __DIR__ . '/autoload.php';

Job::logErrors();

if ($missing = Options::missing()) {
    fwrite(STDERR, "$missing\n");
    exit(1);
}
try {
    $tasks = new Tasks($argv[1]);
} catch (Throwable $error) {
    // Composer refuses a PHP that is too old, for example.
    $words = strtr($error->getMessage(), "\n", ' ');
    fwrite(STDERR, $error::class . ": $words in {$error->getFile()}:{$error->getLine()}\n");
    exit(1);
}
foreach (array_slice($argv, 2) as $class) {
    $problem = Probe::problem($tasks, $class);
    // On a line of its own, whatever the class has printed.
    echo "\n", Json::encode(['class' => $class, 'problem' => $problem]), "\n";
}
