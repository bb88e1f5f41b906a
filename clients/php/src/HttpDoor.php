<?php

declare(strict_types=1);

namespace Taskbus;

/** Takes one call over HTTP, and answers it: the contract of `http` entries of the API map. */
final class HttpDoor
{
    // The router carries no larger one.
    private const LARGEST = 16 * 1024 * 1024;
    // Whoever adds one of these passes on requests of others.
    private const OF_PROXIES = ['HTTP_FORWARDED', 'HTTP_VIA', 'HTTP_X_FORWARDED_FOR', 'HTTP_X_REAL_IP'];
    private const SHAPE = 'POST {"uri": "com.example.x", "args": [...], "kwargs": {...}, "details": {...}}';

    /** @param array<string, string|int> $written the settings, see HttpSettings */
    public static function serve(array $written): void
    {
        $reply = new HttpReply(str_contains($_SERVER['HTTP_ACCEPT'] ?? '', 'application/x-ndjson'));
        try {
            $settings = HttpSettings::of($written);
            self::checkCaller($settings);
            $request = self::request();
            $tasks = new Tasks($settings->tasks);
            $class = self::className($tasks, $settings, $request->uri);
        } catch (HttpRefusal $refusal) {
            $reply->end($refusal->answer, $refusal->status, $refusal->headers);
            return;
        }
        set_time_limit($settings->seconds);
        $reply->name($request->uri);
        $answer = $tasks->answer($class, $request, $reply->progress(...), $reply->log(...));
        $reply->end($answer, self::status($answer));
    }

    /** A failure that the task has named is its caller's; any other is for who looks after the server. */
    private static function status(Answer $answer): int
    {
        return match (true) {
            $answer->error === null => 200,
            $answer->error === 'taskbus.error.invalid_argument' => 400,
            str_starts_with($answer->error, 'taskbus.') => 500,
            default => 422,
        };
    }

    /** @throws HttpRefusal */
    private static function checkCaller(HttpSettings $settings): void
    {
        $proof = $settings->proof();
        if ($proof === null) {
            if (!self::isFromHere()) {
                throw new HttpRefusal(403, 'forbidden', 'only programs on this machine may call, as no secret is set',
                    'call 127.0.0.1, through no proxy; or set TASKBUS_SECRET_FILE, and let the API map send the secret: auth = {bearer = "file"}');
            }
            return;
        }
        $given = $_SERVER['HTTP_' . strtr(strtoupper($settings->header), '-', '_')] ?? '';
        if (!hash_equals($proof, $given)) {
            throw new HttpRefusal(401, 'unauthenticated', "the header $settings->header does not have the secret",
                'let the API map send it: auth = {bearer = "file"}, or {header = "X-Api-Key", file = "file"}',
                headers: ['WWW-Authenticate' => 'Bearer']);
        }
    }

    /** Not so for a browser that was led here by somebody's name for this machine, nor through a proxy. */
    private static function isFromHere(): bool
    {
        $host = preg_replace('/:\d+$/D', '', $_SERVER['HTTP_HOST'] ?? 'localhost');
        return preg_match('/^(127\.[\d.]+|::1|::ffff:127\.[\d.]+)$/D', $_SERVER['REMOTE_ADDR'] ?? '')
            && ($host === 'localhost' || filter_var(trim($host, '[]'), FILTER_VALIDATE_IP))
            && !array_intersect_key($_SERVER, array_flip(self::OF_PROXIES));
    }

    /** @throws HttpRefusal */
    private static function request(): \stdClass
    {
        $method = $_SERVER['REQUEST_METHOD'] ?? '';
        if ($method !== 'POST') {
            throw new HttpRefusal(405, 'no_such_method', "calls are no $method", self::SHAPE, 'method', $method,
                ['Allow' => 'POST']);
        }
        // A page of somebody else's can send other types without asking, from a browser on this machine.
        $type = strtolower(trim(explode(';', $_SERVER['CONTENT_TYPE'] ?? '')[0]));
        if ($type !== 'application/json') {
            throw new HttpRefusal(415, 'unsupported_media', 'the body is no application/json', self::SHAPE,
                'Content-Type', $type);
        }
        try {
            $request = Json::decode(self::body());
        } catch (\JsonException $error) {
            throw new HttpRefusal(400, 'invalid_argument', 'the body is not JSON: ' . $error->getMessage(), self::SHAPE);
        }
        if (!$request instanceof \stdClass || !is_string($request->uri ?? null)) {
            throw new HttpRefusal(400, 'invalid_argument', 'the body has no uri that is a text', self::SHAPE, 'uri');
        }
        return $request;
    }

    /** @throws HttpRefusal */
    private static function body(): string
    {
        $most = min(self::LARGEST, self::bytes((string) ini_get('post_max_size')) ?: self::LARGEST);
        $length = (int) ($_SERVER['CONTENT_LENGTH'] ?? 0);
        // Of a body that is too large for PHP, there is nothing to read.
        $body = $length > $most ? '' : (string) file_get_contents('php://input', false, null, 0, $most + 1);
        if (max($length, strlen($body)) > $most) {
            throw new HttpRefusal(413, 'too_large', "the body is larger than $most bytes",
                'send less, or let post_max_size in the settings of PHP be up to ' . self::LARGEST,
                'Content-Length', $length);
        }
        return $body;
    }

    /** As PHP's settings have it: 8M are 8388608. */
    private static function bytes(string $size): int
    {
        return (int) $size * match (strtoupper(substr($size, -1))) {
            'K' => 1024,
            'M' => 1024 ** 2,
            'G' => 1024 ** 3,
            default => 1,
        };
    }

    /** @throws HttpRefusal */
    private static function className(Tasks $tasks, HttpSettings $settings, string $uri): string
    {
        $class = HttpRoute::className($uri, $settings->namespace, $settings->classes);
        if ($class === null || !is_file($tasks->file($class)) && !self::isElsewhere($class)) {
            $remedy = match (true) {
                $class !== null => "write the class $class into the folder of the tasks, or call another URI",
                $settings->namespace !== '' => "call a URI below $settings->namespace, in lower case, such as "
                    . "$settings->namespace.get_free_space for the class GetFreeSpace",
                default => 'call a URI in lower case, such as shop.get_free_space for the class Shop\GetFreeSpace',
            };
            throw new HttpRefusal(404, 'unknown_uri', 'no class is behind ' . Portable::shown($uri), $remedy,
                'uri', $uri);
        }
        return $class;
    }

    /** Whether Composer knows the class. PHP itself minds no capitals. */
    private static function isElsewhere(string $class): bool
    {
        return class_exists($class) && (new \ReflectionClass($class))->getName() === $class;
    }
}
