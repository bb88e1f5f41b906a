// One way to the router, made anew whenever it breaks, until somebody closes it or is refused.

import {closed, notConnected, TaskbusError} from "./errors.js";
import {Link} from "./link.js";
import {Backoff, pause, withSignal} from "./pause.js";
import {checkPayload, checkSeconds, checkUri} from "./values.js";

// After so long it was no mere blink between two failures.
const STEADY_SECONDS = 5;
// Whatever else the router says may be otherwise in a moment: a realm that is not up yet, a key that
// nobody can look at while control starts.
const FINAL = new Set(["wamp.error.not_authorized", "wamp.error.no_auth_method"]);

export class Connection {
  #login;
  #onState;
  #state = "connecting";
  #link = null;
  #over = new AbortController();
  #ready = deferred();

  /** `login`: url, realm, authid, ticket, heartbeat (seconds). `onState(state, {error, retryIn})`. */
  constructor(login, onState) {
    this.#login = login;
    this.#onState = onState;
    this.#keep();
    globalThis.addEventListener?.("online", () => this.#link?.probe(), {signal: this.#over.signal});
  }

  get state() {
    return this.#state;
  }

  /** Fulfilled while there is a connection; rejects where there will be none any more. */
  ready(signal) {
    return withSignal(this.#ready.promise, signal);
  }

  /** Resolves to `{args, kwargs}`; rejects with a TaskbusError, or the signal's reason. */
  async call(uri, args, kwargs, options = {}) {
    options.signal?.throwIfAborted();
    checkUri(uri);
    checkPayload(args, kwargs);
    if (options.timeout !== undefined) checkSeconds("timeout", options.timeout);
    this.#over.signal.throwIfAborted();
    if (!this.#link) throw notConnected();
    return this.#link.call(uri, args, kwargs, options);
  }

  async close() {
    const link = this.#link;
    if (!this.#over.signal.aborted) this.#end("closed", closed());
    await link?.leave();
  }

  async #keep() {
    const backoff = new Backoff();
    while (!this.#over.signal.aborted) {
      const began = Date.now();
      const error = await this.#once();
      if (this.#over.signal.aborted) return;
      if (FINAL.has(error.uri)) return this.#end("refused", refusal(error));
      if (Date.now() - began > STEADY_SECONDS * 1000) backoff.reset();
      const retryIn = backoff.next();
      this.#become(this.#state === "connecting" ? "connecting" : "lost", {error, retryIn});
      await pause(retryIn, this.#over.signal, true);
    }
  }

  /** From joining to the end; resolves to why it is over. */
  async #once() {
    const link = new Link(this.#login);
    try {
      await link.join(this.#over.signal);
    } catch (error) {
      return error;
    }
    if (this.#over.signal.aborted) {
      link.leave();
      return closed();
    }
    this.#link = link;
    this.#become("open", {});
    const why = await link.ended;
    this.#link = null;
    return why;
  }

  #become(state, detail) {
    if (this.#state === "open") this.#ready = deferred();
    this.#state = state;
    if (state === "open") this.#ready.resolve();
    // What it throws is not for us to hear.
    if (this.#onState) queueMicrotask(() => this.#onState(state, detail));
  }

  #end(state, error) {
    this.#over.abort(error);
    this.#become(state, {error});
    this.#ready.reject(error);
  }
}

function deferred() {
  const made = Promise.withResolvers();
  made.promise.catch(() => {});
  return made;
}

const refusal = ({uri, message, kwargs}) =>
  new TaskbusError(uri, message, {remedy: "connect with a ticket or key that is good", ...kwargs});
