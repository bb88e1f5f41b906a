<?php

declare(strict_types=1);

namespace Taskbus\Tests;

use Taskbus\Json;
use Taskbus\Tasks;
use Taskbus\Wamp\Connection;
use Taskbus\Wamp\ConnectionLost;
use Taskbus\Wamp\Entry;
use Taskbus\Wamp\Frames;
use Taskbus\Wamp\Guard;
use Taskbus\Wamp\Invocation;
use Taskbus\Wamp\Loop;
use Taskbus\Wamp\Options;
use Taskbus\Wamp\Presence;
use Taskbus\Wamp\Probe;
use Taskbus\Wamp\Tally;
use Taskbus\Wamp\Trace;

test('frames are found however their bytes come', function (): void {
    $sent = [[Frames::MESSAGE, '[1]'], [Frames::PING, ''], [Frames::MESSAGE, str_repeat('x', 70000)]];
    $bytes = implode('', array_map(fn (array $one) => Frames::frame($one[1], $one[0]), $sent));
    same("\x00\x00\x00\x03[1]\x01\x00\x00\x00\x00\x01\x11\x70x", substr($bytes, 0, 16));
    foreach ([1, 3, 4, 5, 1000, 100000] as $size) {
        [$frames, $found] = [new Frames(), []];
        foreach (str_split($bytes, $size) as $part) {
            array_push($found, ...$frames->feed($part));
        }
        same($sent, $found);
    }
});

test('of an invocation only the head is read', function (): void {
    $tails = [
        '' => '[]', ',[]' => '[[]]', ',["a,]}"],{"b":{}}' => '[["a,]}"],{"b":{}}]',
        // What PHP could not read at all.
        ',[NaN,{"\u0000":"\ud800"}]' => '[[NaN,{"\u0000":"\ud800"}]]',
    ];
    foreach ($tails as $tail => $arguments) {
        $details = '{"caller":7,"x":{"y":["}\"",{}]},"procedure":"com.x.y"}';
        $call = Invocation::read("[68,12,34,$details$tail]");
        same([12, 34, 'com.x.y', $details, $arguments],
            [$call->request, $call->registration, $call->details->procedure, $call->known, $call->arguments]);
    }
    $spaced = Invocation::read(' [ 68 , 1 , 2 , { } , [ 3 ] ]');
    same(' [ 3 ] ]', substr($spaced->arguments, 1));
    same([[3]], Json::decode($spaced->arguments));
    foreach (['[50,1,{},[68]]', '[68,1]', '', '[68,"1",2,{}]'] as $other) {
        same(null, Invocation::read($other));
    }
});

test('who calls is told as Python tells it', function (): void {
    $call = Invocation::read('[68,1,2,{"caller":7,"caller_authid":null,"caller_authrole":"key","timeout":1}]');
    same('{"caller":7,"caller_authrole":"key"}', Json::encode($call->caller()));
    $entry = new Entry('com.x', 'Task', false, 1.0);
    same('com.x', $call->procedure($entry));
});

test('lines of the log have the time of the machine', function (): void {
    $autoload = var_export(dirname(__DIR__) . '/autoload.php', true);
    $line = escapeshellarg("require $autoload; Taskbus\\Wamp\\Log::info('x');");
    foreach (['Asia/Tokyo' => 'Asia/Tokyo', ':America/Lima' => 'America/Lima', 'NO5SUCH' => 'UTC'] as $told => $zone) {
        $said = (string) shell_exec("TZ=$told php -r $line 2>&1");
        $time = new \DateTimeImmutable(substr($said, 0, 19), new \DateTimeZone($zone));
        same([' INFO php: x', true], [substr(rtrim($said), 23), abs($time->getTimestamp() - time()) < 1800]);
    }
});

test('a trace goes on with a step of its own', function (): void {
    $id = '0af7651916cd43dd8448eb211c80319c';
    $step = Trace::step("00-$id-b7ad6b7169203331-01;a=b,c=d");
    same(1, preg_match("/^00-$id-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/D", $step->traceparent));
    same('a=b,c=d', $step->tracestate);
    same(false, isset(Trace::step("00-$id-b7ad6b7169203331-01")->tracestate));
    same(1, preg_match('/^00-/', Trace::step("cc-$id-b7ad6b7169203331-01-later")->traceparent));
    $none = [null, '', 5, 'mine', "ff-$id-b7ad6b7169203331-01", "00-$id-0000000000000000-01",
        '00-' . str_repeat('0', 32) . '-b7ad6b7169203331-01', "00-$id-b7ad6b7169203331-01-more", "00-$id-x-01"];
    foreach ($none as $text) {
        same(null, Trace::step($text));
    }
});

