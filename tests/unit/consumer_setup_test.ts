/**
 * setupConsumer(): what it refuses, how long it tries, what an abort does.
 * May touch: the public API; a listener of the native library that answers as told. May not touch: frames.
 *
 * @module
 */

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type ConsumerOptions, load, setupConsumer } from "../../mod.ts";
import { Status } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { encodeEmpty, encodeGrant, encodeRefusal } from "../../src/wire/messages.ts";
import { CountedSignal } from "./support/counted_signal.ts";
import { Place } from "./support/place.ts";
import { until, within } from "./support/watchdog.ts";

test("setupConsumer() refuses an option that is not what it must be, before it looks for a sender", async () => {
  await using place = new Place();
  const rows: [options: Partial<Record<keyof ConsumerOptions, unknown>>, name: string, message: RegExp][] = [
    [{ idle: "sleep" }, "TypeError", /idle must be one of adaptive, park, yield, spin, not sleep/],
    [{ idle: "" }, "TypeError", /idle/],
    [{ idle: "toString" }, "TypeError", /idle/],
    [{ connectTimeoutMs: 0 }, "RangeError", /connectTimeoutMs/],
    [{ connectTimeoutMs: -1 }, "RangeError", /connectTimeoutMs/],
    [{ connectTimeoutMs: NaN }, "RangeError", /connectTimeoutMs/],
    [{ connectTimeoutMs: Infinity }, "RangeError", /connectTimeoutMs/],
    [{ connectTimeoutMs: 2 ** 31 }, "RangeError", /connectTimeoutMs/],
    [{ requestTimeoutMs: 0 }, "RangeError", /requestTimeoutMs/],
    [{ requestTimeoutMs: 2 ** 31 }, "RangeError", /requestTimeoutMs/],
    [{ protocol: "v8" }, "TypeError", /protocol must be one of auto, native, v9, not v8/],
    [{ v9PingMs: 0 }, "RangeError", /v9PingMs/],
    [{ v9IdleMs: NaN }, "RangeError", /v9IdleMs/],
  ];
  for (const [options, name, message] of rows) {
    await assert.rejects(
      setupConsumer(place.path, options as ConsumerOptions),
      { name, message },
      JSON.stringify(options),
    );
  }
  for (const path of ["", undefined, 7, null]) {
    await assert.rejects(setupConsumer(path as string), {
      name: "TypeError",
      message: /path must be a non-empty string/,
    });
  }
});

test("setupConsumer() refuses a name beyond 64 bytes, and the sender forgets it", async () => {
  await using place = new Place();
  const sender = await place.sender();
  await assert.rejects(place.consumer({ name: "ü".repeat(33) }), { name: "RangeError", message: /66 bytes/ });
  await place.consumer({ name: "ü".repeat(32) });
  await until(() => sender.metrics.consumers === 1, "the consumer");
  assert.equal(sender.consumers()[0]?.name, "ü".repeat(32));
  await until(() => sender.metrics.refused <= 1, "the end of the first");
});

test("setupConsumer() says that no sender is there", async () => {
  await using place = new Place();
  const file = join(place.directory, "file");
  writeFileSync(file, "");
  const rows: [path: string, expected: object][] = [
    [place.path, { code: "CONNECT_NO_SENDER", message: new RegExp(place.path) }],
    [join(place.directory, "no", "such.sock"), { code: "CONNECT_NO_SENDER" }],
    [join(file, "s.sock"), { code: "CONNECT_NO_SENDER" }],
    [file, { code: "CONNECT_NO_SENDER" }],
    [join(place.directory, "x".repeat(200)), { name: "RangeError", message: /the path has too many bytes/ }],
  ];
  for (const [path, expected] of rows) await assert.rejects(within(setupConsumer(path), "a refusal"), expected, path);
  mkdirSync(join(place.directory, "d"));
  await assert.rejects(setupConsumer(join(place.directory, "d")), { name: "QlasterError" });
});

test("setupConsumer() speaks the native protocol where it can, and version 9 where it is told to", async () => {
  await using place = new Place();
  const sender = await place.sender();
  for (const [protocol, spoken] of [["auto", "native"], ["native", "native"], ["v9", "v9"]] as const) {
    const consumer = await place.consumer({ protocol });
    assert.equal(consumer.protocol, spoken);
    sender.publishSlot({ slot: 7n, parent: 6n, status: "processed" });
    const update = await within(consumer.next(), "a slot");
    assert.equal(update?.kind === "slot" && update.slot, 7n);
  }
});

test("setupConsumer() finds nobody after its sender was closed", async () => {
  await using place = new Place();
  const sender = await place.sender();
  await sender.close();
  await assert.rejects(place.consumer(), { code: "CONNECT_NO_SENDER" });
});

