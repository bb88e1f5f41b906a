import { now } from "../state/now";
import { duration, exact, relative } from "../text/time";

/** How long ago, or how soon; the exact time is in its title. */
export function When({ at }: { at: number }) {
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={exact(at)}>
      {relative(at, now.value)}
    </time>
  );
}

/** How long it took, or takes so far. */
export function Took({ from, upto }: { from: number | null; upto: number | null }) {
  if (from === null) return null;
  return <>{upto === null ? sofar(now.value - from) : duration(upto - from)}</>;
}

/** In whole seconds: the time of this machine need not be that of the bus. */
function sofar(seconds: number): string {
  return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds);
}
