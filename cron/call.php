#!/usr/bin/env php
<?php
/*
 * Call a procedure of the bus over HTTP: call.sh's twin for hosts with PHP but without curl.
 * Options, arguments, messages and exit status are those of call.sh, which describes them.
 */
declare(strict_types=1);

const USAGE = "usage: call.php [-q] [-u URL] [-s FILE] [-t SECONDS] URI [ARGS [KWARGS]]\n";

exit(main(array_slice($argv, 1)));

function main(array $words): int
{
    [$options, $words] = options($words);
    if (isset($options['h'])) {
        echo USAGE;
        return 0;
    }
    if (count($words) < 1 || count($words) > 3) {
        misused();
    }
    [$uri, $args, $kwargs] = $words + [1 => '[]', 2 => '{}'];
    $args = $args === '-' ? rtrim((string) stream_get_contents(STDIN), "\n") : $args;
    $url = $options['u'] ?? (getenv('TASKBUS_CALL_URL') ?: 'http://127.0.0.1:9080/call');
    $timeout = $options['t'] ?? '300';
    check('/^[A-Za-z0-9_.-]+$/D', $uri, 'not a URI');
    check('/^\[.*\]$/Ds', $args, 'ARGS is not a JSON array');
    check('/^\{.*\}$/Ds', $kwargs, 'KWARGS is not a JSON object');
    check('/^[1-9][0-9]*$/D', $timeout, 'not a number of seconds');
    check('#^https?://[A-Za-z0-9:/._~%[\]-]+$#D', $url, 'not an http URL');

    $secrets = $options['s']
        ?? (getenv('TASKBUS_CALL_SECRETS') ?: __DIR__ . '/../var/secrets/bridge');
    [$key, $secret] = key_and_secret($secrets);
    // Put together as text: decoding would change large numbers and empty objects.
    $body = sprintf('{"procedure":"%s","args":%s,"kwargs":%s}', $uri, $args, $kwargs);
    $answer = post($url . '?' . signed_query($key, $secret, $body), $body, (int) $timeout, $url);
    return report($answer, $uri, $url, isset($options['q']));
}

/** Options as getopts(1) reads them: the ones found, and the words left. */
function options(array $words): array
{
    $found = [];
    while ($words && preg_match('/^-./', $words[0])) {
        $word = substr(array_shift($words), 1);
        if ($word === '-') {
            break;
        }
        while ($word !== '') {
            [$letter, $word] = [$word[0], substr($word, 1)];
            if (str_contains('hq', $letter)) {
                $found[$letter] = true;
                continue;
            }
            if (!str_contains('stu', $letter) || ($word === '' && !$words)) {
                misused();
            }
            $found[$letter] = $word !== '' ? $word : array_shift($words);
            $word = '';
        }
    }
    return [$found, $words];
}

function key_and_secret(string $file): array
{
    if (!is_file($file) || !is_readable($file)) {
        fail(2, "cannot read $file");
    }
    if (fileperms($file) & 07) {
        fail(2, "everybody may use $file: chmod 600 it");
    }
    $text = (string) file_get_contents($file);
    if (!preg_match('/^key=([A-Za-z0-9_.-]+)$/m', $text, $key)) {
        fail(2, "no key=... in $file");
    }
    if (!preg_match('/^secret=(.+)$/m', $text, $secret)) {
        fail(2, "no secret=... in $file");
    }
    return [$key[1], $secret[1]];
}

function signed_query(string $key, string $secret, string $body): string
{
    $fields = [
        'key' => $key,
        'timestamp' => gmdate('Y-m-d\TH:i:s') . '.000Z',
        'seq' => '1',
        'nonce' => (string) random_int(0, 2 ** 32),
    ];
    $digest = hash_hmac('sha256', implode('', $fields) . $body, $secret, true);
    return http_build_query(
        $fields + ['signature' => strtr(base64_encode($digest), '+/', '-_')]
    );
}

/** @return array{int, string} the HTTP status and the answer's text */
function post(string $url, string $body, int $timeout, string $shown): array
{
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => ['Content-Type: application/json', 'Connection: close'],
        'content' => $body,
        'timeout' => $timeout,
        'protocol_version' => 1.1,
        'follow_location' => 0,
        'ignore_errors' => true,  // an HTTP error has an answer, too
    ]]);
    $started = microtime(true);
    $answer = @file_get_contents($url, false, $context);
    if ($answer === false || !preg_match('# (\d{3})#', $http_response_header[0] ?? '', $status)) {
        fail(3, microtime(true) - $started >= $timeout
            ? "no answer from $shown within $timeout seconds" : "cannot reach $shown");
    }
    return [(int) $status[1], $answer];
}

function report(array $answered, string $uri, string $url, bool $quiet): int
{
    [$status, $answer] = $answered;
    $error = preg_match('/^\{"error": *"([^"]*)"/', $answer, $found) ? $found[1] : '';
    if ($status !== 200) {
        // Where the error is a name, the words are behind it.
        $told = str_starts_with($error, 'taskbus.') ? rtrim($answer) : $error;
        fail(3, "$url answered HTTP $status" . ($told === '' ? '' : ": $told"));
    }
    if ($error !== '' || !$quiet) {
        echo $answer, "\n";
    }
    if ($error !== '') {
        fail(1, "$uri: $error");
    }
    return 0;
}

function check(string $pattern, string $value, string $problem): void
{
    if (!preg_match($pattern, $value)) {
        fail(2, "$problem: $value");
    }
}

function misused(): never
{
    fwrite(STDERR, USAGE);
    exit(2);
}

function fail(int $status, string $message): never
{
    fwrite(STDERR, "call: $message\n");
    exit($status);
}
