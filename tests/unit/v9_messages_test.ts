/**
 * Control messages of wire version 9: the original's bytes, its refusals with their kinds, and nothing else for any bytes.
 * May touch: bytes. May not touch: sockets.
 * Where the hex comes from: the original's encoder, as written down in the reference, section 4.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isQlasterError, type QlasterErrorCode } from "../../src/errors.ts";
import {
  type ClientMessage,
  decodeClient,
  decodeServer,
  encodePing,
  encodeReady,
  encodeReadyShm,
  encodeSubscribe,
  FrameCutter,
  type ServerMessage,
} from "../../src/v9/messages.ts";
import { readClient, readServer } from "../support/v9_reference.ts";

const NONE = new Uint8Array(0);
const key = (byte: number) => new Uint8Array(32).fill(byte);
const hex = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");

/** "aa*3" stands for the byte three times; "|" separates and means nothing. */
function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(
    text.split(/[\s|]+/).filter((word) => word !== "").flatMap((word) => {
      const [byte, times = "1"] = word.split("*");
      return Array(Number(times)).fill(parseInt(byte!, 16));
    }),
  );
}

/** The only message in these bytes. */
function bodyOf(bytes: Uint8Array): Uint8Array {
  const bodies = new FrameCutter().push(bytes);
  assert.equal(bodies.length, 1);
  return bodies[0]!;
}

const TOKEN = { slotIndex: 3, generation: 0x0102030405060708n };

const CLIENT_VECTORS: readonly [name: string, hex: string, message: ClientMessage][] = [
  [
    "bootstrap",
    "1c 00 00 00 | 09 01 ff | 00*8 | 00*8 | 00*8 | 00",
    { kind: "subscribe", request: { token: undefined, accounts: [], owners: [], transactions: false } },
  ],
  [
    "one account, one owner",
    "5c 00 00 00 | 09 01 00 | 01 00*7 | 01 00*7 | aa*32 | 01 00*7 | bb*32 | 00",
    {
      kind: "subscribe",
      request: {
        token: { slotIndex: 0, generation: 1n },
        accounts: [key(0xaa)],
        owners: [key(0xbb)],
        transactions: false,
      },
    },
  ],
  [
    "transactions only",
    "1c 00 00 00 | 09 01 00 | 01 00*7 | 00*8 | 00*8 | 01",
    {
      kind: "subscribe",
      request: { token: { slotIndex: 0, generation: 1n }, accounts: [], owners: [], transactions: true },
    },
  ],
  ["ping", "0b 00 00 00 | 09 04 03 | 08 07 06 05 04 03 02 01", { kind: "ping", token: TOKEN }],
];

const SERVER_VECTORS: readonly [name: string, hex: string, message: ServerMessage][] = [
  ["ready", "0b 00 00 00 | 09 03 03 | 08 07 06 05 04 03 02 01", { kind: "ready", token: TOKEN }],
  [
    "ready-shm",
    "2b 00 00 00 | 09 05 00 | 01 00*7 | 10 00*7 | 2f 64 65 76 2f 73 68 6d 2f 71 2f 31 2d 30 2d 31 | 00 00 00 04 00*4",
    {
      kind: "ready-shm",
      ready: { token: { slotIndex: 0, generation: 1n }, path: "/dev/shm/q/1-0-1", capacityBytes: 67_108_864 },
    },
  ],
];

function encode(message: ClientMessage | ServerMessage): Uint8Array {
  switch (message.kind) {
    case "subscribe":
      return encodeSubscribe(message.request);
    case "ping":
      return encodePing(message.token);
    case "ready":
      return encodeReady(message.token);
    case "ready-shm":
      return encodeReadyShm(message.ready);
  }
}

for (const [name, text, message] of CLIENT_VECTORS) {
  test(`the original's ${name} message, both ways`, () => {
    assert.equal(hex(encode(message)), hex(bytesOf(text)));
    assert.deepEqual(decodeClient(bodyOf(bytesOf(text))), message);
  });
}

for (const [name, text, message] of SERVER_VECTORS) {
  test(`the original's ${name} message, both ways`, () => {
    assert.equal(hex(encode(message)), hex(bytesOf(text)));
    assert.deepEqual(decodeServer(bodyOf(bytesOf(text))), message);
  });
}

const SUBSCRIBE = "09 01 00 | 01 00*7 | 01 00*7 | aa*32 | 01 00*7 | bb*32";
const READY_SHM = "09 05 00 | 01 00*7 | 02 00*7 | 2f 71 | 40 00*7";

