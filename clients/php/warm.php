<?php

/**
 * Keeps PHP processes at hand for the jobs of one worker, which has started this.
 *
 *     php warm.php DESCRIPTOR     {"handlers": {PATTERN: CLASS}, "path": [FOLDER]} on stdin
 */

declare(strict_types=1);

namespace Taskbus\Worker;

use Taskbus\Json;
use Taskbus\Tasks;

require __DIR__ . '/autoload.php';

Job::logErrors();
$missing = array_filter(['ffi', 'pcntl', 'posix'], static fn (string $name) => !extension_loaded($name));
if ($missing) {
    fwrite(STDERR, 'PHP has no ' . implode(', ', $missing) . ": no warm PHP processes without that\n");
    exit(1);
}
try {
    $system = new System();
} catch (\FFI\Exception $error) {
    fwrite(STDERR, "ffi.enable in the settings of PHP forbids warm PHP processes: {$error->getMessage()}\n");
    exit(1);
}
$control = (int) $argv[1];
$system->keep($control);
$config = Json::decode(stream_get_contents(STDIN));
$system->shutStdin();
$forker = new Forker($system, $control, new Tasks($config->path[0]), (array) $config->handlers);
$forker->load();
$forker->run();
$system->leave(0);
