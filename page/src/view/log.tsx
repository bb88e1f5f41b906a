// A log of any length: of its lines only those that can be seen are in the page. It follows what
// comes until its reader scrolls up, and again from the end on.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { Copy } from "../part/copy";
import { Icon } from "../part/icon";
import { MOST_LINES, type Line, type Log } from "../state/log";
import { exact } from "../text/time";
import { lastWritten, visible } from "../text/visible";

const OVERSCAN = 20;
const LONGEST = 2_000;

export function LogView({ log, isLive }: { log: Log; isLive: boolean }) {
  const [sought, seek] = useState("");
  const version = log.version.value;
  const found = useMemo(() => (sought ? log.matching(sought) : null), [version, sought]);
  const total = log.total;
  if (!total) return <p class="empty">{isLive ? "Nothing written yet." : "Nothing was written."}</p>;

  return (
    <div class="log-frame">
      <div class="log-head">
        <span class="soft">
          {found && `${found.length.toLocaleString()} of `}
          <span data-total={total}>{total.toLocaleString()}</span> {total === 1 ? "line" : "lines"}
        </span>
        <input type="search" value={sought} placeholder="Find" aria-label="Find in the log" autocomplete="off"
          spellcheck={false} onInput={(event) => seek(event.currentTarget.value)} />
        <Copy text={() => log.text()} label="Copy the log" />
        {log.dropped > 0 && (
          <span class="note">The first {log.dropped.toLocaleString()} are not kept here: a page keeps the
            last {MOST_LINES.toLocaleString()}.</span>
        )}
      </div>
      <Lines key={sought} log={log} chosen={found} isLive={isLive} />
    </div>
  );
}

/** `chosen`: the numbers of the lines that are shown; null: all. */
function Lines({ log, chosen, isLive }: { log: Log; chosen: readonly number[] | null; isLive: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const [height, setHeight] = useState(20);
  const [span, setSpan] = useState({ top: 0, shown: 30 });
  const [isFollowing, setFollowing] = useState(true);
  const lastTop = useRef(0);
  const seen = useRef(0);

  log.version.value; // drawn again after each change
  const total = chosen?.length ?? log.total;
  if (isFollowing) seen.current = total;

  const look = () => {
    if (!box.current) return;
    const { scrollTop, clientHeight, scrollHeight } = box.current;
    const isAtEnd = scrollTop + clientHeight >= scrollHeight - height;
    if (isAtEnd) setFollowing(true);
    else if (scrollTop < lastTop.current) setFollowing(false);
    lastTop.current = scrollTop;
    const next = { top: Math.floor(scrollTop / height), shown: Math.ceil(clientHeight / height) };
    if (next.top !== span.top || next.shown !== span.shown) setSpan(next);
  };

  useEffect(() => {
    const { current } = box;
    if (!current) return;
    const measure = () => {
      const line = current.querySelector<HTMLElement>(".line");
      if (line) setHeight(line.getBoundingClientRect().height || 20);
      look();
    };
    const observer = new ResizeObserver(measure);
    observer.observe(current);
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    const { current } = box;
    if (!isFollowing || !current) return;
    current.scrollTop = current.scrollHeight;
    look();
  }, [total, isFollowing, height]);

  const from = Math.max(chosen ? 0 : log.dropped, span.top - OVERSCAN);
  const upto = Math.min(total, span.top + span.shown + OVERSCAN);
  const numbers = Array.from({ length: Math.max(0, upto - from) }, (_, nth) => chosen?.[from + nth] ?? from + nth);
  const missed = total - seen.current;
  return (
    <>
      <div ref={box} class="log" tabIndex={0} role="region" aria-label="Lines" onScroll={look}
        style={{ "--content": `${total * height}px` }}>
        <div class="log-space" style={{ height: `${total * height}px` }}>
          <div class="log-window" style={{ transform: `translateY(${from * height}px)` }}>
            {numbers.map((number) => <LogLine key={number} number={number + 1} line={log.at(number)} />)}
          </div>
        </div>
      </div>
      <div class="log-foot">
        {isLive && <span role="status">{isFollowing ? "following" : "paused"}</span>}
        {!isFollowing && (
          <button type="button" class="to-end" onClick={() => setFollowing(true)}>
            <Icon name="down" /> {missed > 0 ? `${missed.toLocaleString()} new lines` : "To the end"}
          </button>
        )}
      </div>
    </>
  );
}

function LogLine({ number, line }: { number: number; line: Line | undefined }) {
  if (!line) return null;
  // A progress bar of a terminal writes the same line a thousand times: its end counts.
  const written = lastWritten(line.text);
  const text = visible(written.slice(0, LONGEST));
  const cut = written.length - LONGEST;
  return (
    <div class={`line ${line.stream}`} data-line={number}>
      <span class="line-number" title={`${exact(line.at)} ${line.stream}`}>{number}</span>
      <span class="line-text">{text}{cut > 0 && <i> … {cut.toLocaleString()} characters more</i>}</span>
    </div>
  );
}
