// What can go wrong, as one class: the bus's own errors, those of tasks, and the client's.

/**
 * `uri` says which error it is; `field`, `value` and `remedy` are there where the bus told them.
 * `args` and `kwargs` are all that it told.
 */
export class TaskbusError extends Error {
  constructor(uri, message, about = {}, args = [message]) {
    super(message);
    this.name = "TaskbusError";
    this.uri = uri;
    this.field = about.field;
    this.value = about.value;
    this.remedy = about.remedy;
    this.args = args;
    this.kwargs = about;
  }
}

export const LOST = "taskbus.error.connection_lost";

/** A call that cannot be answered any more, as its connection is gone. */
export const lost = message =>
  new TaskbusError(LOST, message, {remedy: "look what has become of it, then call again"});

/** A call that cannot be sent now. */
export const notConnected = () =>
  new TaskbusError(LOST, "there is no connection to the bus", {remedy: "await bus.ready(), then call"});

export const closed = () =>
  new TaskbusError("taskbus.error.closed", "the client was closed", {remedy: "connect anew"});

/** A field of a request has a value that cannot be sent. */
export const invalid = (field, value, problem, remedy) =>
  new TaskbusError("taskbus.error.invalid_argument", `${field}: ${problem}`, {field, value, remedy});

/** The caller's own timeout; where that of the call is over first, the bus says the same. */
export const tooLate = (uri, seconds) =>
  new TaskbusError("taskbus.error.timeout", `no answer from ${uri} within ${seconds} s`, {
    field: "timeout", value: seconds, remedy: "wait longer, or submit it as a job",
  });

/** Errors that pass by themselves: a part of the bus is being started anew, or about to be. */
const PASSING = new Set([
  LOST,
  "taskbus.error.stopped",
  "taskbus.error.store_unavailable",
  "wamp.error.authorization_failed",
  "wamp.error.canceled",
  "wamp.error.no_such_procedure",
]);

export const passes = error => error instanceof TaskbusError && PASSING.has(error.uri);

/** Whatever Wampy rejects with, as an error of ours. */
export function told(error) {
  if (error instanceof TaskbusError) return error;
  if (error?.name === "WebsocketError") return lost("the bus cannot be reached, or the connection broke");
  if (!error?.errorUri) return lost(error?.message ?? "the connection broke");
  const args = error.argsList ?? [], kwargs = error.argsDict ?? {};
  const message = typeof args[0] === "string" ? args[0] : error.details?.message ?? error.errorUri;
  return new TaskbusError(error.errorUri, message, kwargs, args);
}
