// Whatever went wrong, in the one form in which it is shown.

export interface Trouble {
  uri: string;
  message: string;
  field?: string;
  value?: unknown;
  remedy?: string;
  /** What else the bus told about it. */
  more?: Record<string, unknown>;
}

// The router's own errors say nothing of what to do.
const REMEDIES: Record<string, string> = {
  "wamp.error.not_authorized": "log in with a token that may do this: an access key needs a scope for it",
  "wamp.error.no_such_procedure": "look whether its backend runs: taskbus status",
};

// As the router says that an answer does not fit into a message.
const TOO_LARGE = "exceeding payload limit";

const NAMED = new Set(["field", "value", "remedy"]);

export function troubleOf(error: unknown): Trouble {
  if (!(error instanceof Error)) return { uri: "page.error", message: String(error) };
  const { uri, kwargs } = error as { uri?: unknown; kwargs?: unknown };
  if (typeof uri !== "string") return { uri: "page.error", message: error.message };
  if (error.message.includes(TOO_LARGE)) {
    const remedy = "queue it as a job, and print its result by 'taskbus job ID --wait'";
    return { uri, message: "the answer is too large for a browser's connection", remedy };
  }
  const about = typeof kwargs === "object" && kwargs !== null ? (kwargs as Record<string, unknown>) : {};
  return trouble(uri, error.message, about);
}

/** From an error URI, its message, and what is told about it. */
export function trouble(uri: string, message: string, about: Record<string, unknown>): Trouble {
  const { field, value, remedy = REMEDIES[uri] } = about;
  const more = Object.entries(about).filter(([name, one]) => !NAMED.has(name) && one !== null);
  return {
    uri,
    message,
    ...(typeof field === "string" ? { field } : {}),
    ...(value !== undefined ? { value } : {}),
    ...(typeof remedy === "string" ? { remedy } : {}),
    ...(more.length ? { more: Object.fromEntries(more) } : {}),
  };
}
