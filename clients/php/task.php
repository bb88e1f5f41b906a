<?php

/**
 * Runs one call of a task by the contract of `exec` handlers, see the project's README.
 *
 *     php task.php FOLDER CLASS
 *
 * The answer goes to the descriptor that TASKBUS_ANSWER_FD names, or else to stdout.
 */

declare(strict_types=1);

namespace Taskbus\Worker;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Tasks;

require __DIR__ . '/autoload.php';

Job::logErrors();
if ($argc !== 3) {
    fwrite(STDERR, "usage: php task.php FOLDER CLASS, with {\"uri\": ..., \"args\": [...]} on stdin\n");
    exit(2);
}
[, $folder, $class] = $argv;
$number = (int) (getenv('TASKBUS_ANSWER_FD') ?: 1);
$answers = fopen("php://fd/$number", 'w');
$told = getenv('TASKBUS_FD') ? fopen('php://fd/' . getenv('TASKBUS_FD'), 'w') : null;
// Another task.php that the task may start is not to answer in its place.
putenv('TASKBUS_ANSWER_FD');
Job::run(
    new Tasks($folder),
    $class,
    Job::request(stream_get_contents(STDIN)),
    static function (float $fraction, string $message) use ($told): void {
        if ($told) {
            fwrite($told, Json::encode(['progress' => $fraction, 'message' => $message]) . "\n");
        }
    },
    static function (Answer $answer) use ($answers): void {
        fwrite($answers, $answer->trace === '' ? $answer->json() : Json::encode([
            'error' => $answer->error,
            'args' => Json::decode($answer->args),
            'kwargs' => ['traceback' => $answer->trace] + (array) Json::decode($answer->kwargs),
        ]));
    },
);
