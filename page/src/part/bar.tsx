import type { Progress } from "../bus/types";
import { visible } from "../text/visible";

/** How far it is. `isSmall`: without the words of the task. */
export function Bar({ progress, isSmall }: { progress: Progress; isSmall?: boolean }) {
  const percent = Math.round(progress.fraction * 100);
  const message = visible(progress.message);
  return (
    <div class={isSmall ? "bar small" : "bar"}>
      <progress max={100} value={percent} aria-label="Progress" aria-valuetext={`${percent} % ${message}`} />
      <span class="bar-text">{percent} %{!isSmall && message && <span class="soft"> {message}</span>}</span>
    </div>
  );
}
