// The list of jobs, which the client keeps up to date.

import { signal } from "@preact/signals";

import { isAbort, liveJobs } from "../bus/session";
import { troubleOf, type Trouble } from "../bus/trouble";
import type { LiveJob, State } from "../bus/types";
import { onFrame } from "./frame";

export interface Filter {
  states: readonly State[];
  /** A URI, or `com.x.*`; empty for all. */
  uri: string;
  tag: string;
}

const PAGE = 50;
export const MOST = 1000;

export class JobList {
  /** The newest first; a job that has not changed is the same object as before. Null: not known yet. */
  readonly rows = signal<readonly LiveJob[] | null>(null);
  readonly isLoading = signal(true);
  readonly hasMore = signal(false);
  readonly trouble = signal<Trouble | null>(null);

  readonly #filter: Filter;
  #limit = PAGE;
  #found: readonly LiveJob[] = [];
  #over = new AbortController();
  readonly #show = onFrame(() => {
    this.rows.value = unlessSame(this.rows.value ?? [], this.#found);
    this.hasMore.value = this.#found.length >= this.#limit && this.#limit < MOST;
  });

  constructor(filter: Filter) {
    this.#filter = filter;
  }

  /** Until `stop`. */
  start(): void {
    this.#over = new AbortController();
    this.#run(this.#over.signal).catch((error: unknown) => {
      if (isAbort(error)) return;
      this.trouble.value = troubleOf(error);
      this.isLoading.value = false;
    });
  }

  stop(): void {
    this.#over.abort();
  }

  more(): void {
    this.stop();
    this.#limit = Math.min(MOST, this.#limit + PAGE);
    this.isLoading.value = true;
    this.start();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { states, uri, tag } = this.#filter;
    const chosen = { ...(states.length && { state: [...states] }), ...(uri && { uri }), ...(tag && { tag }) };
    for await (const found of liveJobs({ ...chosen, limit: this.#limit, signal })) {
      const isWanted = (job: LiveJob) => !states.length || states.includes(job.state);
      this.#found = found.filter(isWanted);
      this.isLoading.value = false;
      this.#show();
    }
  }
}

/** The list, with jobs that are as they were taken from before. */
function unlessSame(before: readonly LiveJob[], found: readonly LiveJob[]): readonly LiveJob[] {
  const known = new Map(before.map((job) => [job.id, job]));
  return found.map((job) => {
    const old = known.get(job.id);
    return old && old.seq === job.seq && old.state === job.state && sameProgress(old, job) ? old : job;
  });
}

function sameProgress({ progress: one }: LiveJob, { progress: other }: LiveJob): boolean {
  return one?.fraction === other?.fraction && one?.message === other?.message;
}