test('only entries of PHP are served', function (): void {
    $listed = Json::decode('[{"uri":"com.x.a","kind":"python","mode":"foreground","timeout":1},'
        . '{"uri":"com.x.b","kind":"php","mode":"background","timeout":2.5,"class":"A\\\\B"}]');
    [$entry] = Entry::ofPhp($listed);
    same(['com.x.b', 'A\B', true, 2.5], [$entry->uri, $entry->class, $entry->isBackground, $entry->timeout]);
    same([], Entry::ofPhp(null));
});

test('the loop serves streams and timers', function (): void {
    $loop = new Loop();
    [$a, $b] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    $heard = [];
    $cancelled = $loop->after(0.0, function () use (&$heard): void {
        $heard[] = 'cancelled';
    });
    $loop->cancel($cancelled);
    $loop->after(0.001, function () use (&$heard, $a): void {
        $heard[] = 'timer';
        fwrite($a, 'x');
    });
    $loop->onReadable($b, function () use (&$heard, $b): void {
        $heard[] = fread($b, 10);
    });
    $isHeard = function () use (&$heard): bool {
        return count($heard) === 2;
    };
    same(true, $loop->until($isHeard, 10.0));
    same(['timer', 'x'], $heard);
    $loop->onReadable($b, null);
    same(false, $loop->until(fn () => false, 0.0));
});

test('nothing is blocked where a signal is answered', function (): void {
    $loop = new Loop();
    $blocked = null;
    $loop->onSignal(SIGUSR1, function () use (&$blocked): void {
        pcntl_sigprocmask(SIG_UNBLOCK, [SIGUSR2], $blocked);
    });
    posix_kill(posix_getpid(), SIGUSR1);
    $loop->until(function () use (&$blocked): bool {
        return $blocked !== null;
    }, 10.0);
    pcntl_signal(SIGUSR1, SIG_DFL);
    same([], $blocked);
});

test('an option that is wrong is named with its value and the remedy', function (): void {
    $project = folder(['workers/php/.keep' => '', 'secret' => "hush\n", 'empty' => '']);
    chmod("$project/secret", 0600);
    chmod("$project/empty", 0600);
    $read = fn (string ...$words) => Options::read(array_values($words), $project);
    $options = $read('com.x', '--calls', '3', '--secret-file', "$project/secret");
    same(['com.x', 3, "unix:$project/var/run/router.sock", 'hush'],
        [$options->namespace, $options->calls, $options->router, $options->ticket()]);
    $wrong = [
        'NAMESPACE: this is none: ' => ['Com X'],
        'name one namespace' => ['com.x', 'com.y'],
        '--call: there is no such option' => ['com.x', '--call', '3'],
        '--calls: its value is missing' => ['com.x', '--calls'],
        "--calls: this is none: '0'" => ['com.x', '--calls', '0'],
        "--calls: this is none: '1000'" => ['com.x', '--calls', '1000'],
        "--router: this is none: 'unix:socket'" => ['com.x', '--router', 'unix:socket'],
        "--router: this is none: 'tcp://host'" => ['com.x', '--router', 'tcp://host'],
        '--tasks: there is no folder /nowhere' => ['com.x', '--tasks', '/nowhere'],
    ];
    foreach ($wrong as $start => $words) {
        $message = thrown(\InvalidArgumentException::class, fn () => $read(...$words))->getMessage();
        same($start, substr($message, 0, strlen($start)));
    }
    chmod("$project/secret", 0644);
    foreach (['secret' => 'others may use', 'empty' => 'is empty', 'none' => 'cannot read'] as $file => $problem) {
        $options = $read('com.x', '--secret-file', "$project/$file");
        $message = thrown(\InvalidArgumentException::class, $options->ticket(...))->getMessage();
        same(true, str_contains($message, $problem));
    }
});

test('what is no router is said to be none', function (): void {
    $folder = folder(['.keep' => '']);
    $answers = ["HTTP/1.1 400 \r\n" => 'is no WAMP router', "\x7F\x10\x00\x00" => 'refuses JSON'];
    foreach ($answers as $answer => $problem) {
        $socket = "$folder/socket" . strlen($answer);
        $server = stream_socket_server("unix://$socket");
        $pid = pcntl_fork();
        if ($pid === 0) {
            fwrite(stream_socket_accept($server), $answer);
            posix_kill(posix_getpid(), SIGKILL);
        }
        $lost = thrown(ConnectionLost::class, fn () => Connection::open(new Loop(), "unix:$socket"));
        same(true, str_contains($lost->getMessage(), $problem));
        pcntl_waitpid($pid, $status);
    }
    thrown(ConnectionLost::class, fn () => Connection::open(new Loop(), "unix:$folder/nobody"));
});

