// The token that logs in: the ticket of the principal `browser`, or a whole access key. It is in the
// address only until the page has read it, and then kept by this tab, and by those that are opened
// while it is there, as a link in a tab of its own is.

import { ofTab } from "../kept";
import { trouble, type Trouble } from "./trouble";

const KEY = "taskbus.token";
const ACCESS_KEY = /^tb_([0-9a-hjkmnp-tv-z]{12})_[0-9a-f]{64}$/;
const CHANNEL = "taskbus.token";
const ANSWER_MS = 150;
type Word = { kind: "ask" | "out" } | { kind: "token"; token: string };
const IN_ADDRESS = /#token=([^&\s]*)/;

/** Takes a token out of the address, so that neither the history nor a reader's eyes keep it. */
export function takeFromAddress(): string | null {
  const found = IN_ADDRESS.exec(location.hash)?.[1];
  if (found === undefined) return null;
  history.replaceState(null, "", `${location.pathname}${location.search}`);
  return decoded(found);
}

/** The token of another tab of this browser that is logged in here; null where there is none. */
export function fromAnotherTab(): Promise<string | null> {
  const channel = new BroadcastChannel(CHANNEL);
  return new Promise((resolve) => {
    const end = (token: string | null) => {
      channel.close();
      resolve(token);
    };
    channel.onmessage = ({ data }: MessageEvent<Word>) => data.kind === "token" && end(data.token);
    channel.postMessage({ kind: "ask" } satisfies Word);
    setTimeout(end, ANSWER_MS, null);
  });
}

/** Tell other tabs that ask; `onOut` is called when somebody logs out in one of them. The function
 * that this returns tells them that somebody does here.
 */
export function shareWithTabs(onOut: () => void): () => void {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }: MessageEvent<Word>) => {
    const token = saved();
    if (data.kind === "out") onOut();
    else if (data.kind === "ask" && token !== null) channel.postMessage({ kind: "token", token } satisfies Word);
  };
  return () => channel.postMessage({ kind: "out" } satisfies Word);
}

export const saved = (): string | null => ofTab.getItem(KEY);
export const save = (token: string): void => ofTab.setItem(KEY, token);
export const forget = (): void => ofTab.removeItem(KEY);

/** What somebody typed or pasted: the token, or the whole address that has it. */
export function clean(typed: string): string {
  const text = typed.trim();
  const found = IN_ADDRESS.exec(text)?.[1];
  return found === undefined ? text : decoded(found);
}

/** Who comes with this token. */
export function authid(token: string): string {
  return ACCESS_KEY.exec(token)?.[1] ?? "browser";
}

/** What is wrong with it at first sight. */
export function wrongWith(token: string): Trouble | null {
  if (!token) return wrong("it is empty", "paste the token, or the whole address that has it");
  if (token.startsWith("tb_") && !ACCESS_KEY.test(token)) {
    return wrong("not a whole access key", "paste all of what 'taskbus key create' printed: tb_ID_SECRET");
  }
  if (/[\s\u0000-\u001f]/.test(token)) return wrong("it has spaces in it", "paste the token alone");
  return null;
}

function wrong(problem: string, remedy: string): Trouble {
  return trouble("page.error.token", `token: ${problem}`, { remedy });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
