// How programs reach this bus. Behind a reverse proxy only the reader's browser knows by which host,
// port and path that is, so the addresses are made from the page's own.

import type { ComponentChildren } from "preact";

import { Copy } from "../part/copy";
import { Heading } from "../part/heading";

function address(service: string): string {
  const found = new URL(service, document.baseURI);
  found.hash = found.search = "";
  if (service === "ws") found.protocol = found.protocol.replace("http", "ws");
  return found.href;
}

export function ConnectView() {
  return (
    <div class="connect">
      <Heading title="Connect" />
      <p class="lead">Any call on this bus can run now or later. Either way its caller can watch it, and
        nothing accepted is ever lost.</p>

      <Part title="From the command line">
        <Command text="taskbus call com.example.dante.get_free_space /" />
        <Command text="taskbus call com.example.dante.sleeper 5" />
        <p>The first prints a result, the second the id of a job; <code>taskbus logs ID -f</code> follows
          it.</p>
      </Part>

      <Part title="From any program, over HTTP">
        <p>With a key that <code>taskbus key create</code> prints: <a href="./docs">what there is, and a
          place to try it</a>.</p>
      </Part>

      <Part title="From cron or any shell, by signed calls">
        <Command service="call" text={`export TASKBUS_CALL_URL=${address("call")}`} />
        <Command text={`cron/call.sh com.example.dante.get_free_space '["/"]'`} />
        <p>Positional arguments are a JSON array, keyword arguments an object after it. The script signs
          the call with the key and secret in <code>var/secrets/bridge</code>; it needs <code>curl</code> and
          <code> openssl</code>. <code>cron/call.php</code> takes the same options and needs nothing but PHP.</p>
      </Part>

      <Part title="From a browser or any client of WAMP">
        <dl class="facts">
          <div><dt>URL</dt><dd><code data-service="ws">{address("ws")}</code></dd></div>
          <div><dt>Subprotocol</dt><dd><code>wamp.2.json</code> or <code>wamp.2.msgpack</code></dd></div>
          <div><dt>Realm</dt><dd><code>realm1</code></dd></div>
          <div><dt>Log in</dt><dd>by <code>ticket</code>, as <code>browser</code> with the line in
            <code> var/secrets/browser</code>, or as an access key's id with the whole key</dd></div>
        </dl>
        <p>A library asks for these and does the rest. By hand, the messages are:</p>
        <ol class="messages">
          <Message from="you">{'[1, "realm1", {"authmethods": ["ticket"], "authid": "browser", "roles": {"caller": {}, "subscriber": {}}}]'}</Message>
          <Message from="bus">{'[4, "ticket", {}]'}</Message>
          <Message from="you">{'[5, "the ticket", {}]'}</Message>
          <Message from="bus">{"[2, session, {…}]"}</Message>
          <Message from="you">{'[48, 1, {}, "com.example.dante.sleeper", [5]]'}</Message>
          <Message from="bus">{'[50, 1, {}, ["job"]]'}</Message>
        </ol>
        <p>A refusal is <code>{'[3, {"message": why}, reason]'}</code> instead of <code>[2, …]</code>.</p>
      </Part>

      <Part title="Watch a job">
        <dl class="facts">
          <div><dt>its result</dt><dd>call <code>taskbus.job.wait</code>; with the option
            <code>{' {"receive_progress": true}'}</code> you also hear what happens until then</dd></div>
          <div><dt>all that happens</dt><dd>call <code>taskbus.job.follow</code> with that option: every
            event after the number that you name, stored ones first</dd></div>
          <div><dt>all jobs</dt><dd>call <code>taskbus.job.list</code>, and <code>taskbus.journal.follow</code></dd></div>
        </dl>
      </Part>
    </div>
  );
}

function Part({ title, children }: { title: string; children: ComponentChildren }) {
  return <section class="part" aria-label={title}><h2>{title}</h2>{children}</section>;
}

function Command({ text, service }: { text: string; service?: string }) {
  return (
    <p class="command">
      <code data-service={service}>{text}</code>
      <Copy text={() => text} label="Copy the command" />
    </p>
  );
}

function Message({ from, children }: { from: string; children: string }) {
  return <li><b>{from}</b> <code>{children}</code></li>;
}