test('a class that ends the process which loads it is found out', function (): void {
    $tasks = new Tasks(folder([
        'Leaves.php' => '<?php exit(0);',
        'Dies.php' => '<?php posix_kill(posix_getpid(), SIGKILL);',
        'Fatal.php' => '<?php ini_set("display_errors", "0"); ini_set("log_errors", "0"); '
            . 'class Fatal implements Taskbus\TaskInterface { function run(int $x): mixed { return 1; } }',
        'Fine.php' => '<?php class Fine implements Taskbus\TaskInterface {'
            . 'function run(Taskbus\TaskInput $task): mixed { return 1; } }',
    ]));
    same(null, Probe::problem($tasks, 'Fine'));
    same(false, class_exists('Fine', false));
    same('cannot load the class Leaves: the task called exit()', Probe::problem($tasks, 'Leaves'));
    same('cannot load the class Dies: the process that tried it was killed, or takes too long', Probe::problem($tasks, 'Dies'));
    same(true, str_contains((string) Probe::problem($tasks, 'Fatal'), 'must be compatible with'));
});

test('a presence is seen while its process has it, not longer', function (): void {
    $file = folder(['.keep' => '']) . '/x.ready';
    $isHeld = function () use ($file): bool {
        $look = fopen($file, 'r');
        return !flock($look, LOCK_SH | LOCK_NB);
    };
    $presence = new Presence($file);
    $presence->hold(3);
    same([true, ['pid' => posix_getpid(), 'uris' => 3]],
        [$isHeld(), json_decode((string) file_get_contents($file), true)]);
    // Another one of the same name waits for its turn.
    (new Presence($file))->hold(4);
    same(3, json_decode((string) file_get_contents($file))->uris);
    $presence->drop();
    same(false, $isHeld());
});

test('counts are saved in time, and the next process goes on from them', function (): void {
    $file = folder(['.keep' => '']) . '/x.tally';
    $saved = fn (): mixed => json_decode((string) @file_get_contents($file), true)['counts'] ?? null;
    $loop = new Loop();
    $tally = new Tally($loop, $file);
    $tally->call('com.x.*', true, 0.005);
    $tally->call('com.x.*', false, 7200.0);
    same(null, $saved());
    $loop->until(fn (): bool => $saved() !== null);
    $none = array_fill(0, 16, 0);
    same([['call', 'com.x.*', ['succeeded' => 1, 'failed' => 1], [$none, 0],
        [[1, ...array_fill(0, 14, 0), 1], 7200.005]]], $saved());
    $next = new Tally($loop, $file);
    $next->call('com.x.*', true, 0.006);
    $next->save();
    same([1, 1, ...array_fill(0, 13, 0), 1], $saved()[0][4][0]);
    same(['succeeded' => 2, 'failed' => 1], $saved()[0][2]);
});

test('counts that cannot be read or saved are nobody\'s trouble', function (): void {
    $folder = folder(['x.tally' => '{"bounds":[1],"counts":7', 'y.tally' => '{"bounds":[1],"counts":7}']);
    foreach (['x', 'y'] as $name) {
        $tally = new Tally(new Loop(), "$folder/$name.tally");
        $tally->call('com.x.y', true, 1.0);
        $tally->save();
        same(1, count(json_decode((string) file_get_contents("$folder/$name.tally"), true)['counts']));
    }
    $tally = new Tally(new Loop(), "$folder/none/x.tally");
    $tally->call('com.x.y', true, 1.0);
    $tally->save();
    (new Tally(new Loop(), ''))->call('com.x.y', true, 1.0);
});

test('what a guard watches does not outlive its owner', function (): void {
    [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    $owner = pcntl_fork();
    if ($owner === 0) {
        fclose($ours);
        // Reading sockets ends after that time, usually.
        ini_set('default_socket_timeout', '0');
        $guard = new Guard();
        $guard->start();
        foreach ([false, true] as $isWatched) {
            // Each holds our pipe open until it ends.
            $pid = pcntl_fork();
            if ($pid === 0) {
                posix_setpgid(0, 0);
                \Taskbus\Wamp\Inherited::closeAll();
                $isWatched && sleep(1000);
                posix_kill(posix_getpid(), SIGKILL);
            }
            posix_setpgid($pid, $pid);
            $guard->watch($pid);
            $isWatched || $guard->forget($pid);
        }
        // A guard that takes silence for the end has time to show it.
        usleep(100_000);
        fwrite($theirs, pcntl_waitpid($pid, $status, WNOHANG) === 0 ? 'alive' : 'killed');
        posix_kill(posix_getpid(), SIGKILL);
    }
    fclose($theirs);
    pcntl_waitpid($owner, $status);
    same(['alive', true], [stream_get_contents($ours), feof($ours)]);
});
