// One job, as it goes on: its journal from the beginning, each event once, and what the store knows
// of it, read again whenever its state changes.

import { computed, signal } from "@preact/signals";

import { ask, followJob, isAbort, queued } from "../bus/session";
import { troubleOf, type Trouble } from "../bus/trouble";
import { isFinal, isState, MOST_BYTES, progressOf, type Job, type JobEvent, type Progress, type State } from "../bus/types";
import { onFrame } from "./frame";
import { Log } from "./log";

export class JobWatch {
  readonly id: string;
  readonly log = new Log();
  readonly job = signal<Job | null>(null);
  readonly trouble = signal<Trouble | null>(null);
  /** Events that are no output and no progress, in order. */
  readonly timeline = signal<readonly JobEvent[]>([]);
  readonly progress = signal<Progress | null>(null);
  readonly isCancelling = signal(false);
  /** As the newest of both reports has it. */
  readonly state = computed<State | null>(() => {
    const job = this.job.value;
    const last = this.timeline.value.findLast((event) => isState(event.kind));
    return last && (!job || last.seq > job.seq) ? (last.kind as State) : (job?.state ?? null);
  });

  #seq = 0;
  #timeline: JobEvent[] = [];
  #progress: Progress | null = null;
  #isReading = false;
  #isStale = false;
  readonly #over = new AbortController();
  readonly #show = onFrame(() => {
    this.timeline.value = this.#timeline;
    this.progress.value = this.#progress;
  });

  constructor(id: string) {
    this.id = id;
  }

  /** Until `stop`. */
  start(): void {
    this.#run().catch((error: unknown) => this.#fail(error));
  }

  stop(): void {
    this.#over.abort();
  }

  /** What the store knows now, without waiting for an event. */
  async refresh(): Promise<void> {
    this.#isStale = true;
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      while (this.#isStale) {
        this.#isStale = false;
        const options = { signal: this.#over.signal, patient: true };
        this.job.value = await ask<Job>("taskbus.job.get", [this.id], { most: MOST_BYTES }, options);
      }
    } finally {
      this.#isReading = false;
    }
  }

  async #run(): Promise<void> {
    const signal = this.#over.signal;
    await this.refresh();
    for (;;) {
      for await (const event of followJob(this.id, { after: this.#seq, signal })) this.#hear(event);
      await this.#replayed(signal);
    }
  }

  /** Returns once the job, which has ended, is queued again. */
  async #replayed(signal: AbortSignal): Promise<void> {
    const { position } = await ask<{ position: number }>("taskbus.journal.read", [], {}, { signal, patient: true });
    await this.refresh();
    const job = this.job.value;
    if (!job || job.seq > this.#seq) return;
    await queued(this.id, job.uri, position, signal);
  }

  #hear(event: JobEvent): void {
    this.#seq = event.seq;
    this.log.add(event);
    if (event.kind === "progress") this.#progress = progressOf(event.data);
    else if (event.kind !== "output") this.#mark(event);
    this.#show();
  }

  #mark(event: JobEvent): void {
    this.#timeline = [...this.#timeline, event];
    if (event.kind === "cancelling") this.isCancelling.value = true;
    if (!isState(event.kind)) return;
    if (event.kind === "running") this.#progress = null;
    if (isFinal(event.kind)) this.isCancelling.value = false;
    this.refresh().catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    if (!isAbort(error)) this.trouble.value = troubleOf(error);
  }
}
