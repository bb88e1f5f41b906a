// What a job wrote, as lines. Chunks may end anywhere, between lines and within characters.

import { signal } from "@preact/signals";

import type { JobEvent } from "../bus/types";
import { onFrame } from "./frame";

export type Stream = "stdout" | "stderr" | "note";

export interface Line {
  at: number;
  stream: Stream;
  text: string;
}

/** So many lines are kept; of more, the first ones go. */
export const MOST_LINES = 100_000;
// They go in portions: to move all others takes time.
const PORTION = 10_000;

export class Log {
  /** The lines that are kept; the first one is number `dropped + 1`. */
  readonly lines: Line[] = [];
  dropped = 0;
  /** Another number after each change, once in a frame. */
  readonly version = signal(0);

  readonly #open = new Map<Stream, Line>();
  readonly #decoders = new Map<Stream, TextDecoder>();
  readonly #tell = onFrame(() => this.version.value++);

  get total(): number {
    return this.dropped + this.lines.length;
  }

  /** The line of this number, from 0; undefined where it is not kept. */
  at(number: number): Line | undefined {
    return this.lines[number - this.dropped];
  }

  /** The numbers from 0 of all lines with this in them, large or small letters. */
  matching(sought: string): number[] {
    const wanted = sought.toLowerCase();
    const found: number[] = [];
    this.lines.forEach((line, nth) => {
      if (line.text.toLowerCase().includes(wanted)) found.push(this.dropped + nth);
    });
    return found;
  }

  add(event: JobEvent): void {
    const { kind, data, at } = event;
    if (kind === "output") this.#output(at, data);
    else if (kind === "warning") this.#note(at, String(data["reason"] ?? data["message"] ?? JSON.stringify(data)));
    else if (kind === "running") this.#attempt(at, Number(data["attempt"] ?? 1));
    else return;
    this.#trim();
    this.#tell();
  }

  clear(): void {
    this.lines.length = 0;
    this.dropped = 0;
    this.#open.clear();
    this.#decoders.clear();
    this.#tell();
  }

  /** Everything that is kept, as it was written. */
  text(): string {
    return this.lines.map((line) => line.text).join("\n");
  }

  #output(at: number, data: Record<string, unknown>): void {
    const stream: Stream = data["stream"] === "stderr" ? "stderr" : "stdout";
    this.#write(at, stream, this.#decoded(stream, data));
    if (typeof data["dropped"] === "number") {
      this.#note(at, `${data["dropped"].toLocaleString()} bytes more on ${stream} were not kept`);
    }
  }

  #decoded(stream: Stream, data: Record<string, unknown>): string {
    let decoder = this.#decoders.get(stream);
    if (!decoder) this.#decoders.set(stream, (decoder = new TextDecoder("utf-8", { ignoreBOM: true })));
    if (typeof data["base64"] === "string") {
      const bytes = Uint8Array.from(atob(data["base64"]), (char) => char.charCodeAt(0));
      return decoder.decode(bytes, { stream: true });
    }
    return decoder.decode() + String(data["text"] ?? "");
  }

  #write(at: number, stream: Stream, text: string): void {
    if (!text) return;
    const parts = text.split("\n");
    const last = parts.pop()!;
    const open = this.#open.get(stream);
    parts.forEach((part, nth) => {
      if (nth === 0 && open) open.text += part;
      else this.lines.push({ at, stream, text: part });
    });
    if (parts.length) this.#open.delete(stream);
    if (!last) return;
    const rest = this.#open.get(stream);
    if (rest) rest.text += last;
    else {
      const line = { at, stream, text: last };
      this.lines.push(line);
      this.#open.set(stream, line);
    }
  }

  #attempt(at: number, attempt: number): void {
    this.#open.clear();
    this.#decoders.clear();
    if (this.total) this.#note(at, `attempt ${attempt}`);
  }

  #note(at: number, text: string): void {
    this.lines.push({ at, stream: "note", text });
  }

  #trim(): void {
    if (this.lines.length < MOST_LINES + PORTION) return;
    const gone = this.lines.splice(0, this.lines.length - MOST_LINES);
    this.dropped += gone.length;
  }
}