const CLIENT_REFUSALS: readonly [name: string, hex: string, code: QlasterErrorCode][] = [
  ["nothing", "", "V9_MALFORMED"],
  ["one byte", "09", "V9_MALFORMED"],
  ["an unknown tag", "09 08", "V9_TAG"],
  ["tag 0", "09 00 | 00*60", "V9_TAG"],
  ["an account", "09 02 | 00*114", "V9_TAG"],
  ["ready, which is a sender's", "09 03 03 | 00*8", "V9_TAG"],
  ["ready-shm, which is a sender's", READY_SHM, "V9_TAG"],
  ["an unknown tag of another version", "08 08", "V9_TAG"],
  ["ping, cut", "09 04 03 | 00*7", "V9_DECODE"],
  ["ping without a token", "09 04 ff | 00*8", "V9_MALFORMED"],
  ["ping of another version", "08 04 03 | 00*8", "V9_VERSION"],
  ["ping of another version, cut: the structure comes first", "08 04 03 | 00*7", "V9_DECODE"],
  ["ping of another version without a token: the version comes first", "08 04 ff | 00*8", "V9_VERSION"],
  ["subscribe, header only", "09 01", "V9_DECODE"],
  ["subscribe without the flag", SUBSCRIBE, "V9_DECODE"],
  ["subscribe with a flag of 2", `${SUBSCRIBE} | 02`, "V9_DECODE"],
  ["subscribe of another version with a flag of 2", `08 ${SUBSCRIBE.slice(3)} | 02`, "V9_DECODE"],
  ["subscribe of another version", `0a ${SUBSCRIBE.slice(3)} | 01`, "V9_VERSION"],
  ["subscribe with more accounts than came", "09 01 ff | 00*8 | 02 00*7 | aa*32 | 00*9", "V9_DECODE"],
  ["subscribe with 131,073 accounts", "09 01 ff | 00*8 | 01 00 02 00*5 | 00*9", "V9_DECODE"],
  ["subscribe with 2^64 - 1 accounts", "09 01 ff | 00*8 | ff*8 | 00*9", "V9_DECODE"],
  ["subscribe with 2^59 owners, which wraps at 64 bits", "09 01 ff | 00*8 | 00*8 | 00*7 08 | 00", "V9_DECODE"],
];

const SERVER_REFUSALS: readonly [name: string, hex: string, code: QlasterErrorCode][] = [
  ["nothing", "", "V9_MALFORMED"],
  ["one byte", "09", "V9_MALFORMED"],
  ["an unknown tag", "09 ff", "V9_TAG"],
  ["subscribe, which is a consumer's", `${SUBSCRIBE} | 00`, "V9_TAG"],
  ["ping, which is a consumer's", "09 04 03 | 00*8", "V9_TAG"],
  ["an account, which belongs into a ring", "09 02 | 00*114", "V9_TAG"],
  ["a transaction, which belongs into a ring", "09 06 | 00*89", "V9_TAG"],
  ["a slot, which belongs into a ring", "09 07 | 00*16", "V9_TAG"],
  ["ready, cut", "09 03 03 | 00*7", "V9_DECODE"],
  ["ready without a token", "09 03 ff | 00*8", "V9_MALFORMED"],
  ["ready of another version", "08 03 03 | 00*8", "V9_VERSION"],
  ["ready-shm, cut", READY_SHM.slice(0, -2), "V9_DECODE"],
  ["ready-shm of another version", `08 ${READY_SHM.slice(3)}`, "V9_VERSION"],
  ["ready-shm without a token", "09 05 ff | 01 00*7 | 02 00*7 | 2f 71 | 40 00*7", "V9_MALFORMED"],
  ["ready-shm without a path", "09 05 00 | 01 00*7 | 00*8 | 40 00*7", "V9_MALFORMED"],
  ["ready-shm without a capacity", "09 05 00 | 01 00*7 | 02 00*7 | 2f 71 | 00*8", "V9_MALFORMED"],
  ["ready-shm with a path that is not UTF-8", "09 05 00 | 01 00*7 | 02 00*7 | 2f ff | 40 00*7", "V9_DECODE"],
  ["ready-shm with a surrogate in its path", "09 05 00 | 01 00*7 | 03 00*7 | ed a0 80 | 40 00*7", "V9_DECODE"],
  ["ready-shm with a path of 4 MiB and a byte", "09 05 00 | 01 00*7 | 01 00 40 00*5 | 2f 71 | 40 00*7", "V9_DECODE"],
  ["ready-shm with a path of 2^64 - 1 bytes", "09 05 00 | 01 00*7 | ff*8 | 2f 71 | 40 00*7", "V9_DECODE"],
];

for (const [name, text, code] of CLIENT_REFUSALS) {
  test(`decodeClient() refuses ${name}: ${code}`, () => {
    assert.throws(() => decodeClient(bytesOf(text)), (error) => isQlasterError(error, code));
  });
}

for (const [name, text, code] of SERVER_REFUSALS) {
  test(`decodeServer() refuses ${name}: ${code}`, () => {
    assert.throws(() => decodeServer(bytesOf(text)), (error) => isQlasterError(error, code));
  });
}

