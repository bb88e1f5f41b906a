// Times as the bus tells them, in seconds since the epoch, for people.

const STEPS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]] as const;

/** "now", "12 s ago", "in 3 min". */
export function relative(at: number, now: number): string {
  const seconds = now - at;
  const [size, unit] = STEPS.find(([least]) => Math.abs(seconds) >= least) ?? [0, ""];
  if (!size) return "now";
  const count = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
  return seconds > 0 ? `${count} ago` : `in ${count}`;
}

/** "0.012 s", "4.2 s", "1 min 20 s", "3 h 5 min". */
export function duration(seconds: number): string {
  const positive = Math.max(0, seconds);
  if (positive < 1) return `${positive.toFixed(3)} s`;
  if (positive < 60) return `${positive.toFixed(1)} s`;
  if (positive < 3600) return `${Math.floor(positive / 60)} min ${Math.floor(positive % 60)} s`;
  if (positive < 86400) return `${Math.floor(positive / 3600)} h ${Math.floor((positive % 3600) / 60)} min`;
  return `${Math.floor(positive / 86400)} d ${Math.floor((positive % 86400) / 3600)} h`;
}

/** "2030-01-31 12:00:00.123", in the reader's own time zone. */
export function exact(at: number): string {
  const date = new Date(at * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const milliseconds = String(date.getMilliseconds()).padStart(3, "0");
  return `${day} ${clock(at)}.${milliseconds}`;
}

/** "12:00:00". */
export function clock(at: number): string {
  return new Date(at * 1000).toTimeString().slice(0, 8);
}
