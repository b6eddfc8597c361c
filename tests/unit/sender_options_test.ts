/**
 * setupSender(): what it refuses, where it listens, what it leaves behind.
 * May touch: the public API, a temporary directory. May not touch: consumers.
 *
 * @module
 */

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type SenderOptions, setupSender } from "../../mod.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";

test("setupSender() refuses an option out of range, names it, and leaves nothing at the path", async () => {
  await using place = new Place();
  const rows: [options: Partial<Record<keyof SenderOptions, unknown>>, name: string, message: RegExp][] = [
    [{ path: "" }, "TypeError", /path must be a non-empty string/],
    [{ path: undefined }, "TypeError", /path must be/],
    [{ path: 7 }, "TypeError", /path must be/],
    [{ ringCapacityBytes: 65535 }, "RangeError", /ringCapacityBytes must be .* not 65535/],
    [{ ringCapacityBytes: 2 ** 31 }, "RangeError", /ringCapacityBytes must be/],
    [{ ringCapacityBytes: 65536 + 8 }, "RangeError", /ringCapacityBytes must be a power of two, 65544 is not/],
    [{ ringCapacityBytes: 98304 }, "RangeError", /power of two/],
    [{ ringCapacityBytes: NaN }, "RangeError", /ringCapacityBytes/],
    [{ ringCapacityBytes: "65536" }, "RangeError", /ringCapacityBytes/],
    [{ memoryMaxBytes: -1 }, "RangeError", /memoryMaxBytes/],
    [
      { ringCapacityBytes: 65536, memoryMaxBytes: 3 * 65536 - 1, poolBytes: 0 },
      "RangeError",
      /memoryMaxBytes has no room .* 196608 bytes .rings 196608., the limit is 196607: raise memoryMaxBytes/,
    ],
    [{ memoryMaxBytes: 0.5 }, "RangeError", /memoryMaxBytes/],
    [{ memoryMaxBytes: Infinity }, "RangeError", /memoryMaxBytes/],
    [{ consumersMax: 0 }, "RangeError", /consumersMax must be .* 1 to 1024, not 0/],
    [{ consumersMax: 1025 }, "RangeError", /consumersMax/],
    [{ handshakeTimeoutMs: 0 }, "RangeError", /handshakeTimeoutMs/],
    [{ handshakeTimeoutMs: 1.5 }, "RangeError", /handshakeTimeoutMs/],
    [{ uids: [-1] }, "RangeError", /uids/],
    [{ uids: [0, 2 ** 32] }, "RangeError", /uids/],
    [{ v9: { slotsMax: 0 } }, "RangeError", /v9.slotsMax must be .* 1 to 255, not 0/],
    [{ v9: { slotsMax: 256 } }, "RangeError", /v9.slotsMax/],
    [{ v9: { idleTimeoutMs: 0 } }, "RangeError", /v9.idleTimeoutMs/],
    [{ v9: { ring: "shm" } }, "TypeError", /v9.ring must be "memfd" or "file", not shm/],
    [{ v9: { ringDirectory: "" } }, "TypeError", /v9.ringDirectory must be a non-empty string/],
    [{ v9: { ringDirectory: "/a\0b" } }, "TypeError", /v9.ringDirectory/],
    [{ v9: { ringDirectory: `/${"x".repeat(950)}` } }, "RangeError", /v9.ringDirectory must be .* 1 to 950, not 951/],
    [{ v9: { slotStatuses: ["done"] } }, "TypeError", /Each of v9.slotStatuses must be one of processed, .* not done/],
    [{ path: `${place.path}\0` }, "RangeError", /an argument is out of range/],
    [{ path: join(place.directory, "x".repeat(100)) }, "RangeError", /the path has too many bytes/],
  ];
  for (const [options, name, message] of rows) {
    await assert.rejects(
      setupSender({ path: place.path, ...options } as SenderOptions),
      { name, message },
      JSON.stringify(options),
    );
  }
  assert.deepEqual(readdirSync(place.directory), []);
});

