// Who is logged in, whether there is a connection, and what goes over it. The client connects again
// by itself, as often as it takes; this says what is shown of that.

import { computed, signal } from "@preact/signals";
import {
  connect, passes, Result, TaskbusError,
  type Bus, type ConnectionDetail, type ConnectionState, type JobFilter, type Kwargs, type Sendable,
} from "taskbus";

import * as token from "./token";
import { troubleOf, type Trouble } from "./trouble";
import type { JobEvent, Json, LiveJob, Payload } from "./types";

/** out: nobody is logged in. joining: not let in yet. live, lost: let in, and connected or not. */
export type Link = "out" | "joining" | "live" | "lost";

export const link = signal<Link>("out");
export const who = signal("");
/** Why nobody is logged in, or why there is no connection. */
export const linkTrouble = signal<Trouble | null>(null);
export const isIn = computed(() => link.value === "live" || link.value === "lost");

const RETRY_MS = 500;

let bus: Bus | null = null;
let attempt = new AbortController();
let tellTabs = (): void => {};

/** Log in with what is in the address, what was saved, or what another tab has. */
export async function start(): Promise<void> {
  tellTabs = token.shareWithTabs(end);
  // Somebody may open the printed address where the page is open already.
  addEventListener("hashchange", () => {
    const fresh = token.takeFromAddress();
    if (fresh !== null) void login(fresh);
  });
  const given = token.takeFromAddress() ?? token.saved() ?? (await token.fromAnotherTab());
  // Meanwhile somebody may have typed one.
  if (given !== null && link.value === "out") void login(given);
}

/** Tries until it is let in, refused, or another attempt is made. */
export async function login(typed: string): Promise<void> {
  const ticket = token.clean(typed);
  leave();
  const wrong = token.wrongWith(ticket);
  if (wrong) {
    linkTrouble.value = wrong;
    return;
  }
  const mine = (attempt = new AbortController());
  who.value = token.authid(ticket);
  link.value = "joining";
  linkTrouble.value = null;
  try {
    const joined = await connect({
      authid: who.value,
      ticket,
      signal: mine.signal,
      onState: (state, detail) => {
        if (!mine.signal.aborted) heard(state, detail);
      },
    });
    if (mine.signal.aborted) return void joined.close();
    bus = joined;
    token.save(ticket);
    link.value = "live";
  } catch (error) {
    if (!mine.signal.aborted) refused(error);
  }
}

/** Log out, in all tabs. */
export function logout(): void {
  end();
  tellTabs();
}

function end(): void {
  leave();
  token.forget();
  linkTrouble.value = null;
}

function leave(): void {
  attempt.abort();
  void bus?.close();
  bus = null;
  link.value = "out";
}

function heard(state: ConnectionState, detail: ConnectionDetail): void {
  if (state === "refused") refused(detail.error);
  else if (state === "open" && bus) {
    link.value = "live";
    linkTrouble.value = null;
  } else if (state === "lost" || state === "connecting") {
    if (state === "lost") link.value = "lost";
    linkTrouble.value = detail.error ? troubleOf(detail.error) : null;
  }
}

function refused(error: unknown): void {
  leave();
  token.forget();
  linkTrouble.value = troubleOf(error);
}

interface AskOptions {
  signal?: AbortSignal;
  /** Wait for the connection, and ask again where an error passes by itself: for what only reads. */
  patient?: boolean;
}

/** What a procedure of the bus answers: its one value. */
export async function ask<T>(
  procedure: string, args: Sendable[], kwargs: Kwargs, { signal, patient = false }: AskOptions = {},
): Promise<T> {
  for (;;) {
    try {
      if (patient) await needed().ready({ signal });
      return (await (patient ? needed() : connected()).call(procedure, args, kwargs, { signal })) as T;
    } catch (error) {
      if (!patient || !passes(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    signal?.throwIfAborted();
  }
}

/** Call a URI of the API map; `onProgress` hears what it tells meanwhile. */
export async function invoke(
  uri: string, args: Json[], kwargs: Record<string, Json>,
  options: { signal: AbortSignal; onProgress: (said: Json) => void },
): Promise<Payload> {
  const value: unknown = await connected().call(uri, args, kwargs, options);
  return value instanceof Result ? value : { args: [value as Json], kwargs: {} };
}

/** A job's events after a number in its journal, each once, until it has ended. */
export function followJob(job: string, options: { after: number; signal: AbortSignal }): AsyncIterable<JobEvent> {
  return needed().watch(job, options) as AsyncIterable<JobEvent>;
}

/** Returns when a job of this URI is queued, or may have been, after a position in the journal. */
export async function queued(job: string, uri: string, after: number, signal: AbortSignal): Promise<void> {
  for await (const entry of needed().journal({ after, uri, kind: "queued", signal })) {
    if (entry.kind === "gap" || entry.job === job) return;
  }
}

/** The newest jobs of these, again whenever they have changed. */
export function liveJobs(filter: JobFilter & { signal: AbortSignal }): AsyncIterable<LiveJob[]> {
  return needed().live(filter);
}

export const isAbort = (error: unknown): boolean =>
  (error instanceof DOMException && error.name === "AbortError") ||
  (error instanceof TaskbusError && error.uri === "taskbus.error.closed");

function needed(): Bus {
  if (!bus) throw problem("page.error.logged_out", "nobody is logged in", "log in");
  return bus;
}

/** For what is done once: it cannot wait for the connection. */
function connected(): Bus {
  const bus = needed();
  if (bus.state === "open") return bus;
  throw problem("page.error.not_connected", "there is no connection to the bus", "wait until the page is live again");
}

const problem = (uri: string, message: string, remedy: string): Error =>
  Object.assign(new Error(message), { uri, kwargs: { remedy } });
