// A job's output as lines. Its events have pieces of it, cut anywhere, as text or as base64.

import {invalid} from "./errors.js";

const STREAMS = ["stdout", "stderr"];
// What is said while an attempt goes on.
const ASIDE = new Set(["progress", "warning", "cancelling"]);

/** Throws TaskbusError where there is no such stream; undefined is both. */
export function checkStream(stream) {
  if (stream === undefined || STREAMS.includes(stream)) return;
  throw invalid("stream", stream, "not a stream of output", "send stdout or stderr, or nothing for both");
}

/** Events in, lines out, each with the `seq` and time `at` of the event that ended it. */
export class Lines {
  #rests = new Map(STREAMS.map(stream => [stream, new Rest()]));

  /** The lines that this event completes. */
  push(event) {
    if (event.kind === "output") return this.#output(event);
    // Another attempt, or the end: what comes is no part of a line that was begun.
    return ASIDE.has(event.kind) ? [] : this.#flush(event);
  }

  #output(event) {
    const {stream, dropped} = event.data;
    const lines = this.#rests.get(stream).push(bytes(event.data));
    const found = lines.map(text => line(event, stream, text));
    if (dropped) found.push({...line(event, stream, ""), dropped});
    return found;
  }

  #flush(event) {
    const ends = STREAMS.map(stream => [stream, this.#rests.get(stream).end()]);
    return ends.filter(([, text]) => text).map(([stream, text]) => line(event, stream, text));
  }
}

class Rest {
  #text = "";
  #decoder = decoder();

  push(data) {
    const lines = (this.#text + this.#decoder.decode(data, {stream: true})).split("\n");
    this.#text = lines.pop();
    return lines;
  }

  end() {
    const text = this.#text + this.#decoder.decode();
    this.#text = "";
    this.#decoder = decoder();
    return text;
  }
}

// A mark at the beginning is what the task wrote, too.
const decoder = () => new TextDecoder("utf-8", {ignoreBOM: true});
const line = ({seq, at}, stream, text) => ({stream, text, seq, at});

function bytes({text, base64}) {
  if (base64 === undefined) return new TextEncoder().encode(text);
  return Uint8Array.from(atob(base64), character => character.charCodeAt(0));
}
