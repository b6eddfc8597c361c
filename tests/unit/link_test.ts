/**
 * Link over real socket pairs: messages arrive whole however they were cut, both directions are bounded, no descriptor
 * is left.
 * May touch: the native library, both ends of a socket pair. May not touch: paths.
 * How a closed descriptor is seen: it was the last one of its socket, so the other end reads the end of the stream.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { before, test } from "node:test";
import { isQlasterError } from "../../src/errors.ts";
import {
  LINK_BODY_BYTES_MAX,
  LINK_DESCRIPTORS_MAX,
  LinkHeader,
  LinkKind,
  Status,
} from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { Link } from "../../src/stream/link.ts";
import { encodeEmpty, encodeRefusal, type Message } from "../../src/wire/messages.ts";
import { linkHandles, load, socketPair } from "./support/native_pairs.ts";
import { patternBytes } from "./support/updates.ts";
import { until } from "./support/watchdog.ts";

const QUEUE_BYTES_MAX = 4 * 1024 * 1024;
const NONE = new Int32Array(1);

let native: Native;
before(async () => {
  native = await load();
});

/** A Link, and the other end as a native handle that sends whatever bytes it likes. */
class LinkPair implements Disposable {
  readonly link: Link;
  readonly raw: number;
  readonly messages: Message[] = [];

  constructor(options: { descriptorsExpected?: number; queueBytesMax?: number } = {}) {
    const [ours, theirs] = linkHandles(native);
    this.link = new Link(native, ours, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX, ...options });
    this.raw = theirs;
  }
  send(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    const sent = native.linkSend(
      this.raw,
      bytes,
      bytes.length,
      Int32Array.from([...descriptors, 0]),
      descriptors.length,
    );
    assert.equal(sent, bytes.length);
  }
  /** All that the socket holds. */
  receive(): Uint8Array {
    const chunks: number[] = [];
    const buffer = new Uint8Array(65536);
    while (true) {
      const count = native.linkReceive(this.raw, buffer, buffer.length, new Uint32Array(1 + LINK_DESCRIPTORS_MAX), 0);
      if (count < 0) return Uint8Array.from(chunks);
      for (let i = 0; i < count; i++) chunks.push(buffer[i]!);
    }
  }
  /** All that is there: "more" is what any draining may say, whose thread was not run for its share of time. */
  drain(): string {
    while (true) {
      const outcome = this.link.drain((message) => this.messages.push(message));
      if (outcome !== "more") return outcome;
    }
  }
  [Symbol.dispose](): void {
    this.link.close();
    native.close(this.raw);
  }
}

/** A message whose body is a pattern. */
function message(id: number, bodyLength: number): Uint8Array {
  const bytes = new Uint8Array(LinkHeader.size + bodyLength);
  bytes.set(encodeEmpty(LinkKind.ping, id));
  new DataView(bytes.buffer).setUint32(LinkHeader.bodyLength, bodyLength, true);
  bytes.set(patternBytes(bodyLength, id), LinkHeader.size);
  return bytes;
}

function assertMessage(got: Message | undefined, id: number, bodyLength: number): void {
  assert.deepEqual([got?.kind, got?.requestId, got?.body.length], [LinkKind.ping, id, bodyLength]);
  assert.deepEqual(got?.body, patternBytes(bodyLength, id));
}

/** Whether every copy of the other end of this socket is closed. */
function isOtherEndClosed(fd: number): boolean {
  const link = native.linkAdopt(fd);
  assert.ok(link >= 0);
  const status = native.linkReceive(link, new Uint8Array(1), 1, new Uint32Array(1), 0);
  native.close(link);
  assert.ok(status === Status.endOfStream || status === Status.wouldBlock, `${status}`);
  return status === Status.endOfStream;
}

