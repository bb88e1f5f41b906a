// All jobs, the newest first, as they change.

import { Component } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { isFinal, type LiveJob, type State } from "../bus/types";
import { Badge } from "../part/badge";
import { Bar } from "../part/bar";
import { Heading } from "../part/heading";
import { TroubleBox } from "../part/trouble";
import { Uri } from "../part/uri";
import { Took, When } from "../part/when";
import { go, to, type Route } from "../route";
import { entries, patternOf } from "../state/api";
import { JobList, MOST, type Filter } from "../state/jobs";
import { visible } from "../text/visible";

/** What one chooses by one click. */
const GROUPS: readonly { name: string; title: string; states: readonly State[] }[] = [
  { name: "", title: "All", states: [] },
  { name: "pending", title: "Pending", states: ["scheduled", "waiting", "queued", "retrying"] },
  { name: "running", title: "Running", states: ["running"] },
  { name: "succeeded", title: "Succeeded", states: ["succeeded"] },
  { name: "failed", title: "Failed", states: ["failed", "dead"] },
  { name: "cancelled", title: "Cancelled", states: ["cancelled"] },
];

export function JobsView({ route }: { route: Route }) {
  const group = GROUPS.find((one) => one.name === route.query.get("state")) ?? GROUPS[0]!;
  const uri = route.query.get("uri") ?? "";
  const tag = route.query.get("tag") ?? "";
  return (
    <div class="jobs">
      <Heading title="Jobs" />
      <Filters group={group.name} uri={uri} tag={tag} />
      <List key={`${group.name} ${uri} ${tag}`} filter={{ states: group.states, uri, tag }} />
    </div>
  );
}

interface Chosen {
  group: string;
  uri: string;
  tag: string;
}

function Filters({ group, uri, tag }: Chosen) {
  const form = useRef<HTMLFormElement>(null);
  const place = (more: Partial<Chosen>) => {
    const { group: state, ...rest } = { group, uri, tag, ...more };
    return to(["jobs"], { state, ...rest });
  };
  const apply = () => {
    const data = new FormData(form.current!);
    const hash = place({ uri: patternOf(String(data.get("uri"))), tag: String(data.get("tag")).trim() });
    if (hash !== place({})) go(hash);
  };
  return (
    <form ref={form} class="filters" role="search" aria-label="Jobs"
      onSubmit={(event) => { event.preventDefault(); apply(); }} onChange={apply}>
      <ul class="chips" aria-label="State">
        {GROUPS.map(({ name, title }) => (
          <li key={name}>
            <a href={place({ group: name })} aria-current={name === group ? "true" : undefined}>{title}</a>
          </li>
        ))}
      </ul>
      <label class="field-inline">
        <span>URI</span>
        <input key={uri} name="uri" defaultValue={uri} list="uris" placeholder="any" size={28}
          autocomplete="off" spellcheck={false} />
      </label>
      <datalist id="uris">{entries.value?.map((one) => <option key={one.uri} value={one.uri} />)}</datalist>
      <label class="field-inline">
        <span>Tag</span>
        <input key={tag} name="tag" defaultValue={tag} size={10} autocomplete="off" spellcheck={false} />
      </label>
      {(uri || tag) && <a href={place({ uri: "", tag: "" })}>Clear</a>}
      <button type="submit" class="unseen">Apply</button>
    </form>
  );
}

function List({ filter }: { filter: Filter }) {
  const list = useMemo(() => new JobList(filter), []);
  useEffect(() => {
    list.start();
    return () => list.stop();
  }, []);

  const rows = list.rows.value;
  const trouble = list.trouble.value;
  return (
    <>
      {trouble && <TroubleBox trouble={trouble} title="The jobs cannot be listed" />}
      {!rows && !trouble && <p class="empty" role="status">Loading</p>}
      {rows?.length === 0 && <Nothing filter={filter} />}
      {rows && rows.length > 0 && <Table rows={rows} />}
      {rows && list.hasMore.value && (
        <p class="more">
          <button type="button" onClick={() => list.more()} disabled={list.isLoading.value}>
            {list.isLoading.value ? "Loading" : "Load more"}
          </button>
        </p>
      )}
      {rows && rows.length >= MOST && (
        <p class="soft more">These are the newest {MOST}: filters show others.</p>
      )}
    </>
  );
}

function Nothing({ filter }: { filter: Filter }) {
  const isFiltered = filter.states.length > 0 || filter.uri || filter.tag;
  return (
    <div class="empty">
      <p>{isFiltered ? "No job is like that. One that becomes so appears here by itself." : "No job yet."}</p>
      {isFiltered ? <a href="#/jobs">Show all jobs</a> : <a href="#/call">Make the first call</a>}
    </div>
  );
}

// The roles say again what the elements are: browsers forget it where a table is laid out otherwise.
function Table({ rows }: { rows: readonly LiveJob[] }) {
  return (
    <table class="job-table" role="table" aria-label="Jobs, the newest first" onKeyDown={move}>
      <thead role="rowgroup">
        <tr role="row">
          {["State", "Job", "Progress", "Attempt", "Took", "Created"].map((title) => (
            <th key={title} role="columnheader" scope="col">{title}</th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">{rows.map((job) => <Row key={job.id} job={job} />)}</tbody>
    </table>
  );
}

class Row extends Component<{ job: LiveJob }> {
  override shouldComponentUpdate(next: { job: LiveJob }): boolean {
    return next.job !== this.props.job;
  }

  override render() {
    return <Cells job={this.props.job} />;
  }
}

function Cells({ job }: { job: LiveJob }) {
  const { id, uri, state, attempt, retries, progress, error, started, finished, created, due, tags } = job;
  const isWaiting = state === "scheduled" || state === "retrying";
  return (
    <tr role="row" data-job={id}>
      <td role="cell" class="cell-state"><Badge state={state} /></td>
      <td role="cell" class="cell-job">
        <a href={to(["jobs", id])}><Uri uri={uri} /></a>
        {tags.map((tag) => <span key={tag} class="tag">{visible(tag)}</span>)}
        <small class="soft">
          {error && state !== "succeeded" ? <span class="why">{visible(error.message)}</span> : id}
        </small>
      </td>
      <td role="cell" class="cell-progress">
        {state === "running" && progress && <Bar progress={progress} isSmall />}
        {isWaiting && <span class="soft"><When at={due} /></span>}
      </td>
      <td role="cell" class="cell-attempt">{attempt > 0 && (retries > 0 || attempt > 1) && `${attempt} of ${retries + 1}`}</td>
      <td role="cell" class="cell-took">{(state === "running" || isFinal(state)) && <Took from={started} upto={finished} />}</td>
      <td role="cell" class="cell-created soft"><When at={created} /></td>
    </tr>
  );
}

/** Arrows, Home and End go from job to job once one of them has the focus. */
function move(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  const links = [...(event.currentTarget as Element).querySelectorAll<HTMLAnchorElement>(".cell-job a")];
  const at = links.indexOf(document.activeElement as HTMLAnchorElement);
  if (at < 0) return;
  event.preventDefault();
  links[Math.min(links.length - 1, Math.max(0, at + step))]?.focus();
}
