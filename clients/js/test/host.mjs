// Runs functions for a test that is not JavaScript: each line on stdin is {"source", "args"}, each
// answer a line on stdout. A web page of the same test has the same `taskbus` and `outcome`.

import {createInterface} from "node:readline";

import * as taskbus from "taskbus";

import {outcome} from "./outcome.js";

globalThis.taskbus = taskbus;

for await (const line of createInterface({input: process.stdin})) {
  const {source, args} = JSON.parse(line);
  console.log(JSON.stringify(await outcome(() => (0, eval)(`(${source})`)(...args))));
}
