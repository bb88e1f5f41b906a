// The bus for browsers and Node: log in, call, submit, and watch jobs, through every interruption.

import {Connection} from "./connection.js";
import {invalid, passes, TaskbusError} from "./errors.js";
import {answered, followed, stoppable} from "./follow.js";
import {checkStream, Lines} from "./lines.js";
import {isFinal, isState, journal, live} from "./live.js";
import {checkSeconds, checkUri} from "./values.js";

export {isFinal, isState, Lines, passes, TaskbusError};

/** What a call returned, where that is not just one value. */
export class Result {
  constructor(args, kwargs) {
    this.args = args;
    this.kwargs = kwargs;
  }
}

/**
 * Resolves, once it is connected, to a Bus; tries for ever while the bus cannot be reached, and
 * rejects with a TaskbusError where it refuses the ticket or key.
 */
export async function connect({
  url, ticket, key, authid, realm = "realm1", heartbeat = 20, onState, signal,
} = {}) {
  checkUri(realm, "realm");
  checkSeconds("heartbeat", heartbeat);
  const login = {url: address(url), ...credentials(ticket, key, authid), realm, heartbeat};
  signal?.throwIfAborted();
  const connection = new Connection(login, onState);
  try {
    await connection.ready(signal);
  } catch (error) {
    await connection.close();
    throw error;
  }
  return new Bus(connection);
}

class Bus {
  #connection;

  constructor(connection) {
    this.#connection = connection;
  }

  get state() {
    return this.#connection.state;
  }

  ready({signal} = {}) {
    return this.#connection.ready(signal);
  }

  close() {
    return this.#connection.close();
  }

  async call(uri, args = [], kwargs = {}, {timeout, signal, onProgress} = {}) {
    const hear = onProgress && (told => onProgress(value(told)));
    return value(await this.#connection.call(uri, args, kwargs, {timeout, signal, onProgress: hear}));
  }

  submit(uri, args = [], kwargs = {}, {signal, ...options} = {}) {
    return this.call("taskbus.job.submit", [], {uri, args, kwargs, ...options}, {signal});
  }

  job(job, {signal, ...options} = {}) {
    return this.call("taskbus.job.get", [], {job, ...options}, {signal});
  }

  jobs({signal, ...filter} = {}) {
    return this.call("taskbus.job.list", [], filter, {signal});
  }

  api(namespace, {signal} = {}) {
    return this.call("taskbus.api.list", [], {namespace}, {signal});
  }

  cancel(job, {signal, ...options} = {}) {
    return this.call("taskbus.job.cancel", [], {job, ...options}, {signal});
  }

  retry(job, {signal, ...options} = {}) {
    return this.call("taskbus.job.retry", [], {job, ...options}, {signal});
  }

  replay(job, {signal, ...options} = {}) {
    return this.call("taskbus.job.replay", [], {job, ...options}, {signal});
  }

  async result(job, {signal = new AbortController().signal} = {}) {
    const request = {connection: this.#connection, request: {job}, signal};
    // A task may have failed by an error that would pass if it were the bus's own.
    const isItsOwn = async ({uri}) => {
      const {args: [{state, error}]} = await answered({...request, uri: "taskbus.job.get"});
      return isFinal(state) && error?.error === uri;
    };
    return value(await answered({...request, uri: "taskbus.job.wait", isFinal: isItsOwn}));
  }

  watch(job, {after = 0, signal} = {}) {
    return stoppable(all => this.#events(job, after, all), signal);
  }

  lines(job, {stream, signal} = {}) {
    return stoppable(all => this.#lines(job, stream, all), signal);
  }

  journal({after, signal, ...filter} = {}) {
    return stoppable(all => this.#journal(after, filter, all), signal);
  }

  live({uri, tag, state, limit, signal} = {}) {
    return stoppable(all => live(this.#connection, {uri, tag, state, limit}, all), signal);
  }

  #events(job, after, signal) {
    return followed({
      connection: this.#connection,
      uri: "taskbus.job.follow",
      request: {job},
      after,
      number: event => event.seq,
      isOver: ({args: [answer]}) => answer.ended,
      signal,
    });
  }

  async *#lines(job, stream, signal) {
    checkStream(stream);
    const lines = new Lines();
    for await (const event of this.#events(job, 0, signal)) {
      for (const line of lines.push(event)) {
        if (!stream || line.stream === stream) yield line;
      }
    }
  }

  async *#journal(after, filter, signal) {
    // Where "now" is has to be known before anything can break.
    const position = {connection: this.#connection, uri: "taskbus.journal.read", request: filter, signal};
    const begin = after ?? (await answered(position)).args[0].position;
    yield* followed({...journal(this.#connection, filter), after: begin, signal});
  }
}

/** One positional result alone is the value; nothing at all is null. */
function value({args, kwargs}) {
  if (args.length > 1 || Object.keys(kwargs).length) return new Result(args, kwargs);
  return args.length ? args[0] : null;
}

function address(url) {
  const base = globalThis.document?.baseURI;
  const found = URL.parse(url ?? (base ? "ws" : ""), base);
  if (!found || !/^(ws|http)s?:$/.test(found.protocol)) {
    throw invalid("url", url, "not an address of the bus", 'send one as "ws://127.0.0.1:9080/ws"');
  }
  found.protocol = found.protocol.replace("http", "ws");
  found.hash = "";
  return found.href;
}

function credentials(ticket, key, authid = "browser") {
  const isText = one => typeof one === "string" && one !== "";
  if (!isText(authid)) throw invalid("authid", authid, "not a name", "send that of a principal");
  if (isText(key) && ticket === undefined) {
    const [, id, secret] = key.split("_");
    if (!id || !secret) throw invalid("key", "...", "not an access key", 'send all of "tb_..._..."');
    return {authid: id, ticket: key};
  }
  if (isText(ticket) && key === undefined) return {authid, ticket};
  throw invalid("ticket", "...", "needs either ticket or key, as a text", "send one of them");
}
