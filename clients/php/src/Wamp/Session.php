<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\Portable;

/** A WAMP session. What it asks for is waited for, or answered to a closure while the loop runs. */
final class Session
{
    private const HELLO = 1;
    private const WELCOME = 2;
    private const ABORT = 3;
    private const CHALLENGE = 4;
    private const AUTHENTICATE = 5;
    private const GOODBYE = 6;
    private const ERROR = 8;
    private const PUBLISH = 16;
    private const PUBLISHED = 17;
    private const CALL = 48;
    private const CANCEL = 49;
    private const RESULT = 50;
    private const REGISTER = 64;
    private const REGISTERED = 65;
    private const UNREGISTER = 66;
    private const UNREGISTERED = 67;
    private const INTERRUPT = 69;
    private const YIELD = 70;

    private const ROLES = [
        'callee' => ['features' => [
            'call_canceling' => true,
            'caller_identification' => true,
            'pattern_based_registration' => true,
            'progressive_call_results' => true,
            'shared_registration' => true,
        ]],
        'caller' => ['features' => ['call_canceling' => true, 'progressive_call_results' => true]],
        'publisher' => ['features' => ['publisher_exclusion' => true]],
    ];
    private const ANSWER_SECONDS = 30.0;
    private const UNSENDABLE = 'taskbus.error.unsendable';
    private const BAD_ARGUMENT = 'taskbus.error.invalid_argument';

    /** Hears the request of an invocation whose caller has gone, or cancels it. */
    public ?\Closure $onInterrupt = null;

    /** @var array<int, \Closure(Reply): void> by request */
    private array $pending = [];

    /** @var array<int, \Closure(Invocation): void> by registration */
    private array $procedures = [];

    /** @var array<int, \Closure(mixed): void> by request of a call */
    private array $progress = [];

    private int $request = 0;
    private bool $isJoined = false;
    private ?array $greeting = null;
    private string $why = '';

    private function __construct(
        private readonly Loop $loop,
        private readonly Connection $connection,
    ) {
        $connection->onMessage = $this->receive(...);
        $connection->onLost = $this->end(...);
    }

    /**
     * Joins by ticket, and waits for it.
     *
     * @param string $address unix:/path/of/socket or tcp://host:port
     * @throws ConnectionLost
     * @throws Refused where the router does not let it in
     */
    public static function open(
        Loop $loop,
        string $address,
        string $realm,
        string $authid,
        #[\SensitiveParameter] string $ticket,
    ): self {
        $self = new self($loop, Connection::open($loop, $address));
        try {
            $self->join($realm, $authid, $ticket);
        } catch (\Throwable $error) {
            $self->end('it was not let in');
            throw $error;
        }
        return $self;
    }

    public function isOpen(): bool
    {
        return $this->connection->isOpen();
    }

    /** Why it is over. */
    public function why(): string
    {
        return $this->why;
    }

    /** Whether the router has yet to take what was sent. */
    public function isBehind(): bool
    {
        return $this->connection->isBehind();
    }

    /** Calls it each time the router has taken all that was sent. */
    public function onDrained(\Closure $then): void
    {
        $this->connection->onDrained = $then;
    }

    /**
     * Calls a procedure, and waits for its answer, as long as it takes.
     *
     * @param list<mixed> $args
     * @param array<string, mixed> $kwargs
     * @param ?\Closure(mixed): void $progress hears the first value of each progressive result
     * @throws Refused where the answer is an error, and where this cannot be sent
     * @throws ConnectionLost
     */
    public function call(string $uri, array $args = [], array $kwargs = [], ?\Closure $progress = null): Reply
    {
        $answer = null;
        $this->beginCall(
            $uri,
            self::arguments($args, $kwargs),
            static function (Reply $reply) use (&$answer): void {
                $answer = $reply;
            },
            $progress,
        );
        return $this->await($answer, INF);
    }

    /**
     * Calls a procedure and does not wait.
     *
     * @param string $arguments JSON: a list, and after a comma an object of keyword arguments
     * @param \Closure(Reply): void $done
     * @param ?\Closure(mixed): void $progress
     * @return int the request, for cancel()
     * @throws Refused where the URI is none
     */
    public function beginCall(string $uri, string $arguments, \Closure $done, ?\Closure $progress = null): int
    {
        self::checkUri($uri);
        $request = ++$this->request;
        $this->pending[$request] = $done;
        $options = '{}';
        if ($progress !== null) {
            $this->progress[$request] = $progress;
            $options = '{"receive_progress":true}';
        }
        $uri = Json::encode($uri);
        if (!$this->connection->send('[' . self::CALL . ",$request,$options,$uri,$arguments]")) {
            $this->settle($request, self::tooLarge());
        }
        return $request;
    }

    /** The answer of this call is not wanted any more; it will be an error. */
    public function cancel(int $request): void
    {
        $this->send([self::CANCEL, $request, new \stdClass()]);
    }

