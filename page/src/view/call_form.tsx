// The form of one call, and what it was answered.

import type { Signal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";

import { Bar } from "../part/bar";
import { Data } from "../part/data";
import { Icon } from "../part/icon";
import { TroubleBox } from "../part/trouble";
import { Uri } from "../part/uri";
import { go, to } from "../route";
import { entries, entryOf } from "../state/api";
import type { CallForm, Field } from "../state/call";
import { duration } from "../text/time";
import { visible } from "../text/visible";

interface Props {
  form: CallForm;
  /** The URI is only the beginning of one. */
  isOpen: boolean;
  /** The job whose call this is once more. */
  from: string;
}

export function CallEditor({ form, isOpen, from }: Props) {
  const entry = entryOf(form.uri.value);
  const may = entry?.may ?? (from ? ["submit"] : []);
  const isJob = entry?.mode === "background";
  const isNowFirst = may.includes("call") && !isJob && !from;
  const isBusy = form.isRunning.value;

  const element = useRef<HTMLFormElement>(null);
  useEffect(() => {
    const wrong = element.current?.querySelector<HTMLElement>('[aria-invalid="true"]');
    const folded = wrong?.closest("details");
    if (folded) folded.open = true;
    wrong?.focus();
  }, [form.problems.value]);

  const submit = async () => {
    const job = await form.submit();
    if (job) go(to(["jobs", job]));
  };
  const first = isNowFirst ? () => void form.call() : () => void submit();
  const byKeys = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!form.isRunning.value) first();
    }
  };

  return (
    <form ref={element} class="card" onKeyDown={byKeys} onSubmit={(event) => { event.preventDefault(); first(); }}>
      <p class="call-back"><a href="#/call"><Icon name="back" /> All procedures</a></p>
      {isOpen
        ? <Text form={form} field="uri" label="URI" value={form.uri} />
        : <h2 class="call-uri"><code><Uri uri={form.uri.value} /></code></h2>}
      <p class="soft">
        {from && <>As job <a href={to(["jobs", from])}><code>{from}</code></a>. </>}
        {entry && `${isJob ? "Runs as a job" : "Runs at once"}${entry.timeout === null ? "" : `, within ${entry.timeout} s`}.`}
        {!entry && entries.value && "The API map has nothing of this name that you may call."}
      </p>
      <Area form={form} field="args" label="Arguments" hint='a JSON list: ["/", 5]' value={form.args} />
      <Area form={form} field="kwargs" label="Keywords" hint='a JSON object: {"size": 3}' value={form.kwargs} />
      {may.includes("submit") && (
        <details class="options">
          <summary>Options of a job</summary>
          <div class="row">
            <Text form={form} field="delay" label="Delay in seconds" value={form.delay} />
            <Text form={form} field="tags" label="Tags" value={form.tags} />
          </div>
        </details>
      )}
      <div class="actions">
        {isNowFirst && <button type="submit" class="primary" disabled={isBusy}><Icon name="play" /> Call now</button>}
        {may.includes("submit") && (
          <button type={isNowFirst ? "button" : "submit"} class={isNowFirst ? "" : "primary"} disabled={isBusy}
            onClick={isNowFirst ? () => void submit() : undefined}>
            <Icon name="queued" /> Queue as a job
          </button>
        )}
        {isBusy && <button type="button" class="danger" onClick={() => form.stop()}><Icon name="stop" /> Cancel</button>}
        <span class="soft keys">Ctrl + Enter</span>
      </div>
      <Answered form={form} />
    </form>
  );
}

interface FieldProps {
  form: CallForm;
  field: Field;
  label: string;
  value: Signal<string>;
}

function Area({ form, field, label, hint, value }: FieldProps & { hint: string }) {
  const id = useId();
  const problem = form.problems.value[field];
  const rows = Math.min(16, Math.max(2, value.value.split("\n").length));
  return (
    <div class="field">
      <label for={id}>{label} <small class="soft">{hint}</small></label>
      <textarea id={id} rows={rows} spellcheck={false} autocomplete="off" value={value.value}
        aria-invalid={problem ? true : undefined} aria-describedby={`${id}-problem`}
        onInput={(event) => { value.value = event.currentTarget.value; }} />
      <p id={`${id}-problem`} class="problem">{problem && visible(problem)}</p>
    </div>
  );
}

function Text({ form, field, label, value }: FieldProps) {
  const id = useId();
  const problem = form.problems.value[field];
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} value={value.value} spellcheck={false} autocomplete="off"
        aria-invalid={problem ? true : undefined} aria-describedby={`${id}-problem`}
        onInput={(event) => { value.value = event.currentTarget.value; }} />
      <p id={`${id}-problem`} class="problem">{problem && visible(problem)}</p>
    </div>
  );
}

function Answered({ form }: { form: CallForm }) {
  const answer = form.answer.value;
  const progress = form.progress.value;
  const wrong = form.trouble.value;
  return (
    <div class="answer">
      <p role="status" class={form.isRunning.value && !progress ? "soft" : "unseen"}>
        {form.isRunning.value ? "Running" : answer && "Answered"}
      </p>
      {progress && <Bar progress={progress} />}
      {form.notes.value.length > 0 && <pre class="data">{form.notes.value.map(visible).join("\n")}</pre>}
      {wrong && <TroubleBox trouble={wrong} />}
      {answer && (
        <section aria-label="Result">
          <h3>Result <small class="soft">after {duration(answer.seconds)}</small></h3>
          {answer.kwargs["promoted"] === true && typeof answer.args[0] === "string" && (
            <p>It takes longer, and goes on as job <a href={to(["jobs", answer.args[0]])}>{answer.args[0]}</a>.</p>
          )}
          {answer.args.length === 1 ? <Data value={answer.args[0]} /> : <Data value={answer.args} />}
          {Object.keys(answer.kwargs).length > 0 && <Data value={answer.kwargs} />}
        </section>
      )}
    </div>
  );
}
