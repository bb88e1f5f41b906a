import { useState } from "preact/hooks";

import { Icon } from "./icon";

/** Copies what `text` gives. A page without TLS that is not on this machine may not: no button then. */
export function Copy({ text, label }: { text: () => string; label: string }) {
  const [isDone, setDone] = useState(false);
  if (!("clipboard" in navigator)) return null;
  const copy = async () => {
    await navigator.clipboard.writeText(text());
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="icon-button" onClick={copy} aria-label={isDone ? "Copied" : label} title={label}>
      <Icon name={isDone ? "done" : "copy"} />
    </button>
  );
}
