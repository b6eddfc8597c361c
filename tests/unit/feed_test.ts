/**
 * feed(): when it commits, how it ends, what it leaves behind. Its sender is a fake that writes a log.
 * May touch: a fake Stage, sources made here. May not touch: rings. No test waits for time to pass.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { feed, type Stage } from "../../src/stream/feed.ts";
import type { Update } from "../../src/types.ts";
import { CountedSignal } from "./support/counted_signal.ts";
import { slotUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const BATCH_MAX = 256;

/** Writes down what the feed does: slots staged, and "|" for a commit that made something visible. */
class FakeStage implements Stage {
  readonly log: (number | "|")[] = [];
  commits = 0;
  failAt = -1;

  stage(update: Update): boolean {
    const slot = Number(update.slot);
    if (slot === this.failAt) throw new TypeError("a bad update");
    this.log.push(slot);
    return true;
  }
  commit(): boolean {
    this.commits++;
    if (this.log.length > 0 && this.log.at(-1) !== "|") this.log.push("|");
    return true;
  }
}

/** Has room for so many at a time, and makes room when somebody waits for it. */
class NarrowStage extends FakeStage {
  waits = 0;
  #staged = 0;
  #room = 3;

  override stage(update: Update): boolean {
    // Like a batch: what it has not handed over may turn out to have no room.
    if (this.#staged === 2 && !this.commit()) return false;
    super.stage(update);
    this.#staged++;
    return true;
  }
  override commit(): boolean {
    const fits = Math.min(this.#staged, this.#room);
    this.#staged -= fits;
    this.#room -= fits;
    return super.commit() && this.#staged === 0;
  }
  drained(): Promise<void> {
    this.waits++;
    this.#room = 3;
    return Promise.resolve();
  }
  /** What was taken and did not go out. */
  get left(): number {
    return this.#staged;
  }
}

/** A test for which no time passes, so that no turn of the event loop is due however slow the machine is. */
function testAtOnce(name: string, body: () => Promise<void>): void {
  test(name, async () => {
    const now = performance.now;
    performance.now = () => 0;
    try {
      await body();
    } finally {
      performance.now = now;
    }
  });
}

const slots = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => slotUpdate({ slot: BigInt(from + i) }));

test("feed() commits what it has before the source makes it wait", async () => {
  const stage = new FakeStage();
  const gate = Promise.withResolvers<void>();
  let atGate: unknown;
  async function* source() {
    yield* slots(1, 3);
    await gate.promise;
    atGate = [...stage.log];
    yield* slots(4, 5);
  }
  const fed = feed(stage, source(), []);
  const staged = () => stage.log.filter((entry) => entry !== "|").length;
  await until(() => staged() === 3 && stage.log.at(-1) === "|", "a commit of all three");
  gate.resolve();
  await within(fed, "the end");
  // On a busy machine a turn of the event loop may be due, and so a commit, between any two.
  const seen = atGate as unknown[];
  assert.deepEqual(seen.filter((entry) => entry !== "|"), [1, 2, 3]);
  assert.equal(seen.at(-1), "|");
  assert.deepEqual(stage.log.filter((entry) => entry !== "|"), [1, 2, 3, 4, 5]);
  assert.equal(stage.log.at(-1), "|");
});

testAtOnce("feed() does not commit again and again while it waits, nor before anything came", async () => {
  const stage = new FakeStage();
  const gate = Promise.withResolvers<void>();
  async function* source() {
    await gate.promise;
    yield slotUpdate({ slot: 1n });
  }
  const fed = feed(stage, source(), []);
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(stage.commits, 0);
  gate.resolve();
  await within(fed, "the end");
  assert.deepEqual([stage.log, stage.commits], [[1, "|"], 1]);
});

test("feed() makes batches of 256 of a source that always has something, one by one or in lists", async () => {
  const all = slots(1, 600);
  async function* singles() {
    yield* all;
  }
  async function* lists() {
    yield all.slice(0, 10);
    yield [];
    yield all.slice(10, 599);
    yield all[599]!;
  }
  for (const source of [singles(), lists()]) {
    const stage = new FakeStage();
    await within(feed(stage, source, []), "the end");
    assert.deepEqual(stage.log.filter((entry) => entry !== "|"), numbers(1, 600));
    // The event loop's turn every few milliseconds may commit earlier still.
    for (let from = 0; from < stage.log.length;) {
      const commit = stage.log.indexOf("|", from);
      assert.ok(commit >= from && commit - from <= 256, `a batch of more than 256 at ${from}`);
      from = commit + 1;
    }
  }
});

test("feed() lets timers run although its source never makes it wait", async () => {
  const stage = new FakeStage();
  const abort = new AbortController();
  async function* endless() {
    for (let slot = 1;; slot++) yield slotUpdate({ slot: BigInt(slot) });
  }
  setTimeout(() => abort.abort(), 20);
  await within(feed(stage, endless(), [abort.signal]), "the end");
  assert.ok(stage.log.length > 0);
});

function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

testAtOnce("feed() does not commit a batch of exactly 256 twice", async () => {
  const stage = new FakeStage();
  async function* source() {
    yield slots(1, BATCH_MAX);
  }
  await within(feed(stage, source(), []), "the end");
  assert.deepEqual(stage.log, [...numbers(1, BATCH_MAX), "|"]);
});

testAtOnce(
  "feed() ends without an error when a signal is aborted while the source is pending, and calls return()",
  async () => {
    for (const which of [0, 1]) {
      const stage = new FakeStage();
      const signals = [new CountedSignal(), new CountedSignal()];
      const pending = Promise.withResolvers<IteratorResult<Update>>();
      let returned = 0;
      let asked = 0;
      const source: AsyncIterable<Update> = {
        [Symbol.asyncIterator]: () => ({
          next: () =>
            ++asked === 1 ? Promise.resolve({ value: slotUpdate({ slot: 1n }), done: false }) : pending.promise,
          return: () => {
            returned++;
            return new Promise(() => {}); // a source that hangs does not hang us
          },
        }),
      };
      const fed = feed(stage, source, signals.map((each) => each.signal));
      await until(() => stage.log.includes("|"), "a commit");
      signals[which]!.abort();
      await within(fed, "the end");
      pending.resolve({ value: slotUpdate({ slot: 2n }), done: false });
      await turn();
      assert.deepEqual(stage.log, [1, "|"], "what comes afterwards is not taken");
      assert.deepEqual([returned, signals.map((each) => each.listeners)], [1, [0, 0]]);
    }
  },
);

test("feed() takes nothing of a source when a signal is aborted already", async () => {
  const stage = new FakeStage();
  let asked = 0;
  const source: AsyncIterable<Update> = {
    [Symbol.asyncIterator]: () => ({
      next: () => {
        asked++;
        return Promise.resolve({ value: slotUpdate(), done: false });
      },
    }),
  };
  await within(feed(stage, source, [AbortSignal.abort()]), "the end");
  assert.deepEqual([asked, stage.log], [0, []]);
});

test("feed() ends when a signal is aborted although the source never waits", async () => {
  const stage = new FakeStage();
  const controller = new AbortController();
  let isReturned = false;
  async function* source() {
    try {
      for (let i = 1; true; i++) {
        if (i === 1000) controller.abort();
        yield slotUpdate({ slot: BigInt(i) });
      }
    } finally {
      isReturned = true;
    }
  }
  await within(feed(stage, source(), [controller.signal]), "the end");
  await turn();
  assert.equal(isReturned, true);
  assert.equal(stage.log.filter((entry) => entry !== "|").length, 999);
  assert.equal(stage.log.at(-1), "|");
});

testAtOnce("feed() throws what the source throws, what came before being committed", async () => {
  const failure = new Error("the source broke");
  async function* midway() {
    yield* slots(1, 2);
    throw failure;
  }
  const sources: AsyncIterable<Update>[] = [midway(), {
    [Symbol.asyncIterator]: () => {
      let asked = 0;
      return {
        next: () => {
          if (++asked > 2) throw failure; // not even a promise
          return Promise.resolve({ value: slotUpdate({ slot: BigInt(asked) }), done: false });
        },
      };
    },
  }];
  for (const source of sources) {
    const stage = new FakeStage();
    const signal = new CountedSignal();
    await assert.rejects(within(feed(stage, source, [signal.signal]), "the end"), failure);
    assert.deepEqual([stage.log, signal.listeners], [[1, 2, "|"], 0]);
  }
});

testAtOnce(
  "feed() throws what an update throws, what came before being committed, and lets the source go",
  async () => {
    const stage = new FakeStage();
    stage.failAt = 3;
    let isReturned = false;
    async function* source() {
      try {
        yield slots(1, 5);
      } finally {
        isReturned = true;
      }
    }
    await assert.rejects(within(feed(stage, source(), []), "the end"), { name: "TypeError", message: "a bad update" });
    await turn();
    assert.deepEqual([stage.log, isReturned], [[1, 2, "|"], true]);
  },
);

testAtOnce("feed() ends as it ends, whatever return() does", async () => {
  const returns: (() => Promise<IteratorResult<Update>>)[] = [
    () => Promise.reject(new Error("return() rejects")),
    () => {
      throw new Error("return() throws");
    },
    () => undefined as unknown as Promise<IteratorResult<Update>>,
  ];
  for (const each of returns) {
    const stage = new FakeStage();
    const controller = new AbortController();
    const source: AsyncIterable<Update> = {
      [Symbol.asyncIterator]: () => ({
        next: () => {
          controller.abort();
          return new Promise(() => {});
        },
        return: each,
      }),
    };
    await within(feed(stage, source, [controller.signal]), "the end");
  }
});

testAtOnce("feed() takes a source without return()", async () => {
  const stage = new FakeStage();
  let asked = 0;
  const source: AsyncIterable<Update> = {
    [Symbol.asyncIterator]: () => ({
      next: () =>
        Promise.resolve(
          ++asked === 1 ? { value: slotUpdate({ slot: 1n }), done: false } : { value: undefined, done: true },
        ),
    }),
  };
  await within(feed(stage, source, []), "the end");
  assert.deepEqual(stage.log, [1, "|"]);
});

test("feed() listens to each signal once, however many updates come, and leaves no listener", async () => {
  const stage = new FakeStage();
  const signals = [new CountedSignal(), new CountedSignal()];
  async function* source() {
    for (let i = 0; i < 3000; i++) {
      if (i % 100 === 0) await turn(); // pending now and then
      yield slotUpdate({ slot: BigInt(i) });
      assert.deepEqual(signals.map((each) => each.listeners), [1, 1]);
    }
  }
  await within(feed(stage, source(), signals.map((each) => each.signal)), "the end");
  assert.equal(stage.log.filter((entry) => entry !== "|").length, 3000);
  assert.deepEqual(signals.map((each) => [each.added, each.listeners]), [[1, 0], [1, 0]]);
});

testAtOnce("feed() asks for the next only after it has taken the one before", async () => {
  const stage = new FakeStage();
  let pending = 0;
  let asked = 0;
  const source: AsyncIterable<Update> = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        assert.equal(++pending, 1);
        await turn();
        pending--;
        return ++asked <= 20
          ? { value: slotUpdate({ slot: BigInt(asked) }), done: false }
          : { value: undefined, done: true };
      },
    }),
  };
  await within(feed(stage, source, []), "the end");
  assert.deepEqual(stage.log, numbers(1, 20).flatMap((n) => [n, "|"]));
});

