import assert from "node:assert/strict";
import { test } from "node:test";

import { parseJson, prettyJson } from "../src/text/json.ts";
import { duration, relative } from "../src/text/time.ts";
import { lastWritten, visible } from "../src/text/visible.ts";

const GOOD = [
  "null", "true", "-1", "1e3", "0.5", '""', '"\\u00e9\\ud83d\\ude00\\n"', "[]", "{}", " [1, [2, {}]] ",
  '{"a": {"b c": [null]}, "__proto__": 1}', "9007199254740991", '"\u2028"',
];
const BAD: [text: string, told: string][] = [
  ["", "line 1, column 1, at x: a value is missing, but the text ends"],
  ["[1,\n  2,]", "line 2, column 5, at x[2]: a value is missing, found ]"],
  ["[1 2]", "line 1, column 4, at x: a comma or ] is missing, found 2"],
  ['{"a b": {"c": tru}}', 'line 1, column 15, at x["a b"].c: a value is missing, found tru'],
  ["{a: 1}", "line 1, column 2, at x: a name in double quotes is missing, found a"],
  ['{"a" 1}', "line 1, column 6, at x.a: a colon is missing, found 1"],
  ['{"a": 1, "a": 2}', 'line 1, column 10, at x: the name "a" is there twice'],
  ["[1] 2", "line 1, column 5, at x: found 2 after the end of the value"],
  ["[01]", "line 1, column 3, at x: a comma or ] is missing, found 1"],
  ["'a'", "line 1, column 1, at x: a value is missing, found '"],
  ['"a', "line 1, column 1, at x: the text does not end: a double quote is missing"],
  ['"a\nb"', "line 1, column 3, at x: a line break or control character in a text: write \\n and the like"],
  ['"\\x"', 'line 1, column 2, at x: after a backslash stands one of "\\/bfnrt, or u and four hex digits'],
  ['"\\ud800"', "line 1, column 1, at x: half of a character: both halves of \\ud83d\\ude00 are needed"],
  ["1e999", "line 1, column 1, at x: a number too large to be sent"],
  ["[9007199254740993]", "line 1, column 2, at x[0]: a whole number beyond 2^53, which a browser rounds: send it as a text, or from elsewhere"],
  ["[".repeat(200), "line 1, column 101, at x" + "[0]".repeat(100) + ": nested deeper than 100"],
];

for (const text of GOOD) {
  test(`JSON ${text}`, () => {
    assert.deepEqual(parseJson(text, "x"), JSON.parse(text));
    assert.deepEqual(JSON.parse(prettyJson(parseJson(text, "x"))), JSON.parse(text));
  });
}
for (const [text, told] of BAD) {
  test(`no JSON ${text.slice(0, 20)}`, () => assert.throws(() => parseJson(text, "x"), { message: told }));
}

test("a name like a hidden property is an ordinary one", () => {
  assert.deepEqual(Object.keys(parseJson('{"__proto__": 1}', "x") as object), ["__proto__"]);
});

test("terminals' sequences are left out, what hides or turns text is shown", () => {
  assert.equal(visible("a\tb\nc é 😀"), "a\tb\nc é 😀");
  assert.equal(visible("\u001b[1;31mred\u001b[0m \u001b]8;;http://x\u0007link\u001b]8;;\u001b\\ \u001b(B\u001bcend"), "red link end");
  assert.equal(visible("\u0000\u0007\u007f\u0085\u202e\u2066\ufeff"), "␀␇␡⟨0085⟩⟨202e⟩⟨2066⟩⟨feff⟩");
  assert.equal(visible("\u001b["), "␛[");
});

test("a carriage return begins the line anew", () => {
  assert.equal(lastWritten("10 %\r50 %\r"), "50 %");
  assert.equal(lastWritten(""), "");
});

test("times are told as people do", () => {
  assert.deepEqual([0, 0.9, 59, 61, 7200, 90000].map((ago) => relative(0, ago)), ["now", "now", "59 s ago", "1 min ago", "2 h ago", "1 d ago"]);
  assert.equal(relative(90, 0), "in 1 min");
  assert.deepEqual([-1, 0.0123, 9.96, 80, 3700, 100000].map(duration), ["0.000 s", "0.012 s", "10.0 s", "1 min 20 s", "1 h 1 min", "1 d 3 h"]);
});
