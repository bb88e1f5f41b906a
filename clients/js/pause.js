// Waiting: for a time, which nobody else should wait for too, or for a promise, until a signal.

const FIRST_SECONDS = 0.25;
const LONGEST_SECONDS = 10;

/** How long to wait before the next try: twice as long each time, and never as long as others. */
export class Backoff {
  #tries = 0;

  next() {
    const most = Math.min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** this.#tries++);
    return most * (0.5 + Math.random() / 2);
  }

  reset() {
    this.#tries = 0;
  }
}

/** Resolves after so many seconds, or with the signal. `sooner`: or when there is a network again. */
export function pause(seconds, signal, sooner = false) {
  return new Promise(resolve => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      if (sooner) globalThis.removeEventListener?.("online", end);
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener("abort", end);
    if (sooner) globalThis.addEventListener?.("online", end);
    if (signal.aborted) end();
  });
}

/** As the promise, or rejected with the signal's reason. */
export function withSignal(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
