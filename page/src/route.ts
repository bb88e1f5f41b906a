// Where the reader is: the part of the address behind "#", so that views can be linked to, and the
// browser's own Back works.

import { signal } from "@preact/signals";

export interface Route {
  /** "#/jobs/abc?state=failed" -> ["jobs", "abc"]. */
  path: string[];
  query: URLSearchParams;
  hash: string;
}

export const route = signal<Route>(read());

export function start(): void {
  const look = () => {
    route.value = read();
  };
  addEventListener("hashchange", look);
  look();
}

/** Go there; `replace`: Back leads to where one was before this place. */
export function go(hash: string, replace = false): void {
  if (replace) {
    history.replaceState(null, "", hash);
    route.value = read();
  } else {
    location.hash = hash;
  }
}

/** The address of a place; empty values are left out. */
export function to(path: string[], query: Record<string, string> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  return `#/${path.map(encodeURIComponent).join("/")}${search}`;
}

function read(): Route {
  const hash = location.hash;
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s, 2);
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(search), hash };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