    /**
     * Publishes an event, and waits until the router has taken it.
     *
     * @param list<mixed> $args
     * @param array<string, mixed> $kwargs
     * @throws Refused
     * @throws ConnectionLost
     */
    public function publish(string $topic, array $args = [], array $kwargs = []): void
    {
        self::checkUri($topic);
        self::arguments($args, $kwargs);
        $this->ask(self::PUBLISH, ['acknowledge' => true], $topic, $args, (object) $kwargs);
    }

    /**
     * Takes calls of a procedure, in turn with all others who share it.
     *
     * @param string $pattern a URI, or `com.x.*` for all below com.x
     * @param \Closure(Invocation): void $procedure has to answer(), then or later
     * @return int its number, for unregister()
     * @throws Refused
     * @throws ConnectionLost
     */
    public function register(string $pattern, \Closure $procedure): int
    {
        $isPrefix = str_ends_with($pattern, '.*');
        $options = ['invoke' => 'roundrobin', 'match' => $isPrefix ? 'prefix' : 'exact'];
        self::checkUri($isPrefix ? substr($pattern, 0, -2) : $pattern);
        $uri = $isPrefix ? substr($pattern, 0, -1) : $pattern;
        $answer = null;
        $request = ++$this->request;
        $this->pending[$request] = function (Reply $reply) use (&$answer, $procedure): void {
            // At once: the first call may have come together with this answer.
            $this->procedures[$reply->number] = $procedure;
            $answer = $reply;
        };
        $this->send([self::REGISTER, $request, $options, $uri]);
        return $this->await($answer)->number;
    }

    /**
     * Takes no more calls of it. When this returns, the last one that the router had for us has come.
     *
     * @throws Refused
     * @throws ConnectionLost
     */
    public function unregister(int $registration): void
    {
        $this->ask(self::UNREGISTER, $registration);
    }

    /** Answers a call; in place of what the router does not take because of its size goes an error. */
    public function answer(int $request, Answer $answer): void
    {
        $message = $answer->error === null
            ? '[' . self::YIELD . ",$request,{}"
            : '[' . self::ERROR . ',' . Invocation::TYPE . ",$request,{}," . Json::encode($answer->error);
        if (!$this->connection->send("$message,$answer->args,$answer->kwargs]")) {
            $this->answer($request, Answer::failure('the answer is larger than the router takes',
                self::UNSENDABLE, ['remedy' => 'let the task return less']));
        }
    }

    /** @param string $args JSON: a list with the progressive result */
    public function progress(int $request, string $args): void
    {
        $this->connection->send('[' . self::YIELD . ",$request,{\"progress\":true},$args]");
    }

    /** Says goodbye; the router's own comes after it has taken all that was sent before. */
    public function leave(): void
    {
        if ($this->isOpen()) {
            $this->send([self::GOODBYE, new \stdClass(), 'wamp.close.close_realm']);
            $this->loop->until(fn (): bool => !$this->isOpen(), self::ANSWER_SECONDS);
        }
        $this->end('it has left');
    }

    /** Ends it without a word. */
    public function end(string $why): void
    {
        if ($this->why !== '') {
            return;
        }
        $this->why = $why;
        $this->connection->close();
        foreach (array_keys($this->pending) as $request) {
            $this->settle($request, new Reply('taskbus.error.connection_lost', [$why]));
        }
    }

