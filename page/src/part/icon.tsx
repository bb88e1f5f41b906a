// Small pictures, drawn in the colour of the text around them. They say nothing by themselves to who
// cannot see them: a word always stands beside them, or on what they are in.

import type { State } from "../bus/types";

const PATHS = {
  scheduled: "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  waiting: "M6 5v6M10 5v6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  queued: "M3 4.5h10M3 8h10M3 11.5h6",
  running: "M6.2 5.2v5.6L11 8 6.2 5.2ZM14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  retrying: "M13 8a5 5 0 1 1-1.5-3.6M13 2.5v2.8h-2.8",
  succeeded: "M5 8.2 7.2 10.4 11 6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  failed: "M5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  dead: "M8 4.8v3.8M8 10.9v.3M8 2 14 13.2H2Z",
  cancelled: "M5 8h6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  system: "M2.5 3.5h11v7h-11ZM6 13.5h4M8 10.5v3",
  light: "M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9M10.8 8a2.8 2.8 0 1 1-5.6 0 2.8 2.8 0 0 1 5.6 0Z",
  dark: "M13 9.6A5.4 5.4 0 0 1 6.4 3 5.4 5.4 0 1 0 13 9.6Z",
  leave: "M6.5 3h-3v10h3M7 8h6M10.5 5.5 13 8l-2.5 2.5",
  copy: "M5.5 5.5V3h7.5v7.5h-2.5M3 5.5h7.5V13H3Z",
  done: "M3.5 8.5 6.5 11.5 12.5 5",
  back: "M9.5 3.5 5 8l4.5 4.5",
  down: "M8 3v9M4.5 8.5 8 12l3.5-3.5",
  stop: "M4.5 4.5h7v7h-7Z",
  again: "M13 8a5 5 0 1 1-1.5-3.6M13 2.5v2.8h-2.8",
  edit: "M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3 3 13Z",
  play: "M5 3.5v9L12.5 8 5 3.5Z",
} satisfies Record<State, string> & Record<string, string>;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
