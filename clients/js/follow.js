// Following: everything after a number, each once and in order, whatever breaks meanwhile. The bus
// tells what is stored first and then what comes, so a new call after the last number that came is
// all that it takes to go on: nothing has to be subscribed to, nor merged.

import {passes} from "./errors.js";
import {Backoff, pause} from "./pause.js";

/**
 * Yields the items of all progressive results. `number(item)` counts them up; `isOver(answer)` says
 * whether the bus has nothing more to tell. What has come and was not taken yet is as much as one
 * call brings, 10,000 items or 4 MB: the next call is made when all of it was taken.
 */
export async function* followed({connection, uri, request, after, number, isOver, signal}) {
  const backoff = new Backoff();
  let at = after;
  while (true) {
    signal.throwIfAborted();
    const inbox = new Inbox();
    const hear = ({args: [items]}) => {
      const news = items.filter(item => number(item) > at);
      if (news.length) {
        at = number(news.at(-1));
        inbox.put(news);
      }
    };
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const answer = connection.ready(either).then(() =>
      connection.call(uri, [], {...request, after: at}, {signal: either, onProgress: hear}));
    answer.then(() => inbox.close(), () => inbox.close());
    try {
      for (let items; (items = await inbox.take()); ) {
        backoff.reset();
        for (const item of items) {
          signal.throwIfAborted();
          yield item;
        }
      }
      if (isOver(await answer)) return;
    } catch (error) {
      if (!passes(error)) throw error;
      await pause(backoff.next(), signal);
    } finally {
      stop.abort();
    }
  }
}

/** The answer of a call that changes nothing, made until it is answered: `{args, kwargs}`. */
export async function answered({connection, uri, request, signal, isFinal = async () => false}) {
  const backoff = new Backoff();
  while (true) {
    await connection.ready(signal);
    try {
      return await connection.call(uri, [], request, {signal});
    } catch (error) {
      if (!passes(error) || await isFinal(error)) throw error;
    }
    await pause(backoff.next(), signal);
    signal.throwIfAborted();
  }
}

class Inbox {
  #items = [];
  #isClosed = false;
  #wake = () => {};

  put(items) {
    this.#items.push(...items);
    this.#wake();
  }

  close() {
    this.#isClosed = true;
    this.#wake();
  }

  /** All that has come; waits for it, and is null where nothing more will. */
  async take() {
    if (!this.#items.length && !this.#isClosed) {
      await new Promise(resolve => { this.#wake = resolve; });
    }
    return this.#items.length ? this.#items.splice(0) : null;
  }
}

/**
 * An iterator whose `return` ends it also while somebody waits for its next item. `make(signal)`
 * makes the generator; its signal is aborted then, or with `signal`.
 */
export function stoppable(make, signal) {
  const stopped = new AbortController();
  const all = AbortSignal.any([stopped.signal, ...(signal ? [signal] : [])]);
  const generator = make(all);
  const done = value => ({done: true, value});
  return {
    next: () => generator.next().catch(error => {
      if (stopped.signal.aborted) return done();
      throw error;
    }),
    return: async value => {
      stopped.abort();
      await generator.return().catch(() => {});
      return done(value);
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