/** A listener that does as the test says, at the place's path. */
class FakeSender implements Disposable {
  readonly #listener: number;
  readonly #links: number[] = [];
  constructor(readonly native: Native, path: string) {
    const bytes = new TextEncoder().encode(path);
    this.#listener = native.listen(bytes, bytes.length, 0);
    assert.ok(this.#listener >= 0);
  }
  /** The next connection. */
  async accept(): Promise<number> {
    let link = -1;
    await until(() => (link = this.native.listenerAccept(this.#listener)) >= 0, "a connection");
    this.#links.push(link);
    return link;
  }
  /** Reads the hello, keeps the wake that came with it, sends, wakes. */
  async answer(bytes: Uint8Array, descriptors: number[] = []): Promise<number> {
    const link = await this.accept();
    const received = new Uint32Array(5);
    const buffer = new Uint8Array(256);
    await until(() => this.native.linkReceive(link, buffer, buffer.length, received, 1) > 0, "a hello");
    assert.equal(received[0], 1);
    const wake = this.native.wakeOpen(received[1]!);
    const sent = this.native.linkSend(
      link,
      bytes,
      bytes.length,
      Int32Array.from([...descriptors, 0]),
      descriptors.length,
    );
    assert.equal(sent, bytes.length);
    this.native.wakeNotify(wake);
    this.#links.push(wake);
    return link;
  }
  [Symbol.dispose](): void {
    for (const handle of this.#links) this.native.close(handle);
    this.native.close(this.#listener);
  }
}

test("setupConsumer() gives up after connectTimeoutMs when nobody answers", async () => {
  await using place = new Place();
  using _silent = new FakeSender(await load(), place.path);
  await assert.rejects(within(place.consumer({ connectTimeoutMs: 20 }), "a refusal"), {
    code: "CONNECT_TIMEOUT",
    message: /within 20 ms/,
  });
});

test("setupConsumer() says what an answer was that is none", async () => {
  await using place = new Place();
  const native = await load();
  using fake = new FakeSender(native, place.path);
  const grant = encodeGrant({
    version: 1,
    capacityBytes: 65536,
    reservedBytes: 16384,
    connectionId: 1,
    senderId: new Uint8Array(16),
  });
  const rows: [answer: Uint8Array, code: string, message: RegExp][] = [
    [
      encodeRefusal(0, { status: Status.consumersLimit, text: "too many of you" }),
      "CONNECT_REFUSED",
      /too many of you/,
    ],
    [
      encodeRefusal(0, { status: Status.badVersion, text: "upgrade the sender" }),
      "CONNECT_VERSION",
      /upgrade the sender/,
    ],
    [encodeEmpty(6, 0), "LINK_PROTOCOL", /kind 6 is no answer to a hello/],
    [new Uint8Array(32).fill(9), "LINK_PROTOCOL", /starts with/],
    [grant, "LINK_PROTOCOL", /it brought 0 descriptors, not 3/],
  ];
  for (const [answer, code, message] of rows) {
    const [outcome] = await within(Promise.allSettled([place.consumer(), fake.answer(answer)]), "an answer");
    assert.equal(outcome.status, "rejected");
    const error = (outcome as PromiseRejectedResult).reason as { code: string; message: string };
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
  }
});

test("setupConsumer() says when the other side closed without an answer", async () => {
  await using place = new Place();
  const native = await load();
  using fake = new FakeSender(native, place.path);
  const connecting = place.consumer({ protocol: "native" });
  const link = await fake.accept();
  await until(
    () => native.linkReceive(link, new Uint8Array(256), 256, new Uint32Array(5), 0) < -4099 || true,
    "a hello",
  );
  native.close(link);
  await assert.rejects(within(connecting, "a refusal"), {
    code: "CONNECT_PROTOCOL",
    message: /closed the connection without an answer/,
  });
});

test("an abort ends the wait for a grant with the signal's reason", async () => {
  await using place = new Place();
  using fake = new FakeSender(await load(), place.path);
  const reason = new Error("changed my mind");
  await assert.rejects(place.consumer({ signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  const connecting = place.consumer({ signal: controller.signal, connectTimeoutMs: 2 ** 31 - 1 });
  await fake.accept();
  controller.abort(reason);
  await assert.rejects(within(connecting, "the end"), reason);
});

test("an abort later closes the consumer without an error", async () => {
  await using place = new Place();
  const controller = new AbortController();
  const { sender, consumer } = await place.pair({ consumer: { signal: controller.signal } });
  const next = consumer.next();
  controller.abort();
  assert.equal(await within(next, "the end"), undefined);
  assert.deepEqual(consumer.ended, { reason: "closed" });
  await until(() => sender.metrics.consumers === 0, "the sender's notice");
});

test("a consumer that ended leaves no listener on its signal, nor does one that never came to be", async () => {
  await using place = new Place();
  const signal = new CountedSignal();
  const options = { signal: signal.signal };
  await assert.rejects(place.consumer(options), { code: "CONNECT_NO_SENDER" });
  assert.equal(signal.listeners, 0);
  const sender = await place.sender();
  const first = await place.consumer(options);
  const second = await place.consumer(options);
  assert.equal(signal.listeners, 2);
  await first.close();
  assert.equal(signal.listeners, 1);
  await sender.close();
  await within(second.whenEnded, "the end");
  assert.equal(signal.listeners, 0);
});

test("many consumers can connect to one sender at once", async () => {
  await using place = new Place();
  const sender = await place.sender();
  await within(Promise.all(Array.from({ length: 32 }, () => place.consumer())), "all");
  await until(() => sender.metrics.consumers === 32, "all at the sender");
  assert.deepEqual(readdirSync(place.directory).sort(), ["s.sock", "s.sock.lock"], "and no file comes of it");
});
