// An error: which, what is wrong where, and what to do about it.

import type { ComponentChildren } from "preact";

import type { Trouble } from "../bus/trouble";
import { visible } from "../text/visible";
import { Data } from "./data";

interface Props {
  trouble: Trouble;
  title?: string;
  children?: ComponentChildren;
}

export function TroubleBox({ trouble, title, children }: Props) {
  const { uri, message, field, value, remedy, more } = trouble;
  return (
    <section class="trouble" role="alert" aria-label={title ?? "Error"}>
      {title && <h2>{title}</h2>}
      <p class="trouble-message">{visible(message)}</p>
      {remedy && <p class="trouble-remedy"><b>What to do:</b> {visible(remedy)}</p>}
      <dl class="facts small">
        <div><dt>Error</dt><dd><code>{visible(uri)}</code></dd></div>
        {field !== undefined && <div><dt>Field</dt><dd><code>{visible(field)}</code></dd></div>}
        {value !== undefined && <div><dt>Value</dt><dd><Data value={value} /></dd></div>}
        {more && <div><dt>Details</dt><dd><Data value={more} /></dd></div>}
      </dl>
      {children}
    </section>
  );
}
