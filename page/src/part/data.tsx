// A JSON value for reading. What is long begins folded; what is very long is not coloured, either.

import { useMemo, useState } from "preact/hooks";

import { prettyJson } from "../text/json";
import { visible } from "../text/visible";

const SHOWN = 4_000;
const COLOURED = 20_000;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\b\d[\d.eE+-]*)/g;

export function Data({ value }: { value: unknown }) {
  const [isWhole, setWhole] = useState(false);
  const text = useMemo(() => visible(prettyJson(value)), [value]);
  const isLong = text.length > SHOWN + 500;
  const shown = isLong && !isWhole ? text.slice(0, SHOWN) : text;
  return (
    <>
      <pre class="data"><code>{shown.length > COLOURED ? shown : coloured(shown)}</code></pre>
      {isLong && (
        <button type="button" class="link" onClick={() => setWhole(!isWhole)} aria-expanded={isWhole}>
          {isWhole ? "Show less" : `Show all ${text.length.toLocaleString()} characters`}
        </button>
      )}
    </>
  );
}

function coloured(text: string) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [whole, string, colon, word] = match;
    parts.push(text.slice(at, match.index));
    const kind = string ? (colon ? "name" : "string") : word ? "word" : "number";
    parts.push(<span class={kind}>{string ?? whole}</span>, colon ?? "");
    at = match.index + whole.length;
  }
  parts.push(text.slice(at));
  return parts;
}
