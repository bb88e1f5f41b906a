// What the types allow, and what they refuse: checked, never run.

import {connect, Lines, Result, TaskbusError, type Bus, type JobState, type Line} from "taskbus";

export async function usage(bus: Bus): Promise<void> {
  const value: number = await bus.call("com.example.x", [1, {a: [null, "b"]}], {limit: undefined});
  await bus.call("com.example.x", [], {}, {
    timeout: 5, signal: AbortSignal.timeout(1), onProgress: ({fraction}) => console.log(fraction * 100),
  });
  const job: string = await bus.submit("com.example.x", [value], {}, {delay: 5, tags: ["a"], priority: "high"});
  for await (const {kind, data, seq} of bus.watch(job, {after: 3})) {
    const state: JobState | "progress" | "output" | "warning" | "cancelling" = kind;
    console.log(state, data.text, seq + 1);
  }
  const lines = new Lines();
  for await (const event of bus.watch(job)) lines.push(event).forEach(({text}: Line) => text.length);
  for await (const {stream, text, dropped} of bus.lines(job, {stream: "stderr"})) {
    console.log(stream === "stderr", text.length, dropped);
  }
  for await (const entry of bus.journal({kind: ["failed", "dead"], tag: "a"})) {
    console.log(entry.kind === "gap" ? entry.data.after : entry.uri);
  }
  for await (const jobs of bus.live({state: "running", limit: 20})) {
    console.log(jobs.map(({id, progress}) => [id, progress?.fraction]));
  }
  const waiting = bus.lines(job);
  await waiting.return();
  const {result, error} = await bus.job(job);
  console.log(result?.args[0], error?.message, error?.traceback?.length);
  const result_ = await bus.result(job);
  if (result_ instanceof Result) console.log(result_.args.length, result_.kwargs["total"]);
  try {
    await bus.replay(job, {args: [1], seq: 7});
  } catch (error) {
    if (error instanceof TaskbusError) console.log(error.uri, error.field, error.value, error.remedy);
  }

  const {one, other} = {} as {one?: AbortSignal; other?: string};
  await bus.submit("com.example.x", [], {other}, {signal: one, queue: other});
  await bus.jobs({signal: one, uri: other});

  // @ts-expect-error
  await bus.call("com.example.x", [1n]);
  // @ts-expect-error
  await bus.call("com.example.x", [() => 1]);
  // @ts-expect-error
  await bus.jobs({state: "runing"});
  // @ts-expect-error
  bus.state = "open";
  // @ts-expect-error
  await bus.submit("com.example.x", [], {}, {priority: "urgently"});
}

await usage(await connect({
  url: new URL("ws://127.0.0.1:9080/ws"),
  key: "tb_0_0",
  onState: (state, {error, retryIn}) => console.log(state === "lost", error?.uri, retryIn?.toFixed(1)),
}));
// @ts-expect-error
await connect({ticket: 7});
// @ts-expect-error
new Result();
// @ts-expect-error
new TaskbusError("a message");
