// One job: what is asked, how far it is, what it writes, how it ended, what can be done about it.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { trouble } from "../bus/trouble";
import { isFinal, type Job, type JobError } from "../bus/types";
import { Badge } from "../part/badge";
import { Bar } from "../part/bar";
import { Copy } from "../part/copy";
import { Data } from "../part/data";
import { Heading } from "../part/heading";
import { Icon } from "../part/icon";
import { TroubleBox } from "../part/trouble";
import { Uri } from "../part/uri";
import { Took, When } from "../part/when";
import { to, type Route } from "../route";
import { JobWatch } from "../state/job";
import { visible } from "../text/visible";
import { Actions } from "./actions";
import { LogView } from "./log";
import { Timeline } from "./timeline";

export function JobView({ route }: { route: Route }) {
  const watch = useMemo(() => new JobWatch(route.path[1]!), []);
  useEffect(() => {
    watch.start();
    return () => watch.stop();
  }, []);

  const job = watch.job.value;
  const wrong = watch.trouble.value;
  if (!job) {
    return (
      <div class="job">
        <Heading title="Job">{visible(watch.id)}</Heading>
        {wrong ? <TroubleBox trouble={wrong} title="This job cannot be shown" /> : <p class="empty" role="status">Loading</p>}
        <p><a href="#/jobs">All jobs</a></p>
      </div>
    );
  }
  return <Shown watch={watch} job={job} />;
}

function Shown({ watch, job }: { watch: JobWatch; job: Job }) {
  const state = watch.state.value ?? job.state;
  const progress = watch.progress.value;
  const wrong = watch.trouble.value;
  return (
    <article class="job" data-state={state}>
      <header class="job-head">
        <a class="back" href="#/jobs"><Icon name="back" /> Jobs</a>
        <Heading title={`${state}: ${visible(job.uri)}`}><code><Uri uri={job.uri} /></code></Heading>
        <p class="job-line">
          <span role="status"><Badge state={state} {...(watch.isCancelling.value && { note: "cancelling" })} /></span>
          <span class="soft">created <When at={job.created} /></span>
          {job.started !== null && state !== "queued" && (
            <span class="soft">{isFinal(state) ? "took" : "for"} <Took from={job.started} upto={job.finished} /></span>
          )}
          {(state === "scheduled" || state === "retrying") && <span class="soft">due <When at={job.due} /></span>}
          <span class="soft id"><code>{job.id}</code><Copy text={() => job.id} label="Copy the id" /></span>
        </p>
        <Actions job={job} state={state} onDone={() => void watch.refresh()} />
        {wrong && <TroubleBox trouble={wrong} title="This page is not up to date" />}
        {!isFinal(state) && progress && <Bar progress={progress} />}
      </header>
      <div class="job-columns">
        <div class="job-main">
          <Outcome job={job} state={state} />
          <Part title="Log"><LogView log={watch.log} isLive={!isFinal(state)} /></Part>
        </div>
        <div class="job-side">
          <Part title="Timeline"><Timeline events={watch.timeline.value} created={job.created} /></Part>
          <Part title="Arguments"><Arguments job={job} /></Part>
          <Part title="Facts"><Facts job={job} /></Part>
        </div>
      </div>
    </article>
  );
}

function Part({ title, children }: { title: string; children: ComponentChildren }) {
  return <section class="part" aria-label={title}><h2>{title}</h2>{children}</section>;
}

function Outcome({ job, state }: { job: Job; state: string }) {
  if (state === "succeeded" && job.left_out?.result) {
    return (
      <Part title="Result">
        <p>It is {job.left_out.result.toLocaleString()} bytes long, too large for this page:{" "}
          <code>taskbus job {job.id} --wait</code> prints it.</p>
      </Part>
    );
  }
  if (state === "succeeded" && job.result) {
    const { args, kwargs } = job.result;
    return (
      <Part title="Result">
        {args.length === 1 ? <Data value={args[0]} /> : <Data value={args} />}
        {Object.keys(kwargs).length > 0 && <Data value={kwargs} />}
      </Part>
    );
  }
  if (!job.error) return null;
  const { error, message, about = {}, traceback }: JobError = job.error;
  return (
    <TroubleBox trouble={trouble(error, message, about)} title={isFinal(state) ? "It failed" : "The last attempt failed"}>
      {traceback && <details><summary>Traceback</summary><pre class="data">{visible(traceback)}</pre></details>}
    </TroubleBox>
  );
}

function Arguments({ job: { args, kwargs } }: { job: Job }) {
  if (!args || !kwargs) return <p>Too large for this page.</p>;
  const hasNames = Object.keys(kwargs).length > 0;
  return (
    <>
      {!args.length && !hasNames && <p class="soft">None.</p>}
      {args.length > 0 && <Data value={args} />}
      {hasNames && <Data value={kwargs} />}
    </>
  );
}

function Facts({ job }: { job: Job }) {
  const { attempt, retries, priority, timeout, queue, worker, lane, tags, details, followed_by, expires } = job;
  const { after, caller_authid: caller } = details ?? {};
  const before = Array.isArray(after) ? after.filter((id) => typeof id === "string") : [];
  const rows: [string, ComponentChildren][] = [
    ["Attempts", `${attempt} of ${retries + 1}`],
    ["Timeout", `${timeout} s`],
    ["Priority", priority],
    ["Queue", <code>{visible(queue)}</code>],
    ["Limit", lane && <code>{visible(lane)}</code>],
    ["Worker", worker && <code>{visible(worker)}</code>],
    ["Tags", tags.length > 0 && tags.map((tag) => <a key={tag} class="tag" href={to(["jobs"], { tag })}>{visible(tag)}</a>)],
    ["Follows", before.length > 0 && <Jobs jobs={before.map((id) => ({ job: id }))} />],
    ["Followed by", followed_by.length > 0 && <Jobs jobs={followed_by} />],
    ["Asked by", typeof caller === "string" && <code>{visible(caller)}</code>],
    ["Same URI", <a href={to(["jobs"], { uri: job.uri })}>all its jobs</a>],
    ["Kept until", expires !== null && <When at={expires} />],
  ];
  return (
    <>
      <dl class="facts">
        {rows.filter(([, value]) => value || value === 0).map(([name, value]) => (
          <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
        ))}
      </dl>
      {details && <details><summary>All details of the call</summary><Data value={details} /></details>}
    </>
  );
}

function Jobs({ jobs }: { jobs: readonly { job: string; on?: string }[] }) {
  return (
    <ul class="plain">
      {jobs.map(({ job, on }) => (
        <li key={job}>{on && `on ${on} `}<a href={to(["jobs", job])}><code>{visible(job)}</code></a></li>
      ))}
    </ul>
  );
}
