import type { State } from "../bus/types";
import { Icon } from "./icon";

/** A job's state: a word, a shape and a colour. */
export function Badge({ state, note }: { state: State; note?: string }) {
  return (
    <span class={`badge ${state}`}>
      <Icon name={state} />
      {note ?? state}
    </span>
  );
}