test("bytes behind the last field are ignored", () => {
  for (const [, text, message] of CLIENT_VECTORS) {
    assert.deepEqual(decodeClient(bytesOf(`${text} | 01 02 03`).subarray(4)), message);
  }
  for (const [, text, message] of SERVER_VECTORS) {
    assert.deepEqual(decodeServer(bytesOf(`${text} | ff`).subarray(4)), message);
  }
});

test("a generation without a slot is ignored", () => {
  const message = decodeClient(bytesOf("09 01 ff | 07*8 | 00*8 | 00*8 | 00"));
  assert.ok(message.kind === "subscribe" && message.request.token === undefined);
});

test("what was decoded shares nothing with the bytes", () => {
  const bytes = bytesOf(`${SUBSCRIBE} | 00`);
  const message = decodeClient(bytes);
  bytes.fill(0);
  assert.ok(message.kind === "subscribe");
  assert.deepEqual(message.request.accounts, [key(0xaa)]);
});

test("131,072 keys fit a list, one more is V9_FRAME_TOO_LARGE", () => {
  const keys = Array<Uint8Array>(131_072).fill(key(7));
  const request = { token: undefined, accounts: keys, owners: keys, transactions: true };
  const message = decodeClient(bodyOf(encodeSubscribe(request)));
  assert.ok(message.kind === "subscribe");
  assert.deepEqual([message.request.accounts.length, message.request.owners.length], [131_072, 131_072]);
  assert.deepEqual(message.request.owners[131_071], key(7));
  for (const lists of [{ accounts: [...keys, key(8)] }, { owners: [...keys, key(8)] }]) {
    assert.throws(
      () => encodeSubscribe({ ...request, ...lists }),
      (error) => isQlasterError(error, "V9_FRAME_TOO_LARGE"),
    );
  }
});

test("a ready-shm message with the longest path has 1024 bytes", () => {
  const ready = { token: TOKEN, path: `/${"é".repeat(496)}`, capacityBytes: 64 };
  assert.equal(encodeReadyShm(ready).length, 1024);
  assert.throws(() => encodeReadyShm({ ...ready, path: `${ready.path}x` }), RangeError);
  assert.throws(() => encodeReadyShm({ ...ready, path: "" }), RangeError);
});

test("nothing is encoded that the other side must refuse", () => {
  for (const slotIndex of [255, 256, -1, 0.5, NaN]) {
    const token = { slotIndex, generation: 1n };
    assert.throws(() => encodePing(token), RangeError);
    assert.throws(() => encodeReady(token), RangeError);
    assert.throws(() => encodeSubscribe({ token, accounts: [], owners: [], transactions: false }), RangeError);
  }
  for (const generation of [-1n, 2n ** 64n]) {
    assert.throws(() => encodePing({ slotIndex: 0, generation }), RangeError);
  }
  assert.throws(() => encodePing({ slotIndex: 0, generation: 1 as unknown as bigint }), TypeError);
  for (const capacityBytes of [0, -1, 1.5, 2 ** 53]) {
    assert.throws(() => encodeReadyShm({ token: TOKEN, path: "/a", capacityBytes }), RangeError);
  }
  const short = [new Uint8Array(31)];
  assert.throws(
    () => encodeSubscribe({ token: undefined, accounts: short, owners: [], transactions: false }),
    TypeError,
  );
});

// Properties

const PLAIN = { noNullPrototype: true } as const;
const token = fc.record({
  slotIndex: fc.integer({ min: 0, max: 254 }),
  generation: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
}, PLAIN);
const keys = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 5 });
const client: fc.Arbitrary<ClientMessage> = fc.oneof(
  fc.record({
    kind: fc.constant("subscribe" as const),
    request: fc.record({
      token: fc.option(token, { nil: undefined }),
      accounts: keys,
      owners: keys,
      transactions: fc.boolean(),
    }, PLAIN),
  }, PLAIN),
  fc.record({ kind: fc.constant("ping" as const), token }, PLAIN),
);
const server: fc.Arbitrary<ServerMessage> = fc.oneof(
  fc.record({ kind: fc.constant("ready" as const), token }, PLAIN),
  fc.record({
    kind: fc.constant("ready-shm" as const),
    ready: fc.record({
      token,
      path: fc.string({ unit: "binary", minLength: 1, maxLength: 100 }),
      capacityBytes: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    }, PLAIN),
  }, PLAIN),
);
/** What both decoders make of it, which has to be what the reference's rules say. */
function decodeAny(bytes: Uint8Array): void {
  assert.deepEqual(verdict(decodeClient, bytes), readClient(bytes), `of ${hex(bytes)}`);
  // In a ring the data frames are a sender's, too; on the socket they are not.
  const expected = [2, 6, 7].includes(bytes[1]!) && bytes.length >= 2 ? "V9_TAG" : readServer(bytes);
  assert.deepEqual(verdict(decodeServer, bytes), expected, `of ${hex(bytes)}`);
}

