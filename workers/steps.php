<?php
// Tells how far it is: one JSON object a line, on the descriptor that TASKBUS_FD names.
$call = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
[$steps, $pause] = $call['args'] + [3, 0.1];
$told = fopen('php://fd/' . (getenv('TASKBUS_FD') ?: 2), 'w');
for ($step = 1; $step <= $steps; $step++) {
    usleep((int) ($pause * 1e6));
    fwrite($told, json_encode(['progress' => $step / $steps, 'message' => "step $step"]) . "\n");
    fwrite(STDERR, "did step $step\n");
}
echo json_encode(['args' => [$steps]]);
