/**
 * When the next attempt is made: pauses, their bounds, and what ends the trying. No clock but the one that is counted.
 * May touch: src/stream/reconnect.ts. May not touch: sockets.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { QlasterError } from "../../mod.ts";
import { Backoff, isFinal, Pause, RECONNECT_DEFAULTS, tryUntilConnected } from "../../src/stream/reconnect.ts";
import type { Clock } from "../../src/native/clock.ts";
import { within } from "./support/watchdog.ts";

const refused = new QlasterError("CONNECT_NO_SENDER", "Cannot connect");
const QUICK = { ...RECONNECT_DEFAULTS, minMs: 1, maxMs: 2 };

test("Backoff: pauses double up to the longest, each shortened by up to a half", () => {
  const longest = new Backoff(RECONNECT_DEFAULTS, () => 0);
  assert.deepEqual(Array.from({ length: 9 }, () => longest.next()), [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
  const shortest = new Backoff(RECONNECT_DEFAULTS, () => 1);
  assert.deepEqual(Array.from({ length: 9 }, () => shortest.next()), [5, 10, 20, 40, 80, 160, 320, 500, 500]);
});

test("Backoff: a sender that drops everybody at once is asked at most twice a second, however it goes on", () => {
  // An hour in virtual time: each connection succeeds, and ends before it has lasted for settledMs.
  fc.assert(
    fc.property(fc.infiniteStream(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(9999))), (stream) => {
      let random = 0;
      const backoff = new Backoff(RECONNECT_DEFAULTS, () => random);
      let [nowMs, attempts] = [0, 0];
      for (const [value, livedMs] of stream) {
        random = value;
        backoff.noteEnd(livedMs);
        nowMs += backoff.next() + livedMs;
        attempts++;
        if (nowMs > 3_600_000) break;
      }
      assert.ok(attempts <= 7 + 2 * 3600, `${attempts} attempts`);
    }),
    { numRuns: 20 },
  );
});

test("Backoff: begins anew only after a connection that has lasted", () => {
  const backoff = new Backoff(RECONNECT_DEFAULTS, () => 0);
  for (let i = 0; i < 20; i++) backoff.next();
  backoff.noteEnd(9999);
  assert.equal(backoff.next(), 1000);
  backoff.noteEnd(10_000);
  assert.equal(backoff.next(), 10);
});

test("tryUntilConnected() counts what failed, and returns the first success", async () => {
  const failed: [number, number][] = [];
  const backoff = new Backoff(QUICK, () => 0);
  const outcome = await within(
    tryUntilConnected({
      attempt: (attempts) => attempts < 4 ? Promise.reject(refused) : Promise.resolve(`attempt ${attempts}`),
      onFailed: ({ attempt, retryMs, error }) => {
        assert.equal(error, refused);
        failed.push([attempt, retryMs]);
      },
      backoff,
      pause: new Pause(),
      firstMs: 0,
      giveUpMs: Infinity,
      signal: new AbortController().signal,
    }),
    "a connection",
  );
  assert.deepEqual(outcome, { connection: "attempt 4", attempts: 4 });
  assert.deepEqual(failed, [[1, 1], [2, 2], [3, 2]]);
});

test("tryUntilConnected() ends with the deadline, after one more attempt; with 0 after the first", async () => {
  for (const giveUpMs of [0, 5]) {
    let [attempts, now] = [0, 0];
    const clock: Clock = {
      now: () => now,
      after(ms, call) {
        now += ms;
        queueMicrotask(call);
        return { clear() {}, ref() {}, unref() {} };
      },
    };
    const trying = tryUntilConnected({
      attempt: () => Promise.reject((attempts++, refused)),
      onFailed() {},
      backoff: new Backoff(QUICK, () => 0),
      pause: new Pause(clock),
      firstMs: 0,
      giveUpMs,
      signal: new AbortController().signal,
    });
    await assert.rejects(within(trying, "the end"), refused);
    assert.deepEqual([attempts, now], giveUpMs === 0 ? [1, 0] : [4, 5]); // at 0, 1, 3 and 5 ms
  }
});

test("tryUntilConnected() ends with the signal: before, within a pause, within an attempt", async () => {
  const reason = new Error("enough");
  for (const when of ["before", "pause", "attempt"]) {
    const aborting = new AbortController();
    if (when === "before") aborting.abort(reason);
    const trying = tryUntilConnected({
      attempt: () => {
        assert.equal(when, "attempt");
        aborting.abort(reason);
        return Promise.reject(new Error("whatever an aborted attempt says"));
      },
      onFailed: () => assert.fail(),
      backoff: new Backoff(QUICK),
      pause: new Pause(),
      firstMs: when === "pause" ? 0x7fffffff : 0,
      giveUpMs: Infinity,
      signal: aborting.signal,
    });
    if (when === "pause") aborting.abort(reason);
    await assert.rejects(within(trying, "the end"), reason, when);
  }
});

test("isFinal: versions, other users' senders, our own faults and yours; all else may change", () => {
  const codes = ["CONNECT_VERSION", "CONNECT_UID", "INVARIANT", "NATIVE_LAYOUT_MISMATCH"] as const;
  for (const code of codes) assert.ok(isFinal(new QlasterError(code, "x")), code);
  for (const error of [new RangeError("x"), new TypeError("x"), "x", undefined]) assert.ok(isFinal(error));
  const others = [
    "CONNECT_NO_SENDER",
    "CONNECT_REFUSED",
    "CONNECT_TIMEOUT",
    "CONNECT_PROTOCOL",
    "REGION_REFUSED",
  ] as const;
  for (const code of [...others, "SUBSCRIBE_REFUSED", "V9_UNSUPPORTED", "SYSTEM", "MEMORY_LIMIT"] as const) {
    assert.ok(!isFinal(new QlasterError(code, "x")), code);
  }
});
