// What a call may carry, checked before it is sent: the router ends the session of who sends a URI
// or a message that it cannot take, and JSON turns NaN, Map and their like into something else.

import {invalid} from "./errors.js";

const LOOSE_URI = /^[^\s.#]+(\.[^\s.#]+)*$/;
const LONGEST_URI = 255;
const DEEPEST = 100;
const LARGEST = 1024 * 1024;
// Beyond it a timer would fire at once.
const LONGEST_SECONDS = 2_000_000;
// Codes, request id and options around what is sent.
const FRAME = 200;

/** The URI itself; throws TaskbusError. */
export function checkUri(uri, field = "uri") {
  const fits = typeof uri === "string" && uri.length <= LONGEST_URI && LOOSE_URI.test(uri);
  if (fits && uri.isWellFormed()) return uri;
  throw invalid(field, uri, "not a URI", "send one as com.example.shop.order");
}

/** Throws TaskbusError, naming the place, where these cannot be sent as they are. */
export function checkPayload(args, kwargs) {
  if (!Array.isArray(args)) throw invalid("args", args, "not a list", "send an array");
  if (!isPlain(kwargs)) throw invalid("kwargs", kwargs, "not an object", "send a plain object");
  check(args, "args", 0);
  check(kwargs, "kwargs", 0);
  const size = new TextEncoder().encode(JSON.stringify([args, kwargs])).length + FRAME;
  if (size > LARGEST) {
    throw invalid("args", `${size} bytes`, "too large", `send less than ${LARGEST} bytes`);
  }
}

/** Throws TaskbusError where these are no seconds that a timer can wait. */
export function checkSeconds(field, seconds) {
  if (typeof seconds === "number" && seconds > 0 && seconds <= LONGEST_SECONDS) return;
  throw invalid(field, seconds, "not a time in seconds", `send more than 0, up to ${LONGEST_SECONDS}`);
}

function check(value, place, depth) {
  if (depth > DEEPEST) {
    throw invalid(place, "...", "nested too deep", `nest up to ${DEEPEST} levels, without cycles`);
  }
  switch (typeof value) {
    case "boolean": return;
    case "string": return checkText(value, place);
    case "number":
      if (Number.isFinite(value)) return;
      break;
    case "object":
      if (value === null || typeof value.toJSON === "function") return;
      if (Array.isArray(value)) return value.forEach((one, n) => check(one, `${place}[${n}]`, depth + 1));
      if (isPlain(value)) {
        for (const [name, one] of Object.entries(value)) {
          checkText(name, place);
          // As JSON does: what is undefined is not there.
          if (one !== undefined) check(one, `${place}.${name}`, depth + 1);
        }
        return;
      }
  }
  throw invalid(place, String(value), "not a JSON value", "send text, finite numbers, lists, objects");
}

// The router takes what begins with NUL for bytes, and ends the session where they are none.
function checkText(text, place) {
  if (text.isWellFormed() && !text.startsWith("\0")) return;
  throw invalid(place, text, "a text that cannot be sent", "send valid Unicode that does not begin with NUL");
}

function isPlain(value) {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
