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
use Taskbus\Wamp\Probe;

require __DIR__ . '/autoload.php';

ini_set('display_errors', 'stderr');
ini_set('log_errors', '0');
ini_set('html_errors', '0');

foreach (['json', 'pcntl', 'posix'] as $extension) {
    if (!extension_loaded($extension)) {
        fwrite(STDERR, "this PHP has no extension $extension\n");
        exit(1);
    }
}
$tasks = new Tasks($argv[1]);
foreach (array_slice($argv, 2) as $class) {
    echo Json::encode(['class' => $class, 'problem' => Probe::problem($tasks, $class)]), "\n";
}
