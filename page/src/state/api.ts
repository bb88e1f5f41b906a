// What the viewer may call, as the bus tells it.

import { effect, signal } from "@preact/signals";

import { ask, isAbort, link } from "../bus/session";
import { troubleOf, type Trouble } from "../bus/trouble";
import type { ApiEntry } from "../bus/types";

export const entries = signal<readonly ApiEntry[] | null>(null);
export const apiTrouble = signal<Trouble | null>(null);

/** Read it with every connection: between two of them the bus may have got another API map. */
export function start(): void {
  effect(() => {
    const state = link.value;
    if (state === "out") entries.value = null;
    if (state !== "live") return;
    const over = new AbortController();
    void load(over.signal);
    return () => over.abort();
  });
}

async function load(signal: AbortSignal): Promise<void> {
  try {
    const found = await ask<ApiEntry[]>("taskbus.api.list", [], {}, { signal, patient: true });
    entries.value = found.toSorted((one, other) => (one.uri < other.uri ? -1 : 1));
    apiTrouble.value = null;
  } catch (error) {
    if (!isAbort(error)) apiTrouble.value = troubleOf(error);
  }
}

export const isPattern = (uri: string): boolean => uri.endsWith(".*");

const covers = (pattern: string, uri: string): boolean =>
  isPattern(pattern) ? uri.startsWith(pattern.slice(0, -1)) : pattern === uri;

/** The entry that a URI belongs to: the longest pattern counts. */
export function entryOf(uri: string): ApiEntry | null {
  const found = (entries.value ?? []).filter((one) => covers(one.uri, uri));
  return found.reduce<ApiEntry | null>((best, one) => (best && best.uri.length >= one.uri.length ? best : one), null);
}

/** The pattern that somebody means who typed this to find jobs: a URI of the API map, or else all
 * that is below what was typed.
 */
export function patternOf(typed: string): string {
  const text = typed.trim();
  if (!text || isPattern(text) || entries.value?.some((one) => one.uri === text)) return text;
  return `${text.replace(/\.$/, "")}.*`;
}
