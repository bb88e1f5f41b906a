// One session on one WebSocket, from joining to its end. Wampy speaks WAMP. It could also connect
// again by itself, but would then send what had been waiting: a call might be done twice unnoticed.

import {Wampy} from "wampy";

import {closed, lost, tooLate, told} from "./errors.js";
import {withSignal} from "./pause.js";

const JOIN_SECONDS = 10;
const LEAVE_SECONDS = 1;
// Any answer will do, a refusal, too.
const PROBE = "wamp.session.count";

export class Link {
  #wampy;
  #socket;
  #heartbeat;
  #heard = 0;
  #timer;
  #ended = Promise.withResolvers();
  #calls = new Set();
  #why = null;

  /** `login` is that of Connection. */
  constructor({url, realm, authid, ticket, heartbeat}) {
    this.#heartbeat = heartbeat * 1000;
    const watch = socket => this.#watch(socket);
    this.#wampy = new Wampy(url, {
      realm, authid,
      authmethods: ["ticket"],
      onChallenge: () => ticket,
      autoReconnect: false,
      uriValidation: "loose",
      ws: function (to, protocols) {
        return watch(new WebSocket(to, protocols));
      },
    });
  }

  /** Resolves, to a TaskbusError that says why, when it is over. */
  get ended() {
    return this.#ended.promise;
  }

  /** Rejects with a TaskbusError where it comes to nothing, and is over then. */
  async join(signal) {
    const late = AbortSignal.timeout(JOIN_SECONDS * 1000);
    const over = this.ended.then(why => Promise.reject(why));
    over.catch(() => {});
    try {
      await withSignal(Promise.race([this.#wampy.connect(), over]), AbortSignal.any([signal, late]));
    } catch (error) {
      const why = late.aborted ? lost(`the router has not answered for ${JOIN_SECONDS} s`) : told(error);
      this.#end(why);
      throw why;
    }
    this.#beat();
  }

  /** As Connection's; all of it was checked. */
  call(uri, args, kwargs, {timeout, signal, onProgress} = {}) {
    if (this.#why) return Promise.reject(this.#why);
    const {promise, resolve, reject} = Promise.withResolvers();
    const settle = (how, value) => {
      if (!this.#calls.delete(fail)) return false;
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      how(value);
      return true;
    };
    const fail = error => settle(reject, error);
    const giveUp = error => fail(error) && this.#cancel(request);
    const abort = () => giveUp(signal.reason);
    const hear = progress => {
      try {
        if (this.#calls.has(fail)) onProgress(payload(progress));
      } catch (error) {
        giveUp(error);
      }
    };
    this.#calls.add(fail);
    signal?.addEventListener("abort", abort);
    const timer = timeout && setTimeout(() => giveUp(tooLate(uri, timeout)), timeout * 1000);
    const answer = this.#wampy.call(
      uri, {argsList: args, argsDict: kwargs}, onProgress && {progress_callback: hear},
    );
    const request = this.#wampy.getOpStatus().reqId;
    answer.then(result => settle(resolve, payload(result)), error => fail(told(error)));
    return promise;
  }

  /** Say goodbye; resolves when that was heard, or cannot be any more. */
  async leave() {
    this.#fail(closed());
    const late = setTimeout(() => this.#end(closed()), LEAVE_SECONDS * 1000);
    await Promise.race([this.#wampy.disconnect(), this.ended]);
    clearTimeout(late);
    this.#end(closed());
  }

  /** See at once whether anybody answers, as the network may be another one. */
  probe() {
    clearTimeout(this.#timer);
    const asked = Date.now();
    this.#timer = setTimeout(() => {
      if (this.#heard >= asked) this.#beat();
      else this.#end(lost("the router does not answer any more"));
    }, this.#heartbeat / 2);
    this.call(PROBE, [], {}).catch(() => {});
  }

  // A connection may be dead without a word, as after a sleep, and a browser would never tell.
  #beat() {
    const wait = this.#heard + this.#heartbeat - Date.now();
    this.#timer = setTimeout(() => {
      if (this.#heard + this.#heartbeat <= Date.now()) this.probe();
      else this.#beat();
    }, wait);
  }

  #watch(socket) {
    this.#socket = socket;
    socket.addEventListener("message", () => { this.#heard = Date.now(); });
    socket.addEventListener("close", ({code}) => this.#end(lost(`the router has gone (${code})`)));
    return socket;
  }

  #cancel(request) {
    try {
      this.#wampy.cancel(request, {mode: "killnowait"});
    } catch {
      // Nobody to tell: it is over.
    }
  }

  #fail(why) {
    for (const fail of [...this.#calls]) fail(why);
  }

  #end(why) {
    this.#why ??= why;
    clearTimeout(this.#timer);
    this.#fail(why);
    this.#socket?.close();
    this.#ended.resolve(why);
  }
}

const payload = ({argsList, argsDict}) => ({args: argsList ?? [], kwargs: argsDict ?? {}});
