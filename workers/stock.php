<?php
// A service that http entries of the API map can call: php -S 127.0.0.1:8000 workers/stock.php
// The same in Python is stock.py.
const LEVELS = ['apple' => 7, 'pear' => 0];

function answer(int $status, array $body): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($body);
}

function refuse(int $status, string $name, string $message, array $about = []): void
{
    // An empty map has to be an object.
    answer($status, ['error' => "com.example.stock.error.$name", 'args' => [$message], 'kwargs' => (object) $about]);
}

$call = json_decode(file_get_contents('php://input'), true);
if ($_SERVER['REQUEST_METHOD'] !== 'POST' || !is_array($call)) {
    refuse(400, 'bad_request', 'POST {"uri": ..., "args": [...], "kwargs": {...}, "details": {...}}');
    return;
}
$sku = $call['args'][0] ?? null;
if (!is_string($sku) || !array_key_exists($sku, LEVELS)) {
    refuse(404, 'unknown', 'send the name of something in stock', ['field' => 'args[0]']);
    return;
}
$count = $call['kwargs']['count'] ?? 1;
$name = substr(strrchr($call['uri'], '.'), 1);
switch ($name) {
    case 'level':
        answer(200, ['args' => [LEVELS[$sku]]]);
        break;
    case 'take':
        if ($count > LEVELS[$sku]) {
            refuse(409, 'sold_out', "only " . LEVELS[$sku] . " of $sku", ['left' => LEVELS[$sku]]);
            break;
        }
        // The same with each attempt of a job: whoever stores what is done can tell a repetition.
        $by = $_SERVER['HTTP_TASKBUS_JOB'] ?? null;
        answer(200, ['args' => [LEVELS[$sku] - $count], 'kwargs' => ['by' => $by]]);
        break;
    default:
        refuse(404, 'no_such_call', "there is no $name");
}
