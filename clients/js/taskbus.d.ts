/** What JSON can carry. Integers beyond 2^53 lose their last digits in JavaScript. */
export type Json = null | boolean | number | string | Json[] | {[name: string]: Json};

/** What is sent: as Json; in objects, what is undefined is left out. */
export type Sendable =
  | null | boolean | number | string
  | readonly Sendable[]
  | {readonly [name: string]: Sendable | undefined};

export type Args = readonly Sendable[];
export type Kwargs = {readonly [name: string]: Sendable | undefined};

/**
 * `connecting`: never yet connected; `open`; `lost`: it will be connected again; `refused`: the ticket
 * or key is not good (any more), for ever; `closed`: by `close()`.
 */
export type ConnectionState = "connecting" | "open" | "lost" | "refused" | "closed";

export interface ConnectionDetail {
  /** Why it is not open. */
  error?: TaskbusError;
  /** Seconds until the next try. */
  retryIn?: number;
}

export interface ConnectOptions {
  /** Of the router's WebSocket, as `ws://127.0.0.1:9080/ws`; in a page of the bus, `ws` beside it. */
  url?: string | URL | undefined;
  /** A principal's ticket. */
  ticket?: string | undefined;
  /** An access key, `tb_..._...`; instead of a ticket. */
  key?: string | undefined;
  /** The principal whose ticket it is; `browser` where nothing is said. */
  authid?: string | undefined;
  /** `realm1` where nothing is said. */
  realm?: string | undefined;
  /** Seconds of silence after which the router is asked whether it is still there; 20. */
  heartbeat?: number | undefined;
  onState?: ((state: ConnectionState, detail: ConnectionDetail) => void) | undefined;
  /** Gives up connecting. */
  signal?: AbortSignal | undefined;
}

export interface Signal {
  /** Gives up; what was to come rejects with its reason. */
  signal?: AbortSignal | undefined;
}

export interface CallOptions extends Signal {
  /** Seconds; then the call is cancelled, and rejects with `taskbus.error.timeout`. */
  timeout?: number | undefined;
  /** With each progressive result; a task's is `{fraction, message}`. */
  onProgress?: ((progress: any) => void) | undefined;
}

export type JobState =
  | "scheduled" | "waiting" | "queued" | "running" | "retrying"
  | "succeeded" | "failed" | "dead" | "cancelled";

/** Whether an event of this kind is a change of state, to the state of that name. */
export function isState(kind: string): kind is JobState;

/** Whether a job in this state has ended. */
export function isFinal(state: string): boolean;

/** What `taskbus.job.list` tells of a job. Times are seconds since the epoch. */
export interface JobSummary {
  id: string;
  uri: string;
  state: JobState;
  priority: number;
  timeout: number;
  retries: number;
  queue: string;
  created: number;
  due: number;
  started: number | null;
  finished: number | null;
  expires: number | null;
  attempt: number;
  /** Counts its journal. */
  seq: number;
  worker: string | null;
  lane: string | null;
  /** Of the message the first 200 characters. */
  error: {error: string; message: string} | null;
  tags: string[];
}

export interface Job extends JobSummary {
  error: {
    error: string;
    message: string;
    about: {[name: string]: Json};
    /** Of a task in Python or PHP. */
    traceback?: string;
  } | null;
  args: Json[];
  kwargs: {[name: string]: Json};
  details: {[name: string]: Json};
  result: {args: Json[]; kwargs: {[name: string]: Json}} | null;
  followed_by: {job: string; on: string}[];
  /** With `most`: the lengths of what is null in its place. */
  left_out?: {[name: string]: number};
}

export interface Progress {
  /** From 0 to 1. */
  fraction: number;
  message: string;
}

export interface LiveJob extends JobSummary {
  /** The newest since it is watched. */
  progress: Progress | null;
}

/** An event of a job's journal; `at` is in seconds since the epoch. */
export interface JobEvent {
  job: string;
  seq: number;
  at: number;
  kind: JobState | "progress" | "output" | "warning" | "cancelling";
  data: any;
}

/** What can be chosen of the journal of all jobs. */
export type JournalKind = JobState | "progress" | "output" | "warning";

/** An event of the journal of all jobs. */
export interface JournalEntry extends JobEvent {
  position: number;
  uri: string;
}

/** Of the entries from `data.after` to `position` some are not kept any more. */
export interface JournalGap {
  kind: "gap";
  position: number;
  data: {after: number};
}

export interface Line {
  stream: "stdout" | "stderr";
  /** Without its end. */
  text: string;
  /** Of the event that ended it. */
  seq: number;
  at: number;
  /** So many bytes from here on were not kept; `text` is empty then. */
  dropped?: number;
}

export interface JobFilter {
  state?: JobState | readonly JobState[] | undefined;
  /** A URI, or `com.example.shop.*`. */
  uri?: string | undefined;
  tag?: string | undefined;
  /** 100 where nothing is said. */
  limit?: number | undefined;
}