    private function join(string $realm, string $authid, #[\SensitiveParameter] string $ticket): void
    {
        $details = ['roles' => self::ROLES, 'authmethods' => ['ticket'], 'authid' => $authid];
        $answer = $this->greet([self::HELLO, $realm, $details]);
        if ($answer[0] === self::CHALLENGE) {
            $answer = $this->greet([self::AUTHENTICATE, $ticket, new \stdClass()]);
        }
        if ($answer[0] === self::ABORT) {
            throw new Refused((string) $answer[2], [$answer[1]->message ?? '']);
        }
        if ($answer[0] !== self::WELCOME) {
            throw new ConnectionLost('the router answers what is no WAMP');
        }
        $this->isJoined = true;
    }

    /** The router's next message. */
    private function greet(array $message): array
    {
        $this->greeting = null;
        $this->send($message);
        return $this->await($this->greeting);
    }

    private function ask(int $type, mixed ...$rest): Reply
    {
        $answer = null;
        $request = ++$this->request;
        $this->pending[$request] = static function (Reply $reply) use (&$answer): void {
            $answer = $reply;
        };
        if (!$this->send([$type, $request, ...$rest])) {
            $this->settle($request, self::tooLarge());
        }
        return $this->await($answer);
    }

    private static function tooLarge(): Reply
    {
        return new Reply(self::UNSENDABLE, ['the arguments are larger than the router takes; send less']);
    }

    /**
     * As JSON. For some values that are none to WAMP the router would end the session.
     *
     * @throws Refused
     */
    private static function arguments(array $args, array $kwargs): string
    {
        $unreadable = null;
        try {
            $json = Json::encode($args) . ',' . Json::encode((object) $kwargs);
        } catch (\JsonException $unreadable) {
            $json = '';
        }
        if (!array_is_list($args)) {
            throw self::refused('args', $args, 'not a list', 'send arguments by name as kwargs, others by array_values()');
        }
        $flaw = $unreadable !== null || Portable::isOdd($json)
            ? Portable::flaw('args', $args) ?? Portable::flaw('kwargs', $kwargs) : null;
        if ($flaw !== null || $unreadable !== null) {
            throw self::refused(...$flaw ?? ['args or kwargs', null, $unreadable->getMessage(), 'send JSON values']);
        }
        return $json;
    }

    /** @throws Refused */
    private static function checkUri(string $uri): void
    {
        if (!preg_match('/^[^\s.#]+(\.[^\s.#]+)*$/Du', $uri)) {
            throw self::refused('uri', $uri, 'not a URI', 'send one such as com.example.shop.order');
        }
    }

    private static function refused(string $field, mixed $value, string $problem, string $remedy): Refused
    {
        return new Refused(self::BAD_ARGUMENT, ["$field: $problem"],
            ['field' => $field, 'value' => Portable::shown($value), 'remedy' => $remedy]);
    }

    /** @template T of Reply|array
     *  @param ?T $answer where it will be
     *  @return T */
    private function await(Reply|array|null &$answer, float $seconds = self::ANSWER_SECONDS): Reply|array
    {
        $this->loop->until(function () use (&$answer): bool {
            return $answer !== null || !$this->isOpen();
        }, $seconds);
        if ($answer === null || $answer instanceof Reply && $answer->error !== null && !$this->isOpen()) {
            throw new ConnectionLost($this->why === '' ? 'the router does not answer' : $this->why);
        }
        if ($answer instanceof Reply && $answer->error !== null) {
            throw new Refused($answer->error, $answer->args, $answer->kwargs);
        }
        return $answer;
    }

    /** False where it is too long for the router. */
    private function send(array $message): bool
    {
        return $this->connection->send(Json::encode($message));
    }

    private function receive(string $text): void
    {
        $invocation = $this->isJoined ? Invocation::read($text) : null;
        if ($invocation !== null) {
            $procedure = $this->procedures[$invocation->registration] ?? null;
            $procedure && $procedure($invocation);
            return;
        }
        try {
            $message = Json::decode($text);
        } catch (\JsonException $error) {
            $this->refuse($text, $error->getMessage());
            return;
        }
        if (!is_array($message) || !is_int($message[0] ?? null)) {
            $this->end('the router sends what is no WAMP');
        } elseif (!$this->isJoined) {
            $this->greeting = $message;
        } else {
            $this->hear($message);
        }
    }

    /** An answer that PHP cannot read is one nevertheless. */
    private function refuse(string $text, string $why): void
    {
        $isAnswer = preg_match('/^\s*\[\s*(?:50|8\s*,\s*48)\s*,\s*(\d+)/', $text, $found);
        if ($isAnswer) {
            $this->settle((int) $found[1], new Reply('taskbus.error.invalid_result',
                ["the answer cannot be read: $why"]));
        }
    }

    private function hear(array $message): void
    {
        match ($message[0]) {
            self::RESULT => $this->result($message),
            self::ERROR => $this->settle($message[2],
                new Reply($message[4], $message[5] ?? [], get_object_vars($message[6] ?? new \stdClass()))),
            self::REGISTERED => $this->settle($message[1], new Reply(number: $message[2])),
            self::PUBLISHED, self::UNREGISTERED => $this->settle($message[1], new Reply()),
            self::INTERRUPT => $this->onInterrupt && ($this->onInterrupt)($message[1]),
            self::GOODBYE => $this->goodbye($message),
            // Of what it did not ask for, nothing concerns it.
            default => null,
        };
    }

    private function result(array $message): void
    {
        [, $request, $details] = $message;
        $args = $message[3] ?? [];
        if ($details->progress ?? false) {
            isset($this->progress[$request]) && ($this->progress[$request])($args[0] ?? null);
        } else {
            $this->settle($request, new Reply(null, $args, get_object_vars($message[4] ?? new \stdClass())));
        }
    }

    private function settle(int $request, Reply $reply): void
    {
        $done = $this->pending[$request] ?? null;
        unset($this->pending[$request], $this->progress[$request]);
        $done && $done($reply);
    }

    private function goodbye(array $message): void
    {
        if ($message[2] !== 'wamp.close.goodbye_and_out') {
            $this->send([self::GOODBYE, new \stdClass(), 'wamp.close.goodbye_and_out']);
        }
        $this->end("the router said goodbye: $message[2]");
    }
}
