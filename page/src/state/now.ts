// The time, for everything that tells how long ago something was.

import { signal } from "@preact/signals";

export const now = signal(Date.now() / 1000);

export function start(): void {
  const tick = () => {
    if (!document.hidden) now.value = Date.now() / 1000;
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
}