/** A descriptor to send, whose fate can be watched. */
class Probe implements Disposable {
  readonly #watched: number;
  readonly fd: number;
  constructor() {
    [this.#watched, this.fd] = socketPair(native);
  }
  /** Our own copy away: from here on only what was sent keeps it open. */
  letGo(): void {
    assert.equal(native.fdClose(this.fd), 0);
  }
  get isClosedEverywhere(): boolean {
    return isOtherEndClosed(this.#watched);
  }
  [Symbol.dispose](): void {
    native.fdClose(this.#watched);
  }
}

test("peer is who the kernel says", () => {
  using pair = new LinkPair();
  assert.equal(pair.link.peer.pid, process.pid);
  assert.equal(pair.link.peer.uid, native.uid());
});

test("detect() tells the protocols apart by the first four bytes, and leaves them to be read", () => {
  const hello = message(1, 3);
  using native = new LinkPair();
  for (let i = 0; i < 4; i++) {
    assert.equal(native.link.detect(), "idle");
    native.send(hello.subarray(i, i + 1));
  }
  assert.equal(native.link.detect(), "native");
  native.send(hello.subarray(4));
  assert.equal(native.link.detect(), "native");
  native.drain();
  assertMessage(native.messages[0], 1, 3);
  for (const bytes of [[28, 0, 0, 0], [0x51, 0x4c, 0x41, 0x54], [255, 255, 255, 255]]) {
    using foreign = new LinkPair();
    foreign.send(Uint8Array.from([...bytes, 7]));
    assert.equal(foreign.link.detect(), "v9");
    assert.deepEqual(drainBytes(foreign.link), ["idle", [...bytes, 7]]);
  }
});

test("detect() tells the end of a link that says less", () => {
  const [ours, theirs] = linkHandles(native);
  const link = new Link(native, ours, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX });
  assert.equal(native.linkSend(theirs, message(1, 0), 3, NONE, 0), 3);
  native.close(theirs);
  assert.equal(link.detect(), "end");
  link.close();
});

/** All that a link gives uncut. */
function drainBytes(link: Link): [outcome: string, bytes: number[]] {
  const bytes: number[] = [];
  while (true) {
    const outcome = link.drainBytes((some) => void bytes.push(...some));
    if (outcome !== "more") return [outcome, bytes];
  }
}

test("drainBytes() hands over what comes, uncut and in order, until it is told to stop", () => {
  using pair = new LinkPair();
  assert.deepEqual(drainBytes(pair.link), ["idle", []]);
  const bytes = patternBytes(40_000, 5);
  for (const goesOn of [true, false]) {
    pair.send(bytes);
    const pieces: Uint8Array[] = [];
    let calls = 0;
    const take = (some: Uint8Array) => (pieces.push(some.slice()), goesOn);
    while (pair.link.drainBytes(take) === "more") calls++;
    assert.deepEqual(Uint8Array.from(pieces.flatMap((piece) => [...piece])), bytes);
    if (!goesOn) assert.equal(calls, pieces.length, "it stopped after each");
  }
});

test("drain() and drainBytes() get on in each call, also where the thread is late each time", () => {
  using pair = new LinkPair();
  const realNow = performance.now;
  let now = 0;
  performance.now = () => now += 1000;
  try {
    pair.send(Uint8Array.of(1, 2, 3));
    const bytes: number[] = [];
    assert.equal(pair.link.drainBytes((some) => void bytes.push(...some)), "more");
    assert.deepEqual(bytes, [1, 2, 3]);
    assert.equal(pair.link.drainBytes(() => assert.fail()), "idle");
    for (const id of [1, 2]) pair.send(message(id, 3));
    for (const id of [1, 2]) {
      let got: Message | undefined;
      assert.equal(pair.link.drain((message) => got = message), "more");
      assertMessage(got, id, 3);
    }
    assert.equal(pair.link.drain(() => assert.fail()), "idle");
  } finally {
    performance.now = realNow;
  }
});

test("drainBytes() refuses descriptors", () => {
  using pair = new LinkPair({ descriptorsExpected: 1 });
  using probe = new Probe();
  pair.send(Uint8Array.of(1, 2, 3, 4), [probe.fd]);
  probe.letGo();
  assert.equal(pair.link.detect(), "v9");
  assert.throws(() => drainBytes(pair.link), (error) => isQlasterError(error, "LINK_PROTOCOL"));
  pair.link.close();
  assert.ok(probe.isClosedEverywhere);
});

test("sendWhole() sends all or says that it could not", () => {
  using pair = new LinkPair();
  assert.ok(pair.link.sendWhole(Uint8Array.of(1, 2, 3)));
  assert.deepEqual([...pair.receive()], [1, 2, 3]);
  const large = new Uint8Array(60_000);
  let sent = 0;
  while (pair.link.sendWhole(large)) sent++;
  assert.ok(sent > 0 && pair.receive().length >= sent * large.length);
  pair.link.close();
  assert.equal(pair.link.sendWhole(Uint8Array.of(1)), false);
});

test("sendWhole() passes descriptors, which stay the caller's", () => {
  const [theirs, ours] = linkHandles(native);
  const link = new Link(native, ours, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX });
  using probe = new Probe();
  assert.ok(link.sendWhole(Uint8Array.of(1), [probe.fd]));
  const received = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
  assert.equal(native.linkReceive(theirs, new Uint8Array(9), 9, received, 1), 1);
  assert.equal(received[0], 1);
  probe.letGo();
  assert.equal(probe.isClosedEverywhere, false);
  native.fdClose(received[1]!);
  assert.ok(probe.isClosedEverywhere);
  link.close();
  native.close(theirs);
});

test("duplicate() is another descriptor of the same socket", () => {
  using pair = new LinkPair();
  const fd = pair.link.duplicate();
  const twin = native.linkAdopt(fd);
  assert.equal(native.fdClose(fd), 0);
  assert.equal(native.linkSend(twin, Uint8Array.of(7), 1, NONE, 0), 1);
  assert.deepEqual([...pair.receive()], [7]);
  native.close(twin);
  assert.ok(pair.link.sendWhole(Uint8Array.of(8)));
  assert.deepEqual([...pair.receive()], [8]);
});

test("drain() puts messages together that come byte by byte", () => {
  using pair = new LinkPair();
  const bytes = new Uint8Array([...message(1, 0), ...message(2, 40), ...message(3, 1)]);
  const ends = [16, 16 + 56, 16 + 56 + 17];
  for (let i = 0; i < bytes.length; i++) {
    pair.send(bytes.subarray(i, i + 1));
    assert.equal(pair.drain(), "idle");
    assert.equal(pair.messages.length, ends.filter((end) => end <= i + 1).length);
  }
  assertMessage(pair.messages[0], 1, 0);
  assertMessage(pair.messages[1], 2, 40);
  assertMessage(pair.messages[2], 3, 1);
});

test("drain() takes apart messages that come together, cut anywhere", () => {
  const lengths = [0, 100, 16_000, 16_384, 17_000, 3, 40_000, 0, 0, 70_000];
  const bytes = new Uint8Array(lengths.flatMap((length, id) => [...message(id, length)]));
  for (const step of [bytes.length, 16_384, 16_383, 4096, 1000, 17]) {
    using pair = new LinkPair();
    for (let at = 0; at < bytes.length; at += step) {
      let chunk = bytes.subarray(at, at + step);
      while (chunk.length > 0) {
        const sent = native.linkSend(pair.raw, chunk, chunk.length, NONE, 0);
        if (sent > 0) chunk = chunk.subarray(sent);
        else assert.equal(sent, Status.wouldBlock);
        pair.drain();
      }
    }
    pair.drain(); // what no room in the socket had us drain before
    lengths.forEach((length, id) => assertMessage(pair.messages[id], id, length));
    assert.equal(pair.messages.length, lengths.length);
  }
});

test("send() and drain() pass the largest message, both with the limits of a socket", async () => {
  const [ours, theirs] = linkHandles(native);
  const sender = new Link(native, ours, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX });
  const receiver = new Link(native, theirs, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX });
  const lengths = [LINK_BODY_BYTES_MAX, 5, LINK_BODY_BYTES_MAX];
  lengths.forEach((length, id) => sender.send(message(id, length)));
  assert.equal(sender.isSent, false, "more than a socket holds");
  const messages: Message[] = [];
  await until(() => {
    receiver.drain((message) => messages.push(message)); // the sender's own timer sends the rest
    return messages.length === lengths.length;
  }, "the messages");
  lengths.forEach((length, id) => assertMessage(messages[id], id, length));
  assert.ok(sender.isSent);
  sender.close();
  receiver.close();
});

