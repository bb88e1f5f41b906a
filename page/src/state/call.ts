// A call as it is being written, sent, and answered.

import { signal } from "@preact/signals";
import type { Kwargs } from "taskbus";

import { ask, invoke, isAbort } from "../bus/session";
import { trouble, troubleOf, type Trouble } from "../bus/trouble";
import { progressOf, type Json, type Payload, type Progress } from "../bus/types";
import { JsonProblem, parseJson, prettyJson } from "../text/json";

export type Field = "args" | "kwargs" | "tags" | "delay" | "uri";

export interface Answer extends Payload {
  seconds: number;
}

export class CallForm {
  readonly uri = signal("");
  readonly args = signal("");
  readonly kwargs = signal("");
  readonly delay = signal("");
  readonly tags = signal("");

  readonly problems = signal<Partial<Record<Field, string>>>({});
  readonly isRunning = signal(false);
  readonly progress = signal<Progress | null>(null);
  readonly notes = signal<readonly string[]>([]);
  readonly answer = signal<Answer | null>(null);
  readonly trouble = signal<Trouble | null>(null);

  #over: AbortController | null = null;

  fill(uri: string, payload: Payload | null): void {
    this.stop();
    this.#over = null; // how that ends is no news of this call
    this.isRunning.value = false;
    this.uri.value = uri;
    this.args.value = payload?.args.length ? prettyJson(payload.args) : "";
    this.kwargs.value = payload && Object.keys(payload.kwargs).length ? prettyJson(payload.kwargs) : "";
    this.delay.value = this.tags.value = "";
    this.problems.value = {};
    this.#clear();
  }

  /** Call it, and wait for the result. */
  async call(): Promise<void> {
    const payload = this.#payload();
    if (!payload) return;
    const began = performance.now();
    await this.#attempt(async (signal) => {
      const hear = (said: Json) => this.#hear(said);
      const { args, kwargs } = await invoke(this.uri.value, payload.args, payload.kwargs, { signal, onProgress: hear });
      this.answer.value = { args, kwargs, seconds: (performance.now() - began) / 1000 };
    });
  }

  /** Queue it; the job's id, or null where that failed. */
  async submit(): Promise<string | null> {
    const payload = this.#payload();
    const options = this.#options();
    if (!payload || !options) return null;
    return this.#attempt((signal) =>
      ask<string>("taskbus.job.submit", [this.uri.value, payload.args, payload.kwargs], options, { signal }));
  }

  /** Give up waiting: the bus is told to end the call. */
  stop(): void {
    this.#over?.abort();
  }

  #clear(): void {
    this.progress.value = null;
    this.notes.value = [];
    this.answer.value = null;
    this.trouble.value = null;
  }

  async #attempt<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
    const over = (this.#over = new AbortController());
    this.#clear();
    this.isRunning.value = true;
    try {
      return await work(over.signal);
    } catch (error) {
      if (this.#over === over) {
        this.trouble.value = isAbort(error)
          ? trouble("wamp.error.canceled", "You cancelled the call.", {})
          : troubleOf(error);
      }
      return null;
    } finally {
      if (this.#over === over) this.isRunning.value = false;
    }
  }

  #hear(said: Json): void {
    const isProgress = typeof said === "object" && said !== null && !Array.isArray(said) && "fraction" in said;
    if (isProgress) this.progress.value = progressOf(said);
    else this.notes.value = [...this.notes.value, JSON.stringify(said)].slice(-100);
  }

  #payload(): Payload | null {
    const problems: Partial<Record<Field, string>> = {};
    const args = read("args", this.args.value, "[]", problems);
    const kwargs = read("kwargs", this.kwargs.value, "{}", problems);
    if (!problems.args && !Array.isArray(args)) problems.args = "not a list: write [ ] around the arguments";
    const isObject = typeof kwargs === "object" && kwargs !== null && !Array.isArray(kwargs);
    if (!problems.kwargs && !isObject) problems.kwargs = 'not an object: write {"name": value}';
    this.problems.value = problems;
    if (Object.keys(problems).length) return null;
    return { args: args as Json[], kwargs: kwargs as Record<string, Json> };
  }

  #options(): Kwargs | null {
    const tags = this.tags.value.split(/[\s,]+/).filter(Boolean);
    const delay = Number(this.delay.value);
    if (!(delay >= 0 && delay < Infinity)) {
      this.problems.value = { ...this.problems.value, delay: "not a number of seconds" };
      return null;
    }
    return { ...(tags.length && { tags }), ...(delay && { delay }) };
  }
}

function read(field: Field, text: string, empty: string, problems: Partial<Record<Field, string>>): Json {
  try {
    return parseJson(text.trim() ? text : empty, field);
  } catch (error) {
    if (!(error instanceof JsonProblem)) throw error;
    problems[field] = error.message;
    return null;
  }
}
