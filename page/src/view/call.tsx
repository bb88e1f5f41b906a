// Call any URI that the viewer may call: now, or as a job.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { ask, isAbort } from "../bus/session";
import { trouble, troubleOf, type Trouble } from "../bus/trouble";
import { MOST_BYTES, type ApiEntry, type Job } from "../bus/types";
import { Heading } from "../part/heading";
import { TroubleBox } from "../part/trouble";
import { to, type Route } from "../route";
import { apiTrouble, entries, isPattern } from "../state/api";
import { CallForm } from "../state/call";
import { visible } from "../text/visible";
import { CallEditor } from "./call_form";

const TOO_LARGE = trouble("page.error.too_large", "they are too large for a page", {
  remedy: "submit it from elsewhere, or retry the job as it is",
});

export function CallView({ route }: { route: Route }) {
  const uri = route.query.get("uri") ?? "";
  const from = route.query.get("from") ?? "";
  const form = useMemo(() => new CallForm(), []);
  const [wrong, setWrong] = useState<Trouble | null>(null);

  useEffect(() => () => form.stop(), []);

  // The link that was followed may be gone, or far from what it has opened.
  const isOpening = useRef(true);
  useEffect(() => {
    if (!isOpening.current) document.querySelector<HTMLElement>(uri ? ".call-editor" : "main h1")?.focus();
    isOpening.current = false;
  }, [uri, from]);

  useLayoutEffect(() => {
    form.fill(isPattern(uri) ? uri.slice(0, -1) : uri, null);
    setWrong(null);
    if (!from) return;
    const over = new AbortController();
    ask<Job>("taskbus.job.get", [from], { most: MOST_BYTES }, { signal: over.signal, patient: true })
      .then(({ args, kwargs, uri }) => args && kwargs ? form.fill(uri, { args, kwargs }) : setWrong(TOO_LARGE))
      .catch((error: unknown) => !isAbort(error) && setWrong(troubleOf(error)));
    return () => over.abort();
  }, [uri, from]);

  return (
    <div class={uri ? "call has-uri" : "call"}>
      <Heading title="Call" />
      {apiTrouble.value && <TroubleBox trouble={apiTrouble.value} title="What there is to call cannot be read" />}
      {wrong && <TroubleBox trouble={wrong} title={`The arguments of job ${from} cannot be read`} />}
      <div class="call-columns">
        <Procedures chosen={uri} />
        <section class="call-editor" aria-label="The call" tabIndex={-1}>
          {uri ? <CallEditor key={`${uri} ${from}`} form={form} isOpen={isPattern(uri)} from={from} />
            : <p class="empty">Choose a procedure to call it.</p>}
        </section>
      </div>
    </div>
  );
}

function Procedures({ chosen }: { chosen: string }) {
  const [sought, seek] = useState("");
  const all = entries.value;
  const found = (all ?? []).filter((one) => one.uri.includes(sought.trim().toLowerCase()));
  const spaces = Map.groupBy(found, (one) => one.uri.slice(0, one.uri.lastIndexOf(".")));
  return (
    <section class="procedures" aria-label="Procedures">
      <label for="sought" class="unseen">Find a procedure</label>
      <input id="sought" type="search" placeholder="Find a procedure" value={sought} autocomplete="off"
        spellcheck={false} onInput={(event) => seek(event.currentTarget.value)} />
      {all === null && !apiTrouble.value && <p class="empty" role="status">Loading</p>}
      {all?.length === 0 && <p class="empty">There is nothing that you may call. An access key calls and
        submits what its scopes say.</p>}
      {all && all.length > 0 && !found.length && <p class="empty" role="status">No procedure has that in its name.</p>}
      {[...spaces].map(([space, members]) => (
        <div key={space} class="procedure-group">
          <h2>{visible(space)}</h2>
          <ul>{members.map((one) => <Procedure key={one.uri} entry={one} space={space} isChosen={one.uri === chosen} />)}</ul>
        </div>
      ))}
    </section>
  );
}

function Procedure({ entry, space, isChosen }: { entry: ApiEntry; space: string; isChosen: boolean }) {
  const { uri, kind, mode } = entry;
  return (
    <li>
      <a href={to(["call"], { uri })} aria-current={isChosen ? "true" : undefined} title={visible(uri)}>
        <code>{visible(uri.slice(space.length + 1))}</code>
        <small class="soft">{mode === "background" ? "job, " : ""}{visible(kind)}</small>
      </a>
    </li>
  );
}
