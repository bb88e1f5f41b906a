<?php
// A task as a program: one JSON object on stdin, one JSON object on stdout, stderr is its log.
$call = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$text = $call['args'][0] ?? '';
if (!is_string($text)) {
    echo json_encode(['error' => 'com.example.dante.error.not_text', 'args' => ['send a text']]);
    exit(0);
}
fwrite(STDERR, "counting the words of " . strlen($text) . " bytes\n");
$words = preg_split('/\s+/', $text, -1, PREG_SPLIT_NO_EMPTY);
echo json_encode(['args' => [count($words)], 'kwargs' => ['bytes' => strlen($text)]]);
