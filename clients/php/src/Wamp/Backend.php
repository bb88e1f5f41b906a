<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

use Taskbus\Answer;
use Taskbus\Json;
use Taskbus\TaskFailure;
use Taskbus\TaskResult;
use Taskbus\Tasks;

/** The PHP classes of one namespace on the bus: it joins again after every loss, until a signal. */
final class Backend
{
    public const NOT_LET_IN = 3;
    public const NOTHING_THERE = 4;

    /** What no further try makes better. */
    private const FINAL = ['wamp.error.not_authorized', 'wamp.error.authentication_denied'];
    private const LIST = 'taskbus.api.list';
    private const ENQUEUE = 'taskbus.php.enqueue';
    private const FIRST_PAUSE = 0.1;
    private const LONGEST_PAUSE = 1.0;
    private const PARTING_SECONDS = 5.0;

    private readonly Loop $loop;
    private readonly Tasks $tasks;
    private readonly Calls $calls;
    private readonly Presence $presence;
    private readonly Tally $tally;
    private ?Session $session = null;

    /** @var list<int> */
    private array $registrations = [];

    /** @var array<int, true> calls that intake has not answered yet, by request */
    private array $queueing = [];

    /** How often it was told to stop. */
    private int $stops = 0;
    private float $pause = self::FIRST_PAUSE;
    private bool $isServing = false;
    private string $problem = '';

    public function __construct(private readonly Options $options)
    {
        $this->loop = new Loop();
        $this->tasks = new Tasks($options->tasks);
        self::setErrorHandlerAside();
        $guard = new Guard();
        $guard->start();
        $this->tally = new Tally($this->loop, $options->tallyFile);
        $this->calls = new Calls($this->loop, $this->tasks, $guard, $options->calls, $this->tally);
        $this->presence = new Presence($options->readyFile);
    }

    /** @return int the exit status */
    public function run(): int
    {
        foreach ([SIGTERM, SIGINT] as $signal) {
            $this->loop->onSignal($signal, $this->stop(...));
        }
        while ($this->stops === 0) {
            try {
                $this->join();
                $this->serve();
            } catch (ConnectionLost $lost) {
                $this->warn($lost->getMessage());
            } catch (Refused $refused) {
                if (in_array($refused->uri, self::FINAL, true)) {
                    Log::error("the router does not let {$this->options->authid} in: {$refused->getMessage()};"
                        . " is {$this->options->secretFile} what the router has?");
                    return self::NOT_LET_IN;
                }
                $this->warn("cannot serve: {$refused->getMessage()}");
            } catch (TaskFailure $nothing) {
                Log::error($nothing->getMessage());
                return self::NOTHING_THERE;
            } finally {
                $this->leave();
            }
            $this->loop->until(fn (): bool => $this->stops > 0, $this->pause);
            $this->pause = min(1.5 * $this->pause, self::LONGEST_PAUSE);
        }
        $this->tally->save();
        return 0;
    }

    /** Once, however often it is tried again. */
    private function warn(string $problem): void
    {
        if ($this->stops === 0 && $problem !== $this->problem) {
            Log::warning("$problem; trying again until it works");
        }
        $this->problem = $problem;
    }

    private function join(): void
    {
        $options = $this->options;
        $this->session = Session::open(
            $this->loop, $options->router, $options->realm, $options->authid, $options->ticket());
        $this->calls->attach($this->session);
        $entries = Entry::ofPhp($this->session->call(self::LIST, kwargs: ['namespace' => $options->namespace])->value());
        if (!$entries) {
            throw new TaskFailure("the API map has no php entry below $options->namespace;"
                . " see 'taskbus check' for what it has");
        }
        $this->load($entries);
        foreach ($entries as $entry) {
            $this->registrations[] = $this->session->register($entry->uri, $entry->isBackground
                ? fn (Invocation $call) => $this->queue($entry, $call)
                : fn (Invocation $call) => $this->calls->run($entry, $call));
        }
    }

    private function serve(): void
    {
        $this->isServing = true;
        $this->presence->hold(count($this->registrations));
        [$this->pause, $this->problem] = [self::FIRST_PAUSE, ''];
        Log::info('serving ' . count($this->registrations) . ' URIs');
        $this->loop->until(fn (): bool => $this->stops > 0 || !$this->session->isOpen());
        $this->presence->drop();
        if ($this->session->isOpen()) {
            $this->retire();
        } else {
            throw new ConnectionLost($this->session->why());
        }
    }

    /** Takes no more calls, and waits until those in hand are answered. */
    private function retire(): void
    {
        Log::info("stopping; {$this->open()} calls in hand");
        foreach ($this->registrations as $registration) {
            $this->session->unregister($registration);
        }
        $this->loop->until(fn (): bool => $this->open() === 0 || $this->stops > 1 || !$this->session->isOpen());
        if ($this->open() > 0) {
            Log::warning("not waiting for {$this->open()} calls");
            $stopped = Answer::failure('this call was still running when its program had to stop',
                'taskbus.error.stopped');
            $this->calls->endAll($stopped);
            foreach (array_keys($this->queueing) as $request) {
                $this->session->answer($request, $stopped);
            }
        }
        $this->session->leave();
        $this->loop->until(fn (): bool => $this->calls->count() === 0, self::PARTING_SECONDS);
    }

    private function open(): int
    {
        return $this->calls->count() + count($this->queueing);
    }

    private function leave(): void
    {
        $this->isServing = false;
        $this->presence->drop();
        $this->calls->detach();
        $this->session?->end('it is over');
        [$this->session, $this->registrations, $this->queueing] = [null, [], []];
    }

    private function stop(): void
    {
        $this->stops++;
        if ($this->session !== null && !$this->isServing) {
            // It waits for the router, and has no calls.
            $this->session->end('told to stop');
        }
    }

    /** Hands the call on to intake: its answer is the job's id. */
    private function queue(Entry $entry, Invocation $call): void
    {
        $session = $this->session;
        $this->queueing[$call->request] = true;
        $uri = Json::encode($call->procedure($entry));
        $session->beginCall(
            self::ENQUEUE,
            "[$uri,$call->known,$call->arguments],{}",
            function (Reply $reply) use ($session, $call): void {
                unset($this->queueing[$call->request]);
                $session->answer($call->request, self::accepted($reply));
            },
        );
    }

    private static function accepted(Reply $reply): Answer
    {
        return match ($reply->error) {
            null => Answer::result(new TaskResult(...$reply->args)),
            'wamp.error.no_such_procedure', 'wamp.error.canceled' => Answer::failure(
                'the bus has nobody who takes jobs now', 'taskbus.error.store_unavailable',
                ['remedy' => 'try again; with an idempotency_key it runs once even where it was taken']),
            default => Answer::failure((string) $reply->value(), $reply->error, $reply->kwargs),
        };
    }

    /**
     * What the site's code does with warnings, from when it is loaded, is for its calls: they take it
     * back. Here a signal is a warning, and nothing else.
     */
    private static function setErrorHandlerAside(): void
    {
        set_error_handler(null);
    }

    /** @param list<Entry> $entries */
    private function load(array $entries): void
    {
        restore_error_handler();
        foreach ($entries as $entry) {
            if (!$entry->isBackground && !class_exists($entry->class, false)) {
                $problem = Probe::problem($this->tasks, $entry->class);
                if ($problem === null) {
                    $this->tasks->load($entry->class);
                } else {
                    Log::error("$entry->uri: $problem");
                }
            }
        }
        self::setErrorHandlerAside();
    }
}
