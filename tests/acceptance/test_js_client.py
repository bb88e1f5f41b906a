"""The JavaScript client on a running bus, in Node and in Chromium."""

import base64
import json
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from playwright.sync_api import Browser

from taskbus.worker.output import STREAMS, Output
from tests.support.access_keys import new_key
from tests.support.browser import running_browser
from tests.support.javascript import (
    CLIENT,
    MODULES,
    NODE,
    JavaScript,
    JavaScriptError,
    node,
    page,
)
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.quick import quick_folder
from tests.support.site import Site, alive, eventually, running_site

pytestmark = pytest.mark.acceptance

NOW, LATER, STEADY, NAP = (f"com.example.test.{it}" for it in ("now", "later", "steady", "nap"))
ENTRIES = f"""
[api."{NOW}"]
python = "tests.support.tasks:evaluate"
[api."{LATER}"]
python = "tests.support.tasks:evaluate"
mode = "background"
[api."{STEADY}"]
python = "tests.support.tasks:steady"
mode = "background"
[api."{NAP}"]
exec = ["sh", "-c", "echo $$ >>$0; exec sleep 1000", "FOLDER/napping"]
"""
DOCS = REPOSITORY / "docs/javascript.md"
# What the page on JavaScript shows, in its order.
BLOCK = re.compile(r"^```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
[USE, MAP, _, BACKEND, OTHER] = BLOCK.findall(DOCS.read_text())
ADD = "() => bus.call('com.example.node.add', [1, 1]).catch(() => 0)"
COUNTED = "() => lines.length"
LISTEN = """(job, nap) => {
    globalThis.lines = [];
    states.length = 0;
    const listen = async () => {
        for await (const line of bus.lines(job)) lines.push(line.text);
        return bus.result(job);
    };
    globalThis.listening = listen();
    globalThis.napping = bus.call(nap).catch(({uri}) => uri);
}"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with quick_folder() as folder:
        entries = ENTRIES.replace("FOLDER", str(folder)) + MAP
        with running_site(folder, entries=entries) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def hosts(site: Site, browser: Browser) -> Iterator[dict[str, JavaScript]]:
    """By name; each has connected as ``bus``."""
    bus = f"ws://127.0.0.1:{site.port}"
    login = {"url": f"{bus}/ws", "ticket": site.ticket("browser")}
    complaints: list[str] = []
    with ExitStack() as stack:
        found = {
            "node": stack.enter_context(node()),
            "chromium": stack.enter_context(page(browser, bus, complaints)),
        }
        for one in found.values():
            one.run(
                """async login => {
                    globalThis.states = [];
                    const onState = state => states.push(state);
                    globalThis.bus = await taskbus.connect({...login, onState});
                }""",
                login,
            )
        yield found
        for one in found.values():
            one.run("() => bus.close()")
    # Connections that cannot be made are shown by the browser itself.
    assert [one for one in complaints if "WebSocket connection to" not in one] == []


@pytest.fixture(params=["node", "chromium"])
def js(hosts: dict[str, JavaScript], request: pytest.FixtureRequest) -> JavaScript:
    found = hosts[request.param]
    # An earlier test may have started something anew.
    eventually(lambda: found.run("uri => bus.call(uri, ['1']).catch(() => 0)", NOW))
    return found


def test_a_call_and_its_values(js: JavaScript) -> None:
    def now(expression: str) -> Any:
        return js.run("(uri, it) => bus.call(uri, [it])", NOW, expression)

    assert now("[1, 2.5, 'snow \\u2603', None, {}, []]") == [1, 2.5, "snow \u2603", None, {}, []]
    assert now("None") is None
    assert now("TaskResult()") is None
    assert now("TaskResult(1, 2, three=3)") == {"args": [1, 2], "kwargs": {"three": 3}}
    assert js.run("uri => bus.call(uri, [], {expression: '6 * 7'})", NOW) == 42


def test_errors_say_what_to_do(js: JavaScript) -> None:
    with pytest.raises(JavaScriptError) as failed:
        js.run(
            "uri => bus.call(uri, [`fail('no luck', field='x', value=7, remedy='try', by=1)`])", NOW
        )
    told = failed.value.told
    assert told["name"] == "TaskbusError"
    assert told["uri"] == "taskbus.error.task_failed"
    assert (told["message"], told["args"]) == ("no luck", ["no luck"])
    assert (told["field"], told["value"], told["remedy"]) == ("x", 7, "try")
    assert told["kwargs"] == {"field": "x", "value": 7, "remedy": "try", "by": 1}


@pytest.mark.parametrize(
    ("source", "uri", "field"),
    [
        ("bus.call('com.example.nowhere')", "wamp.error.not_authorized", None),
        ("bus.call('no uri')", "taskbus.error.invalid_argument", "uri"),
        ("bus.call(7)", "taskbus.error.invalid_argument", "uri"),
        ("bus.call('com.x', [[1, NaN]])", "taskbus.error.invalid_argument", "args[0][1]"),
        ("bus.call('com.x', [1n])", "taskbus.error.invalid_argument", "args[0]"),
        ("bus.call('com.x', [], {a: new Map()})", "taskbus.error.invalid_argument", "kwargs.a"),
        ("bus.call('com.x', 'text')", "taskbus.error.invalid_argument", "args"),
        ("bus.call('com.x', [], [])", "taskbus.error.invalid_argument", "kwargs"),
        ("bus.call('com.x', ['x'.repeat(2 ** 20)])", "taskbus.error.invalid_argument", "args"),
        ("bus.call('com.x', [], {}, {timeout: 0})", "taskbus.error.invalid_argument", "timeout"),
        # The router would end the session.
        (r"bus.call('com.x', [['\0abc']])", "taskbus.error.invalid_argument", "args[0][0]"),
        (r"bus.call('com.x', [], {'\0abc': 1})", "taskbus.error.invalid_argument", "kwargs"),
        (r"bus.call('com.x', ['\ud800'])", "taskbus.error.invalid_argument", "args[0]"),
        ("(() => { const a = []; a.push(a); return bus.call('com.x', a); })()",
         "taskbus.error.invalid_argument", "args" + "[0]" * 101),
        ("bus.job('x')", "taskbus.error.invalid_argument", "job"),
        ("bus.job('0'.repeat(26))", "taskbus.error.job_not_found", "job"),
        ("bus.submit('com.example.nowhere')", "taskbus.error.unknown_uri", "uri"),
        ("bus.jobs({state: 'runing'})", "taskbus.error.invalid_argument", "state"),
        ("bus.watch('x').next()", "taskbus.error.invalid_argument", "job"),
        ("bus.lines('x', {stream: 'stdoot'}).next()", "taskbus.error.invalid_argument", "stream"),
        ("bus.journal({kind: 'x'}).next()", "taskbus.error.invalid_argument", "kind"),
        ("bus.live({limit: 0}).next()", "taskbus.error.invalid_argument", "limit"),
        ("taskbus.connect({url: 'ftp://x', ticket: 'x'})", "taskbus.error.invalid_argument", "url"),
        ("taskbus.connect({url: 'ws://x', key: 'x'})", "taskbus.error.invalid_argument", "key"),
        ("taskbus.connect({url: 'ws://x'})", "taskbus.error.invalid_argument", "ticket"),
        ("taskbus.connect({heartbeat: Infinity})", "taskbus.error.invalid_argument", "heartbeat"),
        ("taskbus.connect({heartbeat: 0})", "taskbus.error.invalid_argument", "heartbeat"),
        ("taskbus.connect({realm: 'a b'})", "taskbus.error.invalid_argument", "realm"),
        ("taskbus.connect({url: 'ws://x', ticket: 'x', authid: 7})",
         "taskbus.error.invalid_argument", "authid"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused(
    js: JavaScript, source: str, uri: str, field: str | None
) -> None:
    with pytest.raises(JavaScriptError) as refused:
        js.run(f"() => {source}")
    assert (refused.value.told["uri"], refused.value.told.get("field")) == (uri, field)
    assert js.run("() => bus.state") == "open"


def test_progress_and_an_end_before_the_end(js: JavaScript) -> None:
    told = js.run(
        """async uri => {
            const heard = [];
            const onProgress = one => heard.push(one);
            const value = await bus.call(uri, ["say('half', b'')"], {}, {onProgress});
            return {heard, value};
        }""",
        NOW,
    )
    assert told == {"heard": [{"fraction": 0.5, "message": "half"}], "value": None}


@pytest.mark.parametrize(
    ("options", "name"),
    [("{timeout: 0.5}", "TaskbusError"), ("{signal: stop.signal}", "AbortError")],
)
def test_a_call_that_is_given_up_is_cancelled(
    site: Site, js: JavaScript, options: str, name: str
) -> None:
    napping = site.folder / "napping"
    js.run("() => { globalThis.stop = new AbortController(); }")
    js.begin(f"uri => bus.call(uri, [], {{}}, {options})", NAP)
    process = int(eventually(lambda: napping.exists() and napping.read_text()))
    js.run("() => stop.abort()")
    with pytest.raises(JavaScriptError) as ended:
        js.end()
    assert ended.value.told["name"] == name
    if name == "TaskbusError":
        assert ended.value.told["uri"] == "taskbus.error.timeout"
    assert eventually(lambda: not alive({process}))
    napping.unlink()


def test_a_job_from_its_submission_to_its_result(js: JavaScript) -> None:
    told = js.run(
        """async uri => {
            const job = await bus.submit(uri, ["say('half', b'out\\\\n')"], {}, {tags: ["mine"]});
            const events = [], lines = [];
            for await (const event of bus.watch(job)) events.push(event);
            for await (const line of bus.lines(job)) lines.push(line);
            const since = [];
            for await (const event of bus.watch(job, {after: 2})) since.push(event);
            const [listed] = await bus.jobs({tag: "mine", uri, limit: 1});
            return {
                job, events, lines, since, listed,
                result: await bus.result(job), whole: await bus.job(job),
                brief: await bus.job(job, {most: 10}),
            };
        }""",
        LATER,
    )
    events = told["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["kind"] for event in events if event["kind"] != "progress"] == [
        "queued", "running", "output", "succeeded",
    ]  # fmt: skip
    assert told["since"] == events[2:]
    [line] = told["lines"]
    [output] = [event for event in events if event["kind"] == "output"]
    assert line == {"stream": "stdout", "text": "out", "seq": output["seq"], "at": output["at"]}
    assert told["result"] is None
    assert told["listed"]["id"] == told["whole"]["id"] == told["job"]
    assert told["whole"]["result"] == {"args": [None], "kwargs": {}}
    assert told["brief"]["args"] is None
    assert told["brief"]["left_out"]["args"] > 10


def test_a_job_that_fails_is_replayed(js: JavaScript) -> None:
    # By an error that would pass, were it the bus's own.
    source = "fail('alas', error_uri='wamp.error.canceled')"
    with pytest.raises(JavaScriptError) as failed:
        js.run(
            """async (uri, source) => {
                globalThis.job = await bus.submit(uri, [source]);
                return bus.result(job);
            }""",
            LATER,
            source,
        )
    assert failed.value.told["uri"] == "wamp.error.canceled"
    assert failed.value.told["message"] == "alas"
    assert js.run(
        "async () => bus.result(await bus.replay(job, {args: [\"'again'\"]}))"
    ) == "again"  # fmt: skip


def test_a_job_that_waits_is_cancelled_or_brought_forward(js: JavaScript) -> None:
    told = js.run(
        """async uri => {
            const job = await bus.submit(uri, ["1"], {}, {delay: 3600});
            const word = await bus.cancel(job);
            const kinds = [];
            for await (const {kind} of bus.watch(job)) kinds.push(kind);
            const other = await bus.submit(uri, ["1"], {}, {delay: 3600});
            return {word, kinds, result: await bus.result(await bus.retry(other))};
        }""",
        LATER,
    )
    assert told == {"word": "cancelled", "kinds": ["scheduled", "cancelled"], "result": 1}


def test_whoever_stops_listening_is_forgotten(site: Site, js: JavaScript) -> None:
    """By ``break``, by ``return`` while somebody waits for the next event, and by a signal."""
    told = js.run(
        """async uri => {
            const job = await bus.submit(uri, ["1"], {}, {delay: 3600});
            const first = [];
            for await (const event of bus.watch(job)) { first.push(event.kind); break; }
            const left = bus.watch(job, {after: 1}), stop = new AbortController();
            const waiting = left.next();
            await left.return();
            const stopped = bus.watch(job, {after: 1, signal: stop.signal}).next();
            const why = stopped.catch(({name}) => name);
            stop.abort();
            const journal = bus.journal(), live = bus.live();
            const next = journal.next();
            await live.next();
            await Promise.all([journal.return(), live.return()]);
            return {
                first, stopped: await why,
                over: (await Promise.all([waiting, next, left.next()])).map(({done}) => done),
            };
        }""",
        LATER,
    )
    assert told == {"first": ["scheduled"], "stopped": "AbortError", "over": [True] * 3}
    with site.joined() as operator:
        assert eventually(lambda: operator.call("taskbus.bus.status")["followers"] == 0)


def test_the_list_of_jobs_stays_true(js: JavaScript) -> None:
    told = js.run(
        """async uri => {
            const options = {uri, tag: "live", limit: 2};
            const submit = source => bus.submit(uri, [source], {}, {tags: ["live"]});
            const mine = [await submit("1")];
            for await (const list of bus.live(options)) {
                const states = list.map(({id, state}) => [mine.indexOf(id), state]);
                const done = list.every(({state}) => state === "succeeded");
                if (mine.length === 3 && done && list[0].id === mine[2]) return {list, states};
                if (done && mine.length < 3) mine.push(await submit("say('half', b'')"));
            }
        }""",
        LATER,
    )
    assert told["states"] == [[2, "succeeded"], [1, "succeeded"]]
    assert [one["progress"] for one in told["list"]] == [{"fraction": 0.5, "message": "half"}] * 2


def test_lists_and_journals_fit_into_a_message_to_a_browser(
    site: Site, hosts: dict[str, JavaScript]
) -> None:
    js = hosts["node"]
    long = {"uri": LATER, "args": [r"fail('\x01' * 8000)"], "tags": ["long"]}
    with site.joined() as operator:
        *_, last = operator.call("taskbus.job.submit_many", [long] * 25)
        eventually(lambda: len(operator.call("taskbus.job.list", tag="long", state="failed")) == 25)
    listed = js.run("() => bus.jobs({tag: 'long'})")
    assert [job["error"] for job in listed] == [
        {"error": "taskbus.error.task_failed", "message": "\x01" * 200}
    ] * 25
    assert js.run("job => bus.job(job)", last)["error"]["message"] == "\x01" * 8000

    job, kinds = js.run(
        """async uri => {
            const job = await bus.submit(uri, ["say('', b'x' * 2 ** 20)"]);
            await bus.result(job);
            const kinds = [];
            for (let page, after = 0; ; after = page.at(-1).seq) {
                page = await bus.call("taskbus.job.events", [job], {after});
                if (!page.length) return [job, kinds];
                kinds.push(...page.map(({kind}) => kind));
            }
        }""",
        LATER,
    )
    assert kinds.count("output") >= 16
    assert kinds[-1] == "succeeded"
    told = json.loads(site.taskbus("job", job, "--json").stdout)
    assert [event["kind"] for event in told["events"]] == kinds


def test_the_journal_of_chosen_jobs(js: JavaScript) -> None:
    told = js.run(
        """async uri => {
            const chosen = {uri, tag: "chosen", kind: ["running", "succeeded"]};
            const entries = [], journal = bus.journal(chosen);
            const first = journal.next();
            // It begins with what comes after it was asked for.
            await bus.call("taskbus.journal.read");
            for (const tag of ["chosen", "other"]) {
                await bus.result(await bus.submit(uri, ["1"], {}, {tags: [tag]}));
            }
            entries.push((await first).value, (await journal.next()).value);
            const later = bus.journal({...chosen, after: entries[0].position});
            return {entries, later: (await later.next()).value};
        }""",
        LATER,
    )
    assert [entry["kind"] for entry in told["entries"]] == ["running", "succeeded"]
    assert told["later"] == told["entries"][1]


def test_no_line_is_lost_or_doubled_whatever_is_started_anew(
    site: Site, hosts: dict[str, JavaScript], node_backend: "subprocess.Popen[str]"
) -> None:
    enough, napping = site.folder / "enough", site.folder / "napping"
    job = hosts["node"].run("(uri, file) => bus.submit(uri, [file])", STEADY, str(enough))
    for one in hosts.values():
        one.run(LISTEN, job, NAP)
    eventually(lambda: napping.exists() and len(napping.read_text().split()) == 2)
    await_news(hosts)
    site.supervisorctl("signal", "KILL", "router")
    for one in hosts.values():
        assert one.run("() => napping") == "taskbus.error.connection_lost"
        # Nor is a call kept for later.
        early = one.run("uri => bus.call(uri).catch(({remedy}) => remedy)", NAP)
        assert early == "await bus.ready(), then call"
    await_news(hosts)
    site.supervisorctl("restart", "control")
    await_news(hosts)
    site.supervisorctl("signal", "KILL", "control")
    await_news(hosts)
    site.supervisorctl("restart", "router")
    await_news(hosts)
    # Nobody waits for them any more.
    nappers = {int(pid) for pid in napping.read_text().split()}
    eventually(lambda: not alive(nappers))
    napping.unlink()
    enough.touch()
    for one in hosts.values():
        count, lines, states = one.run("async () => [await listening, lines, states]")
        assert lines == [f"line {number} \N{SNOWMAN}" for number in range(count)]
        assert states.count("open") == 2
    # The backend in Node has come back, too.
    assert eventually(partial(hosts["node"].run, ADD)) == 2


def await_news(hosts: dict[str, JavaScript]) -> None:
    """All hear again, and more than what was under way."""
    for one in hosts.values():
        eventually(partial(one.run, "more => lines.length > more", one.run(COUNTED) + 100))


def test_who_is_refused_is_told_so_and_does_not_try_again(site: Site, js: JavaScript) -> None:
    url = f"ws://127.0.0.1:{site.port}/ws"
    told = js.run(
        """async url => {
            const states = [], onState = (state, {error}) => states.push([state, error?.uri]);
            const refused = one => taskbus.connect({url, onState, ...one}).catch(error => error);
            const wrong = await refused({ticket: "wrong"});
            await refused({key: `tb_${"0".repeat(12)}_${"0".repeat(64)}`});
            return {states, uri: wrong.uri, message: wrong.message, remedy: wrong.remedy};
        }""",
        url,
    )
    denied = "wamp.error.not_authorized"
    assert told["states"] == [["refused", denied]] * 2
    assert (told["uri"], told["message"]) == (
        denied, "the ticket is wrong, or there is no such principal",
    )  # fmt: skip
    assert told["remedy"] == "connect with a ticket or key that is good"


def test_what_is_under_way_ends_when_the_client_is_closed(site: Site, js: JavaScript) -> None:
    told = js.run(
        """async (url, ticket) => {
            const bus = await taskbus.connect({url, ticket});
            const why = promise => promise.then(() => "done", ({uri}) => uri);
            const next = why(bus.journal().next());
            await bus.jobs();
            const call = why(bus.jobs());
            await bus.close();
            await bus.close();
            const late = [bus.jobs(), bus.ready(), bus.watch("x").next()];
            const later = await Promise.all(late.map(why));
            return {state: bus.state, ends: [await next, await call, ...later]};
        }""",
        f"ws://127.0.0.1:{site.port}/ws",
        site.ticket("browser"),
    )
    assert told == {"state": "closed", "ends": ["taskbus.error.closed"] * 5}


def test_connecting_can_be_given_up(hosts: dict[str, JavaScript]) -> None:
    told = hosts["node"].run(
        """async () => {
            const states = [], signal = AbortSignal.timeout(500);
            const onState = (state, {error, retryIn}) => {
                states.push([state, error.uri, retryIn > 0]);
            };
            const options = {url: "ws://127.0.0.1:1/ws", ticket: "x", signal, onState};
            return {why: await taskbus.connect(options).catch(({name}) => name), states};
        }"""
    )
    assert told["why"] == "TimeoutError"
    *tries, last = told["states"]
    assert tries[0] == ["connecting", "taskbus.error.connection_lost", True]
    assert last == ["closed", "taskbus.error.closed", False]


def test_a_key_may_do_what_its_scopes_say_until_it_is_revoked(site: Site, js: JavaScript) -> None:
    key = new_key(site, f"call:{NOW}", f"submit:{LATER}", f"read:{LATER}")
    url = f"ws://127.0.0.1:{site.port}/ws"
    told = js.run(
        """async (url, key, now, later, steady) => {
            globalThis.other = await taskbus.connect({url, key});
            const job = await other.submit(later, ["'done'"]);
            const why = promise => promise.then(() => "done", ({uri}) => uri);
            return {
                now: await other.call(now, ["6 * 7"]),
                later: await other.result(job),
                denied: await why(other.submit(steady, ["x"])),
                unmanaged: await why(other.cancel(job)),
                api: (await other.api()).map(({uri, may}) => [uri, may]),
            };
        }""",
        url, key.token, NOW, LATER, STEADY,
    )  # fmt: skip
    assert told == {
        "now": 42, "later": "done", "denied": "taskbus.error.forbidden",
        "unmanaged": "wamp.error.not_authorized",
        "api": [[NOW, ["call"]], [LATER, ["call", "submit"]]],
    }  # fmt: skip
    js.begin("async () => { for await (const entry of other.journal()); }")
    with site.joined() as operator:
        operator.call("taskbus.access.revoke", key.id)
    with pytest.raises(JavaScriptError) as revoked:
        js.end()
    assert revoked.value.told["uri"] == "wamp.error.not_authorized"
    assert js.run("() => other.state") == "refused"


def test_lines_are_what_was_written_however_it_is_cut(js: JavaScript) -> None:
    """Of text, halves of characters, and bytes that are no text."""
    draw = random.Random(7)
    pieces = [b"\n", b"line\n", "\N{SNOWMAN}\n".encode(), b"\xff", b"\0", b"\r\n", b"\xef\xbb\xbf"]
    cases = []
    for _ in range(200):
        data = {stream: b"".join(draw.choices(pieces, k=12)) for stream in STREAMS}
        output, events = Output(), []
        for stream in draw.sample(STREAMS * 12, 24):
            size = draw.randint(0, 4)
            output.add(stream, data[stream][:size])
            data[stream] = data[stream][size:]
            if draw.random() < 0.3:
                events += output.take(False)
        events += output.take(True)
        cases.append(events)
    found = js.run(
        """cases => cases.map(events => {
            const lines = new taskbus.Lines();
            const aside = {kind: "cancelling", data: {}};
            const all = events.flatMap(data => [{kind: "output", data}, aside]);
            all.push({kind: "succeeded"});
            return all.flatMap(event => lines.push(event)).map(({stream, text}) => [stream, text]);
        })""",
        cases,
    )
    for events, lines in zip(cases, found, strict=True):
        for stream in STREAMS:
            written = b"".join(written_by(event) for event in events if event["stream"] == stream)
            expected = written.decode(errors="replace").split("\n")
            heard = [text for of, text in lines if of == stream]
            assert heard == (expected if expected[-1] else expected[:-1])


def written_by(data: dict[str, Any]) -> bytes:
    """The bytes of an output event."""
    return base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()


def test_a_connection_that_is_dead_without_a_word_is_made_anew(
    site: Site, hosts: dict[str, JavaScript]
) -> None:
    """As after a sleep, or behind a new address: nobody closes it."""
    told = hosts["node"].run(
        """async (port, ticket) => {
            const net = await import("node:net");
            const pairs = [];
            const proxy = net.createServer(client => {
                const server = net.connect(port, "127.0.0.1");
                client.pipe(server).on("error", () => {});
                server.pipe(client).on("error", () => {});
                pairs.push([client, server]);
            });
            await new Promise(resolve => proxy.listen(0, "127.0.0.1", resolve));
            const url = `ws://127.0.0.1:${proxy.address().port}/ws`;
            const states = [], onState = (state, {error}) => states.push([state, error?.message]);
            const bus = await taskbus.connect({url, ticket, onState, heartbeat: 0.2});
            const [[client, server]] = pairs;
            client.unpipe(server);
            server.unpipe(client);
            const call = await bus.jobs().catch(({uri}) => uri);
            await bus.ready();
            const jobs = await bus.jobs();
            await bus.close();
            pairs.flat().forEach(one => one.destroy());
            proxy.close();
            return {states, call, isList: Array.isArray(jobs), pairs: pairs.length};
        }""",
        site.port,
        site.ticket("browser"),
    )
    assert [state for state, _ in told["states"]] == ["open", "lost", "open", "closed"]
    assert told["states"][1][1] == "the router does not answer any more"
    assert told["call"] == "taskbus.error.connection_lost"
    assert (told["isList"], told["pairs"]) == (True, 2)


def test_the_next_call_is_made_when_all_was_taken_that_the_last_one_brought(
    hosts: dict[str, JavaScript],
) -> None:
    """So that nothing piles up before a slow reader. Doubles are left out, and errors that pass are
    survived.
    """
    told = hosts["node"].run(
        """async follow => {
            const {followed} = await import(follow);
            const asked = [], taken = [];
            const call = async (uri, args, {after}, {onProgress}) => {
                asked.push(after);
                if (asked.length === 2) throw new taskbus.TaskbusError("taskbus.error.stopped", "");
                const news = [after, after + 1, after + 2, after + 3].map(seq => ({seq}));
                onProgress({args: [news]});
                return {args: [{ended: after === 6}]};
            };
            const events = followed({
                connection: {ready: async () => {}, call}, request: {}, after: 0,
                number: ({seq}) => seq, isOver: ({args: [{ended}]}) => ended,
                signal: new AbortController().signal,
            });
            for await (const {seq} of events) {
                await new Promise(resolve => setTimeout(resolve));
                taken.push([seq, asked.length]);
            }
            return {asked, taken};
        }""",
        (CLIENT / "follow.js").as_uri(),
    )
    assert told["asked"] == [0, 3, 3, 6]
    assert told["taken"] == [
        [1, 1], [2, 1], [3, 1], [4, 3], [5, 3], [6, 3], [7, 4], [8, 4], [9, 4],
    ]  # fmt: skip


def test_a_list_that_is_kept_for_days_takes_no_more_memory(hosts: dict[str, JavaScript]) -> None:
    """The busier the bus, the more often it is told anew."""
    kept = hosts["node"].run(
        """async live => {
            const {live: lists} = await import(live);
            const {setFlagsFromString} = await import("node:v8");
            const {runInNewContext} = await import("node:vm");
            setFlagsFromString("--expose-gc");
            const used = () => { runInNewContext("gc")(); return process.memoryUsage().heapUsed; };
            let at = 0;
            const entry = () => (
                {position: ++at, job: "x", kind: "progress", data: {fraction: 0, message: ""}}
            );
            const answers = {
                "taskbus.journal.read": () => ({position: 0}),
                "taskbus.job.list": () => [{id: "x", seq: 0, state: "running"}],
                "taskbus.journal.follow": async tell => {
                    for (let n = 0; n < 1000; n++) {
                        await new Promise(resolve => setImmediate(resolve));
                        tell({args: [[entry()]]});
                    }
                },
            };
            const call = async (uri, args, kwargs, {onProgress}) =>
                ({args: [await answers[uri](onProgress)]});
            const connection = {ready: async () => {}, call};
            let times = 0, before;
            for await (const list of lists(connection, {}, new AbortController().signal)) {
                if (++times === 1000) before = used();
                if (times === 6000) return used() - before;
            }
        }""",
        (CLIENT / "live.js").as_uri(),
    )
    assert kept < 500_000


def test_the_lock_names_no_registry() -> None:
    packages = json.loads((REPOSITORY / "package-lock.json").read_text())["packages"]
    assert {one.get("resolved") for one in packages.values()} == {None, "clients/js", "page"}
    assert all(one.get("link") or "integrity" in one for name, one in packages.items()
               if name.startswith("node_modules/"))  # fmt: skip


def test_the_types_are_those_of_the_client(hosts: dict[str, JavaScript]) -> None:
    checked = subprocess.run(
        [NODE, MODULES / "typescript/bin/tsc", "-p", CLIENT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.stdout == ""
    types = (CLIENT / "taskbus.d.ts").read_text()
    bus = types[types.index("interface Bus") : types.index("export function connect")]
    methods = hosts["node"].run("() => Object.getOwnPropertyNames(Object.getPrototypeOf(bus))")
    assert set(re.findall(r"^  (?:readonly )?(\w+)[(:]", bus, re.MULTILINE)) == {*methods} - {
        "constructor"
    }
    exported = hosts["node"].run("() => Object.keys(taskbus)")
    assert set(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE)) == set(
        exported
    )


# --- clients and backends of others ---------------------------------------------------------------


@contextmanager
def program(site: Site, source: str) -> Iterator["subprocess.Popen[str]"]:
    """What a page shows, in Node, for this site."""
    with tempfile.TemporaryDirectory(dir=site.folder) as folder:
        file = Path(folder) / "program.mjs"
        (file.parent / "node_modules").symlink_to(MODULES)
        file.write_text(source.replace(":9080/", f":{site.port}/"))
        command: list[str | Path] = [NODE, "--no-warnings", file]
        with subprocess.Popen(command, cwd=site.folder, stdout=subprocess.PIPE, text=True) as one:
            try:
                yield one
            finally:
                one.kill()


def logged_in(site: Site) -> str:
    """What the page leaves out."""
    return (
        f"const ticket = {json.dumps(site.ticket('browser'))}, {{signal}} = new AbortController();"
    )


def test_the_page_shows_how_to_use_it(site: Site) -> None:
    imports, _, rest = USE.partition("\n\n")
    with program(site, f"{imports}\n{logged_in(site)}\n{rest}") as used:
        told, _ = used.communicate(timeout=PATIENCE)
    assert used.returncode == 0
    assert "1 0 to go\n10\n" in told
    assert "{ fraction: 1, message: 'step 3' }" in told
    assert "\ntaskbus.error.task_failed " in told


def test_a_client_of_others_calls_and_subscribes(site: Site) -> None:
    with program(site, f"{logged_in(site)}\n{OTHER}\nconsole.log(id);") as client:
        assert client.stdout is not None
        lines = iter(client.stdout)
        # An event may come before the answer, or after it.
        told = [next(lines).strip(), next(lines).strip()]
    [job] = [one for one in told if one.isalnum()]
    [event] = [one for one in told if one != job]
    assert "type: 'add'" in event
    assert f"job: '{job}'" in event


@pytest.fixture(scope="module")
def node_backend(site: Site) -> Iterator["subprocess.Popen[str]"]:
    key = new_key(site, "register:com.example.node.*")
    file = site.folder / "node.key"
    file.touch(0o600)
    file.write_text(f"{key.token}\n")
    with program(site, BACKEND) as backend:
        assert backend.stdout is not None
        assert backend.stdout.readline() == "serving\n"
        yield backend


def test_a_backend_in_node_is_called_like_any_other(
    site: Site, js: JavaScript, node_backend: "subprocess.Popen[str]"
) -> None:
    told = js.run(
        """async () => {
            const add = "com.example.node.add", greet = "com.example.node.greet", heard = [];
            const onProgress = one => heard.push(one);
            const greeted = await bus.call(greet, ["you"], {greeting: "Hi"}, {onProgress});
            const parts = ({uri, field, message}) => ({uri, field, message});
            const why = promise => promise.catch(parts);
            return {
                heard, greeted, sum: await bus.call(add, [2, 3]),
                nobody: await why(bus.call(greet)),
                queued: await why(bus.submit(add, [2, 3])),
                api: await bus.api("com.example.node"),
            };
        }"""
    )
    assert told["heard"] == [{"fraction": 0.5, "message": "looking up"}]
    assert told["greeted"] == {"args": ["Hi, you"], "kwargs": {"asked_by": "browser"}}
    assert told["sum"] == 5
    assert told["nobody"] == {
        "uri": "com.example.error.nobody", "field": "name", "message": "nobody to greet",
    }  # fmt: skip
    assert told["queued"]["uri"] == "taskbus.error.invalid_argument"
    assert told["queued"]["field"] == "uri"
    assert "no worker can" in told["queued"]["message"]
    [entry] = told["api"]
    assert (entry["uri"], entry["kind"], entry["timeout"], entry["may"]) == (
        "com.example.node.*", "wamp", None, ["call"],
    )  # fmt: skip
    called = site.taskbus("call", "com.example.node.add", "20", "22")
    assert called.stdout == "42\n"
    assert "wamp" in site.taskbus("check").stdout


def test_another_process_takes_over(
    site: Site, hosts: dict[str, JavaScript], node_backend: "subprocess.Popen[str]"
) -> None:
    add = partial(hosts["node"].run, ADD)
    with program(site, BACKEND) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "serving\n"
        assert add() == 2
    assert eventually(add) == 2


@pytest.mark.parametrize(
    ("uri", "match", "force", "error"),
    [
        # Of what is there the router says so, before it asks who may.
        (NOW, "exact", None, "procedure_already_exists"),
        (NOW, "exact", True, "not_authorized"),
        ("com.example.test.absent", "exact", None, "not_authorized"),
        ("com.example.test.", "prefix", None, "not_authorized"),
        ("com.example.", "prefix", None, "not_authorized"),
        ("com.example..x", "wildcard", None, "not_authorized"),
        ("com.example.node.add", "exact", True, "not_authorized"),
        ("com.example.node.", "prefix", True, "not_authorized"),
        (
            "com.example.node.add",
            "exact",
            None,
            "procedure_exists_with_different_invocation_policy",
        ),
        ("taskbus.job.submit", "exact", True, "not_authorized"),
        ("taskbus.job.x", "exact", None, "not_authorized"),
        ("wamp.x", "exact", None, "invalid_uri"),
        ("com.example.node.other", "exact", None, None),
        ("com.example.node.below.", "prefix", None, None),
    ],
)
def test_a_key_serves_only_what_is_left_to_components(
    site: Site,
    node_backend: "subprocess.Popen[str]",
    uri: str, match: str, force: bool | None, error: str | None,
) -> None:  # fmt: skip
    with new_key(site, "*").joined("websocket") as session:
        if error is None:
            session.register(print, uri, match, force)
            return
        with pytest.raises(ApplicationError) as refused:
            session.register(print, uri, match, force)
        assert refused.value.error == f"wamp.error.{error}"


def test_who_has_no_scope_for_it_serves_nothing(site: Site) -> None:
    with new_key(site, "call:*", "register:com.example.node.x").joined("websocket") as session:
        with pytest.raises(ApplicationError) as refused:
            session.register(print, "com.example.node.other")
        assert refused.value.error == "wamp.error.not_authorized"
        session.register(print, "com.example.node.x")