test("setupSender() takes the ends of each range", async () => {
  await using place = new Place();
  let ringDirectory = place.directory;
  while (ringDirectory.length < 950) ringDirectory += `/${"x".repeat(Math.min(200, 949 - ringDirectory.length))}`;
  const rows: Partial<SenderOptions>[] = [
    { ringCapacityBytes: 65536 },
    { ringCapacityBytes: 2 ** 30 },
    { ringCapacityBytes: 65536, memoryMaxBytes: 3 * 65536, poolBytes: 0, consumersMax: 1 },
    { handshakeTimeoutMs: 1, uids: [] },
    {
      memoryMaxBytes: Number.MAX_SAFE_INTEGER,
      consumersMax: 1024,
      handshakeTimeoutMs: 3_600_000,
      uids: [0, 2 ** 32 - 1],
      timings: true,
      v9: { slotsMax: 255, idleTimeoutMs: 86_400_000, slotStatuses: [], ring: "memfd", sharedTokens: true },
    },
    { v9: { slotsMax: 1, idleTimeoutMs: 1, ring: "file", ringDirectory } },
    { v9: false },
  ];
  for (const options of rows) {
    await using sender = await setupSender({ path: place.path, ...options });
    assert.equal(sender.path, place.path);
    assert.equal(sender.metrics.memoryBytes, 0, "memory is taken per consumer");
  }
});

test("setupSender() refuses a path where another sender lives, and takes it once that is closed", async () => {
  await using place = new Place();
  const first = await place.sender();
  await assert.rejects(place.sender(), { code: "SENDER_PATH_IN_USE", message: new RegExp(place.path) });
  await first.close();
  await place.sender();
});

test("setupSender() refuses a path where something else stands, and does not remove it", async () => {
  await using place = new Place();
  writeFileSync(place.path, "mine");
  await assert.rejects(place.sender(), { code: "SENDER_PATH_NOT_SOCKET" });
  assert.deepEqual(readdirSync(place.directory), ["s.sock"]);
});

test("setupSender() refuses a directory that others may write to, and makes a private one where there is none", async () => {
  await using place = new Place();
  const unsafe = join(place.directory, "unsafe");
  mkdirSync(unsafe);
  chmodSync(unsafe, 0o777);
  await assert.rejects(setupSender({ path: join(unsafe, "s.sock") }), { code: "SENDER_DIRECTORY_UNSAFE" });
  const fresh = join(place.directory, "fresh");
  await using sender = await setupSender({ path: join(fresh, "s.sock"), ringCapacityBytes: CAPACITY_BYTES });
  assert.equal(statSync(fresh).mode & 0o777, 0o700);
  assert.ok(statSync(sender.path).isSocket());
  assert.equal(statSync(sender.path).mode & 0o777, 0o600);
  await assert.rejects(setupSender({ path: join(place.directory, "no", "such", "s.sock") }), {
    code: "SYSTEM",
    message: /ENOENT/,
  });
});

test("Sender.close() removes socket and lock, and may be called twice", async () => {
  await using place = new Place();
  const sender = await place.sender();
  assert.ok(existsSync(place.path));
  await sender.close();
  await sender.close();
  await sender[Symbol.asyncDispose]();
  assert.deepEqual(readdirSync(place.directory), []);
});

test("a closed sender refuses to publish, and still tells what it did", async () => {
  await using place = new Place();
  const sender = await place.sender();
  sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
  await sender.close();
  const closed = { code: "SENDER_CLOSED", message: new RegExp(place.path) };
  const slot = { kind: "slot", slot: 2n, parent: 1n, status: "processed" } as const;
  async function* source() {
    yield slot;
  }
  assert.throws(() => sender.publishSlot(slot), closed);
  assert.throws(() => sender.publishAccount({} as never), closed);
  assert.throws(() => sender.publishTransaction({} as never), closed);
  assert.throws(() => sender.publishBatch([]), closed);
  assert.throws(() => void sender.feed(source()), closed);
  assert.deepEqual(sender.consumers(), []);
  assert.deepEqual([sender.metrics.slots, sender.metrics.sequence], [1, 1n]);
});
