// What the bus tells: the client's types, and what a page needs to know about them.

import type { Job as WholeJob, JobState, Json, Progress } from "taskbus";

export type { ApiEntry, JobSummary, Json, LiveJob, Progress } from "taskbus";
export type State = JobState;
export type Payload = Pick<WholeJob, "args" | "kwargs">;
type Large = "args" | "kwargs" | "details" | "result";

/** A message to a browser has at most 1 MiB; what of a job is too large for it is left out. */
export const MOST_BYTES = 800_000;

/** A job, with how long each part is, in bytes, that was left out. */
export type Job = Omit<WholeJob, Large> & { [part in Large]: WholeJob[part] | null } & {
  left_out?: { [part in Large]?: number };
};

export { isFinal, isState } from "taskbus";

/** An error as a job keeps it. */
export interface JobError {
  error: string;
  message: string;
  about?: Record<string, Json>;
  traceback?: string;
}

/** A line of a job's journal; `kind` is a State, or progress, output, warning, cancelling. */
export interface JobEvent {
  job: string;
  seq: number;
  at: number;
  kind: string;
  data: Record<string, unknown>;
}

/** What a progress event says, whatever a task has put into it. */
export function progressOf(data: Record<string, unknown>): Progress {
  const { fraction, message } = data;
  return {
    fraction: typeof fraction === "number" ? Math.min(1, Math.max(0, fraction)) : 0,
    message: typeof message === "string" ? message : "",
  };
}