test("drain() says more after its share, so that a peer who never stops does not hold the event loop", () => {
  using pair = new LinkPair();
  let rounds = 0;
  // Each delivery sends another: left alone, this would never end.
  pair.send(message(0, 0));
  const outcome = pair.link.drain(() => pair.send(message(++rounds, 0)));
  assert.equal(outcome, "more");
  assert.ok(rounds > 0);
});

test("send() throws once a peer that does not read has the limit waiting, and the queue stays in order", async () => {
  using pair = new LinkPair({ queueBytesMax: 64 * 1024 });
  const sent: number[] = [];
  let failure: unknown;
  for (let id = 0; failure === undefined && id < 10_000; id++) {
    try {
      pair.link.send(message(id, 1000));
      sent.push(id);
    } catch (error) {
      failure = error;
    }
  }
  assert.ok(isQlasterError(failure, "LINK_PROTOCOL"));
  assert.match(failure.message, /does not read its link/);
  assert.equal(pair.link.isSent, false);
  const bytes: number[] = [];
  await until(() => {
    bytes.push(...pair.receive());
    return pair.link.isSent;
  }, "the queue's end");
  bytes.push(...pair.receive());
  assert.deepEqual(Uint8Array.from(bytes), new Uint8Array(sent.flatMap((id) => [...message(id, 1000)])));
  pair.link.send(message(1, 0)); // there is room again
});

