// JSON as people type it: a mistake is told with its line, its column and its place in the value.
// The browser's own parser names neither, and rounds large numbers in silence.

import type { Json } from "taskbus";

const DEEPEST = 100;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;
const PLAIN_NAME = /^[A-Za-z_]\w*$/;
const ESCAPES: Record<string, string> = {
  '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t",
};

export class JsonProblem extends Error {
  readonly line: number;
  readonly column: number;

  constructor(problem: string, place: string, text: string, at: number) {
    const before = text.slice(0, at).split("\n");
    const line = before.length;
    const column = before[line - 1]!.length + 1;
    super(`line ${line}, column ${column}${place ? `, at ${place}` : ""}: ${problem}`);
    this.line = line;
    this.column = column;
  }
}

/** The value of a JSON text; `name` is what it is called in messages. Throws JsonProblem. */
export function parseJson(text: string, name: string): Json {
  return new Parser(text, name).whole();
}

/** As JSON for reading and editing. */
export function prettyJson(value: unknown): string {
  const short = JSON.stringify(value);
  if (short === undefined) return "";
  return short.length <= 72 ? spaced(short, value) : JSON.stringify(value, null, 2);
}

function spaced(short: string, value: unknown): string {
  const isFlat = typeof value !== "object" || value === null || Object.values(value).every(isScalar);
  if (!isFlat) return JSON.stringify(value, null, 2);
  if (isScalar(value)) return short;
  const members = Array.isArray(value)
    ? value.map((one) => JSON.stringify(one))
    : Object.entries(value as object).map(([key, one]) => `${JSON.stringify(key)}: ${JSON.stringify(one)}`);
  return Array.isArray(value) ? `[${members.join(", ")}]` : `{${members.join(", ")}}`;
}

function isScalar(value: unknown): boolean {
  return typeof value !== "object" || value === null;
}

class Parser {
  #at = 0;
  readonly #text: string;
  readonly #path: string[];

  constructor(text: string, name: string) {
    this.#text = text;
    this.#path = [name];
  }

  whole(): Json {
    const value = this.#value();
    this.#skip();
    if (this.#at < this.#text.length) this.#fail(`${this.#found()} after the end of the value`);
    return value;
  }

  #value(): Json {
    this.#skip();
    if (this.#path.length > DEEPEST) this.#fail(`nested deeper than ${DEEPEST}`);
    const text = this.#text;
    switch (text[this.#at]) {
      case "{": return this.#object();
      case "[": return this.#array();
      case '"': return this.#string();
    }
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const) {
      if (text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    }
    return this.#number();
  }

  #object(): Json {
    const found: { [name: string]: Json } = {};
    this.#at++;
    if (this.#takes("}")) return found;
    do {
      this.#skip();
      if (this.#text[this.#at] !== '"') this.#fail(`a name in double quotes is missing, ${this.#found()}`);
      const start = this.#at;
      const name = this.#string();
      if (Object.hasOwn(found, name)) this.#fail(`the name ${JSON.stringify(name)} is there twice`, start);
      this.#path.push(PLAIN_NAME.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`);
      if (!this.#takes(":")) this.#fail(`a colon is missing, ${this.#found()}`);
      // As an own property, whatever its name: __proto__ would be lost.
      Object.defineProperty(found, name, {
        value: this.#value(), configurable: true, enumerable: true, writable: true,
      });
      this.#path.pop();
    } while (this.#takes(","));
    if (!this.#takes("}")) this.#fail(`a comma or } is missing, ${this.#found()}`);
    return found;
  }

  #array(): Json {
    const found: Json[] = [];
    this.#at++;
    if (this.#takes("]")) return found;
    do {
      this.#path.push(`[${found.length}]`);
      found.push(this.#value());
      this.#path.pop();
    } while (this.#takes(","));
    if (!this.#takes("]")) this.#fail(`a comma or ] is missing, ${this.#found()}`);
    return found;
  }

  #string(): string {
    const text = this.#text;
    const start = this.#at++;
    let found = "";
    for (;;) {
      const char = text[this.#at];
      if (char === undefined) this.#fail("the text does not end: a double quote is missing", start);
      if (char === '"') break;
      if (char < " ") this.#fail("a line break or control character in a text: write \\n and the like");
      this.#at++;
      found += char === "\\" ? this.#escape() : char;
    }
    this.#at++;
    if (!found.isWellFormed()) this.#fail("half of a character: both halves of \\ud83d\\ude00 are needed", start);
    return found;
  }

  #escape(): string {
    const char = this.#text[this.#at++] ?? "";
    const plain = ESCAPES[char];
    if (plain !== undefined) return plain;
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (char !== "u" || !/^[0-9a-fA-F]{4}$/.test(digits)) {
      this.#fail('after a backslash stands one of "\\/bfnrt, or u and four hex digits', this.#at - 2);
    }
    this.#at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  #number(): number {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text);
    if (!match) this.#fail(`a value is missing, ${this.#found()}`);
    const value = Number(match[0]);
    if (!Number.isFinite(value)) this.#fail("a number too large to be sent");
    if (!match[1] && !match[2] && !Number.isSafeInteger(value)) {
      this.#fail("a whole number beyond 2^53, which a browser rounds: send it as a text, or from elsewhere");
    }
    this.#at = NUMBER.lastIndex;
    return value;
  }

  #takes(char: string): boolean {
    this.#skip();
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #skip(): void {
    SPACE.lastIndex = this.#at;
    SPACE.exec(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #found(): string {
    const word = /^[A-Za-z_]\w*|^./su.exec(this.#text.slice(this.#at, this.#at + 40))?.[0];
    return word === undefined ? "but the text ends" : `found ${word}`;
  }

  #fail(problem: string, at = this.#at): never {
    throw new JsonProblem(problem, this.#path.join(""), this.#text, at);
  }
}