/** The options of `taskbus.job.submit`, as the bus names them. */
export interface SubmitOptions extends Signal {
  priority?: "low" | "normal" | "high" | "urgent" | number | undefined;
  delay?: number | undefined;
  run_at?: string | number | undefined;
  timeout?: number | undefined;
  retries?: number | undefined;
  queue?: string | undefined;
  tags?: readonly string[] | undefined;
  idempotency_key?: string | undefined;
  [option: string]: Sendable | AbortSignal | undefined;
}

/** An entry of the API map, as far as the caller may use it. */
export interface ApiEntry {
  uri: string;
  kind: string;
  mode: "foreground" | "background";
  /** Seconds; null where a component of its own runs the calls. */
  timeout: number | null;
  queue: string;
  may: ("call" | "submit")[];
}

/** `return` ends it, also while somebody waits for its next item. */
export interface Stream<T> extends AsyncIterableIterator<T> {
  return(value?: any): Promise<IteratorResult<T>>;
}

export interface Bus {
  readonly state: ConnectionState;

  /** Resolves while there is a connection; rejects where there will be none any more. */
  ready(options?: Signal): Promise<void>;

  /** Ends the session. What is under way rejects. */
  close(): Promise<void>;

  /**
   * The one positional result of a URI, null where there is none, a Result where there is more. Of
   * one that runs in the background it is the job's id.
   *
   * Rejects with `taskbus.error.connection_lost` where there is no connection, or where it broke
   * before the answer: then nobody knows whether the call was done, and it is never sent again.
   */
  call(uri: string, args?: Args, kwargs?: Kwargs, options?: CallOptions): Promise<any>;

  /** Queues a job; its id. */
  submit(uri: string, args?: Args, kwargs?: Kwargs, options?: SubmitOptions): Promise<string>;

  /**
   * The job with its arguments and its result. `most`: of what does not fit into so many bytes null is
   * told, and its length in `left_out`; without it, a job of more than 1 MiB cannot be sent to here.
   */
  job(id: string, options?: {most?: number | undefined} & Signal): Promise<Job>;

  /** The newest first; `before` is the last id of the page before. */
  jobs(options?: JobFilter & {before?: string | undefined} & Signal): Promise<JobSummary[]>;

  /** What the API map has for this caller. */
  api(namespace?: string, options?: Signal): Promise<ApiEntry[]>;

  cancel(id: string, options?: {seq?: number | undefined} & Signal): Promise<"cancelled" | "running">;
  retry(id: string, options?: {seq?: number | undefined} & Signal): Promise<string>;
  replay(
    id: string,
    options?: {
      args?: Args | undefined;
      kwargs?: Kwargs | undefined;
      seq?: number | undefined;
    } & Signal,
  ): Promise<string>;

  /** What the task returned, as of a call, or its error; waits for the job's end. */
  result(id: string, options?: Signal): Promise<any>;

  /** The job's events from `seq > after` on, each once and in order, until it has ended. */
  watch(id: string, options?: {after?: number | undefined} & Signal): Stream<JobEvent>;

  /** The job's output as lines, of one stream or both, until it has ended. */
  lines(id: string, options?: {stream?: "stdout" | "stderr" | undefined} & Signal): Stream<Line>;

  /** What happens to all jobs that are chosen, from now on, or after a position; without end. */
  journal(
    options?: {
      after?: number | undefined;
      uri?: string | undefined;
      tag?: string | undefined;
      kind?: JournalKind | readonly JournalKind[] | undefined;
    } & Signal,
  ): Stream<JournalEntry | JournalGap>;

  /** The newest jobs, at once and whenever anything has changed; without end. */
  live(options?: JobFilter & Signal): Stream<LiveJob[]>;
}

/**
 * Resolves once it is connected. Tries for ever while the bus cannot be reached, also later, when the
 * connection breaks; rejects where the bus refuses the ticket or key.
 */
export function connect(options: ConnectOptions): Promise<Bus>;

/** Makes lines of the events of one job, whoever watches it. */
export class Lines {
  /** The lines that this event completes. */
  push(event: JobEvent): Line[];
}

/** What a call returned, where it is not just one value. */
export class Result {
  constructor(args: Json[], kwargs: {[name: string]: Json});
  readonly args: Json[];
  readonly kwargs: {[name: string]: Json};
}

/** Whatever goes wrong: an error of the bus, of a task, or of the client. */
export class TaskbusError extends Error {
  constructor(uri: string, message: string, about?: {[name: string]: any}, args?: any[]);
  /** Which error it is, as `taskbus.error.invalid_argument`. */
  readonly uri: string;
  readonly field?: string;
  readonly value?: any;
  readonly remedy?: string;
  readonly args: readonly any[];
  readonly kwargs: {readonly [name: string]: any};
}

/** Whether it will pass by itself: a part of the bus is being started anew, or the connection. */
export function passes(error: unknown): boolean;
