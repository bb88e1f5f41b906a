#!/usr/bin/env php
<?php

/** The PHP backend of one namespace of the API map: see --help. */

declare(strict_types=1);

use Taskbus\Wamp\Backend;
use Taskbus\Wamp\Log;
use Taskbus\Wamp\Options;
use Taskbus\Worker\Job;

require __DIR__ . '/autoload.php';

const WRONG_OPTION = 2;

Job::logErrors();
// Another value, in a php.ini of old, would change numbers.
ini_set('serialize_precision', '-1');
// A task, or a program that it starts, would wait for what nobody writes there.
fclose(STDIN);
$stdin = fopen('/dev/null', 'r');

$words = array_slice($argv, 1);
if (array_intersect(['-h', '--help'], $words)) {
    echo Options::USAGE;
    exit(0);
}
try {
    if ($missing = Options::missing()) {
        throw new InvalidArgumentException($missing);
    }
    $options = Options::read($words, dirname(__DIR__, 2));
    $options->ticket();
    exit((new Backend($options))->run());
} catch (InvalidArgumentException $wrong) {
    Log::error($wrong->getMessage());
    exit(WRONG_OPTION);
}
