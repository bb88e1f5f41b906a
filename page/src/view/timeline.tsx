// What has happened to a job, and when.

import type { JobEvent } from "../bus/types";
import { isState } from "../bus/types";
import { Badge } from "../part/badge";
import { When } from "../part/when";
import { clock, duration, exact } from "../text/time";
import { visible } from "../text/visible";

/** Of more, the first ones are left out. */
const MOST = 200;

export function Timeline({ events, created }: { events: readonly JobEvent[]; created: number }) {
  const shown = events.slice(-MOST);
  return (
    <>
      {shown.length < events.length && <p class="note">The last {MOST} of {events.length} are shown.</p>}
      <ol class="timeline">
        {shown.map((event) => <Step key={event.seq} event={event} created={created} />)}
      </ol>
    </>
  );
}

function Step({ event: { kind, at, data }, created }: { event: JobEvent; created: number }) {
  const { reason, actor, message, due, attempt } = data;
  const words = [reason, message].filter((word): word is string => typeof word === "string" && word !== "");
  return (
    <li class={kind}>
      {isState(kind) ? <Badge state={kind} /> : <span class="badge other">{visible(kind)}</span>}
      <time class="soft" dateTime={new Date(at * 1000).toISOString()} title={exact(at)}>
        {clock(at)} <small>+{duration(at - created)}</small>
      </time>
      <small class="timeline-words">
        {kind === "running" && typeof attempt === "number" && attempt > 1 && `attempt ${attempt}, `}
        {visible(words.join(": "))}
        {typeof actor === "string" && <span class="soft"> by {visible(actor)}</span>}
        {kind === "retrying" && typeof due === "number" && <span>, due <When at={due} /></span>}
      </small>
    </li>
  );
}
