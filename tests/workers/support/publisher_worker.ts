/**
 * The program of a Worker that publishes: does what the message says, and answers what became of it.
 * May touch: the library as a user would, messages.
 */

import { attachPublisher, isQlasterError, type Publisher, type SenderShare, type Update } from "../../../mod.ts";

/** What a Worker is asked to do. */
export interface Task {
  readonly share: SenderShare;
  /** Which Worker this is: stands in each of its updates. */
  readonly number: number;
  readonly way: "attach" | "one by one" | "batches" | "feed" | "transactions" | "stop in a batch" | "feed nothing";
  /** Updates to publish; the next messages go on counting. Infinity: until it is ended. */
  readonly count: number;
}

/** What it answers: that it is attached, or has staged what it can, that it has done it, or what was thrown. */
export type Answer = { readonly at: "attached" | "staged" | "done" } | { readonly at: "error"; readonly code: string };

const scope = globalThis as unknown as {
  onmessage: (event: { data: Task }) => void;
  postMessage(answer: Answer): void;
};

const OWNER = new Uint8Array(32).fill(7);
const BATCH = 50;

let publisher: Publisher | undefined;
let published = 0;

/** The payload says whose update it is and which: two u32, then some bytes that vary in number. */
function payload(number: number, ordinal: number): Uint8Array {
  const bytes = new Uint8Array(8 + ordinal % 100);
  new Uint32Array(bytes.buffer, 0, 2).set([number, ordinal]);
  return bytes;
}

function update(number: number): Update {
  const ordinal = ++published;
  const pubkey = new Uint8Array(32).fill(number);
  return { kind: "account", pubkey, owner: OWNER, lamports: 1n, data: payload(number, ordinal), slot: 1n };
}

function transaction(number: number): Update {
  const ordinal = ++published;
  const signature = new Uint8Array(64);
  return { kind: "transaction", slot: 1n, index: ordinal, signature, message: payload(number, ordinal) };
}

async function publishOneByOne(to: Publisher, task: Task, create: (number: number) => Update): Promise<void> {
  for (const last = published + task.count; published < last;) {
    const next = create(task.number);
    while ((next.kind === "account" ? to.publishAccount(next) : to.publishTransaction(next as never)) === -1) {
      await to.drained();
    }
  }
}

async function publishBatches(to: Publisher, task: Task): Promise<void> {
  for (const last = published + task.count; published < last;) {
    let batch = Array.from({ length: Math.min(BATCH, last - published) }, () => update(task.number));
    while (batch.length > 0) {
      try {
        to.publishBatch(batch);
        batch = [];
      } catch (error) {
        if (!isQlasterError(error, "SENDER_CONGESTED")) throw error;
        batch = batch.slice(error.published);
        await to.drained();
      }
    }
  }
}

async function* source(task: Task): AsyncGenerator<Update> {
  for (const last = published + task.count; published < last;) yield update(task.number);
}

/** Publishes some, and never comes back: only `terminate()` ends it, with the updates staged. */
function* endless(task: Task): Generator<Update> {
  for (let i = 0; i < task.count; i++) yield update(task.number);
  scope.postMessage({ at: "staged" });
  while (true);
}

// deno-lint-ignore require-yield
async function* nothing(): AsyncGenerator<Update> {
  scope.postMessage({ at: "staged" }); // all there is: the feed waits
  await new Promise(() => {});
}

async function work(task: Task): Promise<void> {
  if (publisher === undefined) {
    publisher = await attachPublisher(task.share);
    scope.postMessage({ at: "attached" });
  }
  switch (task.way) {
    case "attach":
      return;
    case "one by one":
      return await publishOneByOne(publisher, task, update);
    case "transactions":
      return await publishOneByOne(publisher, task, transaction);
    case "batches":
      return await publishBatches(publisher, task);
    case "feed":
      return await publisher.feed(source(task));
    case "feed nothing":
      return await publisher.feed(nothing());
    case "stop in a batch":
      return void publisher.publishBatch(endless(task));
  }
}

scope.onmessage = async ({ data }) => {
  try {
    await work(data);
    scope.postMessage({ at: "done" });
  } catch (error) {
    scope.postMessage({ at: "error", code: (error as { code?: string }).code ?? String(error) });
  }
};