testAtOnce("feed() waits for room wherever there is none, and loses nothing of what it took", async () => {
  const failure = new Error("a source that broke");
  async function* source(ending: string) {
    yield slots(1, 5);
    yield* slots(6, 8);
    if (ending === "pause") await turn();
    if (ending === "throw") throw failure;
    if (ending === "bad update") yield slotUpdate({ slot: 9n });
  }
  for (const ending of ["end", "pause", "throw", "bad update"]) {
    const stage = new NarrowStage();
    if (ending === "bad update") stage.failAt = 9;
    const fed = feed(stage, source(ending), []);
    if (ending === "throw") await assert.rejects(fed, failure);
    else if (ending === "bad update") await assert.rejects(fed, TypeError);
    else await within(fed, "the end");
    assert.deepEqual(stage.log.filter((entry) => entry !== "|"), numbers(1, 8), ending);
    assert.deepEqual([stage.left, stage.waits], [0, 2], ending);
  }
});

testAtOnce("feed() that is aborted while it waits for room leaves what it took, and asks no more", async () => {
  const stage = new NarrowStage();
  const controller = new AbortController();
  stage.drained = () => {
    controller.abort();
    return new Promise(() => {});
  };
  async function* source() {
    yield slots(1, 5);
  }
  await within(feed(stage, source(), [controller.signal]), "the end");
  assert.deepEqual(stage.log.filter((entry) => entry !== "|"), numbers(1, 4));
  assert.equal(stage.left, 1);
});