test("send() refuses at once what is beyond the limit by itself", () => {
  using pair = new LinkPair({ queueBytesMax: 100 });
  assert.throws(() => pair.link.send(message(1, 85)), { code: "LINK_PROTOCOL" });
  pair.link.send(message(2, 84));
  assert.deepEqual(pair.receive(), message(2, 84));
});

test("send() to a peer that is gone neither throws nor keeps anything; drain() tells", () => {
  using pair = new LinkPair();
  native.close(pair.raw);
  for (let i = 0; i < 100; i++) pair.link.send(message(i, 1000));
  assert.ok(pair.link.isSent);
  assert.equal(pair.drain(), "end");
});

test("drain() delivers what a peer said before it closed", () => {
  using pair = new LinkPair();
  pair.send(message(1, 5));
  native.close(pair.raw);
  assert.equal(pair.drain(), "end");
  assertMessage(pair.messages[0], 1, 5);
});

test("drain() refuses garbage, a version of another protocol, a body beyond the limit", () => {
  const longer = message(1, 0);
  new DataView(longer.buffer).setUint32(LinkHeader.bodyLength, LINK_BODY_BYTES_MAX + 1, true);
  for (const bytes of [new Uint8Array(16), patternBytes(16, 3), longer]) {
    using pair = new LinkPair();
    pair.send(message(7, 3));
    pair.send(bytes);
    assert.throws(() => pair.drain(), { code: "LINK_PROTOCOL" });
    assertMessage(pair.messages[0], 7, 3);
  }
});

test("drain() waits for a header of which 15 bytes came, whatever they are", () => {
  using pair = new LinkPair();
  pair.send(patternBytes(15, 1));
  assert.equal(pair.drain(), "idle");
  pair.send(patternBytes(1, 1));
  assert.throws(() => pair.drain(), { code: "LINK_PROTOCOL" });
});

test("drain() throws what the handler throws, and delivers nothing after close() in a handler", () => {
  using pair = new LinkPair();
  pair.send(message(1, 0));
  const failure = new Error("no");
  assert.throws(() =>
    pair.link.drain(() => {
      throw failure;
    }), failure);
  using other = new LinkPair();
  other.send(new Uint8Array([...message(1, 0), ...message(2, 0)]));
  const seen: number[] = [];
  assert.equal(
    other.link.drain((message) => {
      seen.push(message.requestId);
      other.link.close();
    }),
    "idle",
  );
  assert.deepEqual(seen, [1]);
  assert.equal(other.drain(), "idle");
});

test("a message's body is its own: later messages do not change it", () => {
  using pair = new LinkPair();
  pair.send(message(1, 50));
  pair.drain();
  pair.send(message(2, 50));
  pair.drain();
  assertMessage(pair.messages[0], 1, 50);
});

test("takeDescriptors() hands over what came with the message, in order, and no more are expected", () => {
  using pair = new LinkPair({ descriptorsExpected: 3 });
  using probe = new Probe();
  using other = new Probe();
  pair.send(message(1, 4), [probe.fd, other.fd]);
  probe.letGo();
  other.letGo();
  let taken: number[] = [];
  pair.link.drain(() => taken = pair.link.takeDescriptors(2));
  assert.equal(pair.link.descriptorsExpected, 0);
  pair.link.close();
  assert.deepEqual([probe.isClosedEverywhere, other.isClosedEverywhere], [false, false], "they are the taker's");
  assert.equal(native.fdClose(taken[0]!), 0);
  assert.deepEqual([probe.isClosedEverywhere, other.isClosedEverywhere], [true, false]);
  assert.equal(native.fdClose(taken[1]!), 0);
  assert.ok(other.isClosedEverywhere);
});

test("takeDescriptors() refuses another number, and close() closes what nobody took", () => {
  for (const wanted of [0, 1, 3]) {
    using pair = new LinkPair({ descriptorsExpected: 3 });
    using probe = new Probe();
    pair.send(message(1, 0), [probe.fd, probe.fd]);
    probe.letGo();
    assert.throws(() => pair.link.drain(() => pair.link.takeDescriptors(wanted)), { code: "LINK_PROTOCOL" });
    assert.equal(probe.isClosedEverywhere, false);
    pair.link.close();
    assert.ok(probe.isClosedEverywhere);
  }
});

test("drain() refuses descriptors that a handler did not ask for, and close() closes them", () => {
  using pair = new LinkPair({ descriptorsExpected: 3 });
  using probe = new Probe();
  pair.send(message(1, 0), [probe.fd]);
  probe.letGo();
  assert.throws(() => pair.drain(), { code: "LINK_PROTOCOL", message: /nobody asked for/ });
  pair.link.close();
  assert.ok(probe.isClosedEverywhere);
});

