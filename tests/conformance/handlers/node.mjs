// The conformance suite's handler in Node, on npm's autobahn: see tests/conformance/suite.py.
// node node.mjs URL PREFIX, and an access key on stdin. Writes a line once it is registered.

import autobahn from "autobahn";
import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const [url, prefix] = process.argv.slice(2);
const key = readFileSync(0, "utf8").trim();
const FAILED = "taskbus.error.task_failed";

const procedures = {
  give: (args, kwargs) => new autobahn.Result(args, kwargs),
  told: (args, kwargs, details) => new autobahn.Result([details.procedure, details.caller_authid]),
  fail: ([uri, message], about) => {
    throw new autobahn.Error(uri ?? FAILED, [message], about);
  },
  async steps([pipe, ...messages], kwargs, details) {
    const goOn = await open(pipe, "r");
    try {
      for (const [number, message] of messages.entries()) {
        details.progress([{ fraction: (number + 1) / messages.length, message }]);
        await goOn.read(Buffer.alloc(1), 0, 1);
      }
    } finally {
      await goOn.close();
    }
    return messages.length;
  },
};

const connection = new autobahn.Connection({
  url,
  realm: "realm1",
  authid: key.split("_")[1],
  authmethods: ["ticket"],
  onchallenge: () => key,
});
connection.onopen = async (session) => {
  for (const [name, run] of Object.entries(procedures)) {
    await session.register(`${prefix}.${name}`, run);
  }
  console.log("registered");
};
connection.onclose = (reason, details) => {
  console.log(reason, JSON.stringify(details));
  process.exit(1);
};
connection.open();
