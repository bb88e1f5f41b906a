// Text that others wrote, so that a reader sees what is in it: escape sequences of terminals are
// left out; control characters, and those that turn the direction of writing, become visible.

// eslint-disable-next-line no-control-regex
const TERMINAL = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-Z\\-~])/g;
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const NEEDS_WORK = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;

export function visible(text: string): string {
  return NEEDS_WORK.test(text) ? text.replace(TERMINAL, "").replace(HIDDEN, picture) : text;
}

/** A line as a terminal would leave it: what comes after a carriage return replaces what was there. */
export function lastWritten(line: string): string {
  return line.split("\r").findLast(Boolean) ?? "";
}

function picture(char: string): string {
  const code = char.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `\u27e8${code.toString(16).padStart(4, "0")}\u27e9`;
}