test("close() closes descriptors of a message that never became whole", () => {
  using pair = new LinkPair({ descriptorsExpected: 3 });
  using probe = new Probe();
  pair.send(message(1, 100).subarray(0, 50), [probe.fd]);
  probe.letGo();
  assert.equal(pair.drain(), "idle");
  assert.deepEqual([pair.messages.length, pair.link.descriptorsExpected], [0, 2]);
  assert.equal(probe.isClosedEverywhere, false);
  pair.link.close();
  assert.ok(probe.isClosedEverywhere);
});

test("drain() collects the descriptors of a message that comes in pieces", () => {
  using pair = new LinkPair({ descriptorsExpected: 3 });
  using probe = new Probe();
  const bytes = message(1, 10);
  pair.send(bytes.subarray(0, 5), [probe.fd]);
  pair.drain();
  pair.send(bytes.subarray(5, 20), [probe.fd]);
  pair.drain();
  pair.send(bytes.subarray(20));
  probe.letGo();
  let taken: number[] = [];
  pair.link.drain(() => taken = pair.link.takeDescriptors(2));
  for (const fd of taken) native.fdClose(fd);
  assert.ok(probe.isClosedEverywhere);
});

test("drain() refuses more descriptors than it expects, closed at once", () => {
  for (const descriptorsExpected of [0, 1, 3]) {
    using pair = new LinkPair({ descriptorsExpected });
    using probe = new Probe();
    pair.send(message(1, 0), Array(descriptorsExpected + 1).fill(probe.fd));
    probe.letGo();
    assert.throws(() => pair.drain(), { code: "LINK_PROTOCOL" });
    assert.ok(probe.isClosedEverywhere);
  }
});

test("send() passes descriptors with the first byte and leaves ours open", () => {
  const [theirs, ours] = linkHandles(native);
  const sender = new Link(native, ours, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX });
  const receiver = new Link(native, theirs, { descriptorsExpected: 3, queueBytesMax: QUEUE_BYTES_MAX });
  using probe = new Probe();
  sender.send(message(1, 8), [probe.fd, probe.fd, probe.fd]);
  assert.ok(sender.isSent);
  let taken: number[] = [];
  receiver.drain(() => taken = receiver.takeDescriptors(3));
  assert.equal(new Set([...taken, probe.fd]).size, 4);
  for (const fd of taken) native.fdClose(fd);
  assert.equal(probe.isClosedEverywhere, false);
  probe.letGo();
  assert.ok(probe.isClosedEverywhere);
  sender.close();
  receiver.close();
});

test("send() passes descriptors once, also with a message that goes in many pieces", async () => {
  const [theirs, ours] = linkHandles(native);
  const sender = new Link(native, ours, { descriptorsExpected: 0, queueBytesMax: QUEUE_BYTES_MAX });
  const receiver = new Link(native, theirs, { descriptorsExpected: 3, queueBytesMax: QUEUE_BYTES_MAX });
  using probe = new Probe();
  sender.send(message(1, LINK_BODY_BYTES_MAX), [probe.fd]);
  assert.equal(sender.isSent, false, "more than a socket holds");
  let taken: number[] | undefined;
  await until(() => {
    receiver.drain(() => taken = receiver.takeDescriptors(1));
    return taken !== undefined;
  }, "the message");
  assert.equal(native.fdClose(taken![0]!), 0);
  probe.letGo();
  assert.ok(probe.isClosedEverywhere);
  sender.close();
  receiver.close();
});

test("close() may come twice; then send() and drain() do nothing", () => {
  using pair = new LinkPair();
  pair.link.close();
  pair.link.close();
  pair.link.send(message(1, 0));
  assert.equal(pair.drain(), "idle");
  const status = native.linkReceive(pair.raw, new Uint8Array(8), 8, new Uint32Array(1), 0);
  assert.equal(status, Status.endOfStream);
});

test("Link refuses a handle that is none", () => {
  assert.throws(() => new Link(native, 0x7fffffff, { descriptorsExpected: 0, queueBytesMax: 1 }), {
    code: "INVARIANT",
  });
});

test("a refusal is sent whole before close(): the peer reads it, then the end", () => {
  using pair = new LinkPair();
  const refusal = encodeRefusal(0, { status: Status.wrongUid, text: "no" });
  pair.link.send(refusal);
  pair.link.close();
  assert.deepEqual(pair.receive(), refusal);
});
