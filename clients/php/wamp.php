#!/usr/bin/env php
<?php

/** The PHP backend of one namespace of the API map: see --help. */

declare(strict_types=1);

use Taskbus\Wamp\Backend;
use Taskbus\Wamp\Log;
use Taskbus\Wamp\Options;

require __DIR__ . '/autoload.php';

const WRONG_OPTION = 2;

// Whatever this machine's php.ini says. A task's warnings belong into the log, and are no output.
ini_set('display_errors', 'stderr');
ini_set('log_errors', '0');
ini_set('html_errors', '0');
ini_set('serialize_precision', '-1');

$words = array_slice($argv, 1);
if (array_intersect(['-h', '--help'], $words)) {
    echo Options::USAGE;
    exit(0);
}
try {
    $options = Options::read($words, dirname(__DIR__, 2));
    $options->ticket();
    exit((new Backend($options))->run());
} catch (InvalidArgumentException $wrong) {
    Log::error($wrong->getMessage());
    exit(WRONG_OPTION);
}
