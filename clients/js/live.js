// The newest jobs as a list that stays true: pages of it, and the journal from before the first one.

import {answered, followed} from "./follow.js";
import {pause} from "./pause.js";

const ENDS = new Set(["succeeded", "failed", "dead", "cancelled"]);
const STATES = new Set(["scheduled", "waiting", "queued", "running", "retrying", ...ENDS]);
const READ_SECONDS = 0.5;

export const isState = kind => STATES.has(kind);
export const isFinal = state => ENDS.has(state);

/**
 * Yields the list, the newest job first, at once and whenever it has changed; who takes it slowly
 * gets the newest one next. A job has its newest `progress` with it.
 */
export async function* live(connection, {uri, tag, state, limit}, signal) {
  const list = new List();
  const over = new AbortController();
  const all = AbortSignal.any([signal, over.signal]);
  const chosen = {uri, tag};
  const begin = await answered({connection, uri: "taskbus.journal.read", request: chosen, signal});
  const entries = followed({
    ...journal(connection, {...chosen, kind: [...STATES, "progress"]}),
    after: begin.args[0].position,
    signal: all,
  });
  const page = {connection, uri: "taskbus.job.list", request: {...chosen, state, limit}, signal: all};
  Promise.all([hear(list, entries), read(list, page)]).catch(error => list.fail(error));
  try {
    while (true) {
      await list.changed();
      yield list.take();
    }
  } finally {
    over.abort();
  }
}

/** What of all jobs' journal is followed, for `followed`. */
export const journal = (connection, request) => ({
  connection,
  uri: "taskbus.journal.follow",
  request,
  number: entry => entry.position,
  isOver: () => false,
});

async function hear(list, entries) {
  for await (const entry of entries) list.hear(entry);
}

/** A page at once, and another one where the journal tells what only a page can show. */
async function read(list, page) {
  while (true) {
    await list.stale();
    list.begin();
    const answer = await answered(page);
    list.put(answer.args[0]);
    // However many jobs come meanwhile.
    await pause(READ_SECONDS, page.signal);
  }
}

class List {
  #jobs = new Map();
  #changed = new Flag();
  #stale = new Flag(true);
  #failure = null;
  // What was heard of jobs that may be on the next page only: since a page was asked for, and before.
  #progress = new Map();
  #progressBefore = new Map();

  changed() {
    return this.#changed.raised();
  }

  async stale() {
    await this.#stale.raised();
    this.#stale.lower();
  }

  begin() {
    this.#progressBefore = this.#progress;
    this.#progress = new Map();
  }

  /** There is no more news, and this is why. */
  fail(error) {
    this.#failure = {error};
    this.#changed.raise();
  }

  take() {
    if (this.#failure) throw this.#failure.error;
    this.#changed.lower();
    return [...this.#jobs.values()];
  }

  put(page) {
    const newest = job => {
      const known = this.#jobs.get(job.id);
      if (known?.seq > job.seq) return known;
      const heard = [this.#progress, this.#progressBefore].find(one => one.has(job.id))?.get(job.id);
      return {...job, progress: heard ?? known?.progress ?? null};
    };
    this.#jobs = new Map(page.map(job => [job.id, newest(job)]));
    this.#changed.raise();
  }

  hear({job: id, kind, seq, data}) {
    const job = this.#jobs.get(id);
    const news = {};
    if (kind === "progress") this.#progress.set(id, news.progress = data);
    else this.#stale.raise();
    // Another attempt begins anew.
    if (kind === "running") this.#progress.set(id, news.progress = null);
    if (isState(kind) && job?.seq < seq) Object.assign(news, {state: kind, seq});
    if (job) {
      this.#jobs.set(id, {...job, ...news});
      this.#changed.raise();
    }
  }
}

class Flag {
  #wake = () => {};

  constructor(isRaised = false) {
    this.isRaised = isRaised;
  }

  raise() {
    this.isRaised = true;
    this.#wake();
  }

  lower() {
    this.isRaised = false;
  }

  raised() {
    return new Promise(resolve => {
      this.#wake = resolve;
      if (this.isRaised) resolve();
    });
  }
}