/** The message, or the code of the refusal. Any other exception fails the test. */
function verdict(decode: (bytes: Uint8Array) => unknown, bytes: Uint8Array): unknown {
  try {
    return decode(bytes);
  } catch (error) {
    assert.ok(isQlasterError(error) && /^V9_(MALFORMED|TAG|DECODE|VERSION)$/.test(error.code), String(error));
    return error.code;
  }
}

test("messages come out as they went in", () => {
  fc.assert(fc.property(client, (message) => assert.deepEqual(decodeClient(bodyOf(encode(message))), message)));
  fc.assert(fc.property(server, (message) => assert.deepEqual(decodeServer(bodyOf(encode(message))), message)));
});

test("a message cut at any byte is V9_DECODE, or V9_MALFORMED without a tag", () => {
  fc.assert(fc.property(fc.oneof(client, server), (message) => {
    const body = bodyOf(encode(message));
    const decode = message.kind === "ready" || message.kind === "ready-shm" ? decodeServer : decodeClient;
    for (let length = 0; length < body.length; length++) {
      assert.equal(verdict(decode, body.subarray(0, length)), length < 2 ? "V9_MALFORMED" : "V9_DECODE");
    }
  }));
});

test("a flipped bit leaves a message or one of the refusals, as the reference's rules say", () => {
  fc.assert(
    fc.property(fc.oneof(client, server), (message) => {
      const body = bodyOf(encode(message));
      for (let bit = 0; bit < 8 * body.length; bit++) {
        body[bit >> 3]! ^= 1 << (bit & 7);
        decodeAny(body);
        body[bit >> 3]! ^= 1 << (bit & 7);
      }
    }),
    { numRuns: 20 },
  );
});

test("any bytes are a message or one of the refusals, as the reference's rules say", () => {
  const nearly = fc.tuple(fc.constantFrom(9, 8), fc.integer({ min: 0, max: 8 }), fc.uint8Array({ maxLength: 200 }))
    .map(([version, tag, rest]) => Uint8Array.of(version, tag, ...rest));
  const few = fc.tuple(fc.constantFrom(9, 8), fc.constantFrom(1, 3, 4, 5), fc.uint8Array({ max: 3, maxLength: 120 }))
    .map(([version, tag, rest]) => Uint8Array.of(version, tag, ...rest));
  fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), nearly, few), decodeAny), { numRuns: 2000 });
});

// Cutting

test("FrameCutter gives the same messages however the stream is cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), fc.infiniteStream(fc.integer({ min: 0, max: 9 })), (
      bodies,
      sizes,
    ) => {
      const stream = bodies.flatMap((body) => [body.length, 0, 0, 0, ...body]);
      const cutter = new FrameCutter();
      const found: Uint8Array[] = [];
      for (let at = 0; at < stream.length;) {
        const size = sizes.next().value!;
        found.push(...cutter.push(Uint8Array.from(stream.slice(at, at + size))));
        at += size;
      }
      assert.deepEqual([found, cutter.pending], [bodies, 0]);
    }),
  );
});

test("FrameCutter keeps nothing of the buffers that it was given", () => {
  const cutter = new FrameCutter();
  const bytes = bytesOf("02 00 00 00 | 01 02 | 01 00 00 00");
  const [body] = cutter.push(bytes);
  bytes.fill(0xff);
  assert.deepEqual(body, Uint8Array.of(1, 2));
  assert.deepEqual(cutter.push(Uint8Array.of(3)), [Uint8Array.of(3)]);
});

test("FrameCutter hands over empty messages, and counts what waits", () => {
  const cutter = new FrameCutter();
  assert.deepEqual(cutter.push(bytesOf("00*4 | 05 00 00 00 | 01")), [NONE]);
  assert.equal(cutter.pending, 5);
});

test("FrameCutter refuses an announcement beyond the limit, after what stood before it", () => {
  const isTooLarge = (error: unknown) => isQlasterError(error, "V9_FRAME_TOO_LARGE");
  const limit = new FrameCutter();
  assert.deepEqual(limit.push(bytesOf("00 00 00 01")), [], "16 MiB are allowed");
  assert.throws(() => new FrameCutter().push(bytesOf("01 00 00 01")), isTooLarge);
  const cutter = new FrameCutter(4);
  assert.deepEqual(cutter.push(bytesOf("01 00 00 00 | 07 | 05 00 00 00")), [Uint8Array.of(7)]);
  assert.throws(() => cutter.push(NONE), isTooLarge);
  assert.throws(() => cutter.push(NONE), isTooLarge);
});
