/**
 * The queue behind a loop: its order, its bound, its ends.
 * May touch: the queue alone.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../../src/kit/queue.ts";

function queueOf(max: number, conflates = false) {
  const left: string[] = [];
  const queue = new Queue<string>({
    max,
    conflates,
    onLeave: () => void left.push("left"),
    overrun: () => new Error("overrun"),
  });
  return { queue, left };
}

async function drain(queue: Queue<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const value of queue) all.push(value);
  return all;
}

test("it hands out in order what came before, what comes, and then the end", async () => {
  const { queue, left } = queueOf(10);
  queue.push("k", "a");
  queue.push("k", "b");
  const all = drain(queue);
  await Promise.resolve();
  queue.push("k", "c");
  queue.end();
  queue.push("k", "after the end");
  assert.deepEqual([await all, left], [["a", "b", "c"], ["left"]]);
});

test("leaving the loop tells who fills it, once, and drops what waits", async () => {
  const { queue, left } = queueOf(10);
  for (const value of ["a", "b", "c"]) queue.push("k", value);
  for await (const value of queue) {
    assert.equal(value, "a");
    break;
  }
  queue.end();
  assert.deepEqual([left, queue.length, await drain(queue)], [["left"], 0, []]);
});

test("an error comes behind what waits, once", async () => {
  const { queue } = queueOf(10);
  queue.push("k", "a");
  queue.fail(new Error("gone"));
  const reader = queue[Symbol.asyncIterator]();
  assert.deepEqual(await reader.next(), { value: "a", done: false });
  await assert.rejects(reader.next(), /gone/);
  assert.deepEqual(await reader.next(), { value: undefined, done: true });
});

test("who already waits gets the error, and the end", async () => {
  const { queue, left } = queueOf(10);
  const reader = queue[Symbol.asyncIterator]();
  const asked = reader.next();
  await assert.rejects(reader.next(), TypeError); // one loop at a time
  queue.fail(new Error("gone"));
  await assert.rejects(asked, /gone/);
  assert.deepEqual([await reader.next(), left], [{ value: undefined, done: true }, ["left"]]);
});

test("at its bound it fails, or the newest of a key takes the last one's place", async () => {
  const strict = queueOf(2);
  for (const value of ["a", "b", "c", "d"]) strict.queue.push("k", value);
  await assert.rejects(drain(strict.queue), /overrun/);

  const { queue } = queueOf(3, true);
  for (const value of ["a1", "b1", "a2", "a3", "b2"]) queue.push(value[0], value);
  assert.deepEqual(queue.length, 3);
  queue.push("c", "c1"); // nothing gives way
  const seen: string[] = [];
  await assert.rejects(async () => {
    for await (const value of queue) seen.push(value);
  }, /overrun/);
  assert.deepEqual(seen, ["a1", "a3", "b2"]);
});
