/**
 * The codecs of wire version 9: the original's bytes both ways, its refusals with their kinds, and nothing else for any
 * bytes.
 * May touch: the native library's codec. May not touch: rings, sockets.
 * Where the hex comes from: the original's encoder, as written down in the reference, sections 6 and 7.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { before, test } from "node:test";
import fc from "fast-check";
import { isQlasterError, type QlasterErrorCode } from "../../src/errors.ts";
import {
  ACCOUNT_PAYLOAD_BYTES_MAX,
  encodeReady,
  encodeReadyShm,
  encodeSubscribe,
  FrameCutter,
  loadCodec,
  type ServerFrame,
  TRANSACTION_PAYLOAD_BYTES_MAX,
  type V9Codec,
} from "../../src/v9/mod.ts";
import { readServer } from "../support/v9_reference.ts";
import { patternBytes } from "./support/updates.ts";

let codec: V9Codec;
before(async () => {
  codec = await loadCodec();
});

const CREATED_NS = 0x1122334455667788n;
const PAYLOAD_BYTES_MAX = 10_485_760;
const fill = (length: number, byte: number) => new Uint8Array(length).fill(byte);
const ascii = (text: string) => new TextEncoder().encode(text);
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

const TIME = "88 77 66 55 44 33 22 11";
const ACCOUNT_HEAD = `09 02 | ${TIME} | aa*32 | bb*32 | 05 00*7 | 01 | 06 00*7 | 07 00*7 | 08 00*7`;
const ACCOUNT = `${ACCOUNT_HEAD} | 00 | 03 00 00 00 | 03 00 00 00 | 68 65 79`;
const TRANSACTION_HEAD = `09 06 | ${TIME} | 07 00*7 | 03 00 00 00 | 00 | cc*64`;
const TRANSACTION = `${TRANSACTION_HEAD} | 02 00 00 00 | 74 78`;
const SLOT = `09 07 ${TIME} c8 01 00*6`;

const ACCOUNT_UPDATE = {
  kind: "account" as const,
  pubkey: fill(32, 0xaa),
  owner: fill(32, 0xbb),
  lamports: 5n,
  data: ascii("hey"),
  slot: 7n,
  writeVersion: 8n,
  rentEpoch: 6n,
  executable: true,
};
const TRANSACTION_UPDATE = {
  kind: "transaction" as const,
  slot: 7n,
  index: 3,
  signature: fill(64, 0xcc),
  message: ascii("tx"),
  vote: false,
};

const decoded = (update: object) => ({ kind: "update", createdNs: CREATED_NS, update });

test("the original's account, both ways", () => {
  assert.equal(hex(codec.encodeAccount(ACCOUNT_UPDATE, { createdNs: CREATED_NS })), hex(bytesOf(ACCOUNT)));
  assert.deepEqual(codec.decodeServerFrame(bytesOf(ACCOUNT)), decoded(ACCOUNT_UPDATE));
});

test("the original's transaction, both ways; what version 9 has no place for is left out", () => {
  const bytes = codec.encodeTransaction(TRANSACTION_UPDATE, { createdNs: CREATED_NS });
  assert.equal(hex(bytes), hex(bytesOf(TRANSACTION)));
  assert.deepEqual(codec.decodeServerFrame(bytesOf(TRANSACTION)), decoded(TRANSACTION_UPDATE));
  const more = { ...TRANSACTION_UPDATE, meta: ascii("more"), failed: true, bankId: 5n };
  assert.deepEqual(codec.encodeTransaction(more, { createdNs: CREATED_NS }), bytes);
});

test("the original's slot, both ways", () => {
  assert.equal(hex(codec.encodeSlot({ slot: 456n }, { createdNs: CREATED_NS })), hex(bytesOf(SLOT)));
  assert.deepEqual(codec.decodeServerFrame(bytesOf(SLOT)), decoded({ kind: "slot", slot: 456n }));
});

test("empty payloads are valid, and the time is 0 unless it is given", () => {
  const account = codec.encodeAccount({ ...ACCOUNT_UPDATE, data: fill(0, 0) });
  assert.deepEqual([account.length, hex(account.subarray(2, 10))], [116, hex(fill(8, 0))]);
  assert.equal(codec.encodeTransaction({ ...TRANSACTION_UPDATE, message: fill(0, 0) }).length, 91);
  const frame = codec.decodeServerFrame(account);
  assert.ok(frame.kind === "update" && frame.createdNs === 0n);
});

test("decodeServerFrame() and decodeClientFrame() read control messages too", () => {
  const token = { slotIndex: 1, generation: 2n };
  assert.deepEqual(codec.decodeServerFrame(encodeReady(token).subarray(4)), { kind: "ready", token });
  const ready = { token, path: "/a", capacityBytes: 64 };
  assert.deepEqual(codec.decodeServerFrame(encodeReadyShm(ready).subarray(4)), { kind: "ready-shm", ready });
  const request = { token, accounts: [fill(32, 1)], owners: [], transactions: true };
  const message = codec.decodeClientFrame(encodeSubscribe(request).subarray(4));
  assert.deepEqual(message, { kind: "subscribe", request });
});

test("payloads that were not compressed share the frame's memory", () => {
  const bytes = bytesOf(ACCOUNT);
  const frame = codec.decodeServerFrame(bytes);
  bytes[116] = 0x21;
  assert.ok(frame.kind === "update" && frame.update.kind === "account");
  assert.equal(frame.update.data[0], 0x21);
});

// LZ4

function dataOf(frame: ServerFrame): Uint8Array {
  assert.ok(frame.kind === "update" && frame.update.kind === "account");
  return frame.update.data as Uint8Array;
}

const flagOf = (frame: Uint8Array) => frame[107];
const u32At = (frame: Uint8Array, at: number) => new DataView(frame.buffer, frame.byteOffset).getUint32(at, true);

/** Bytes that do not compress. */
function noise(length: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length }, () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24);
}

/** An account whose payload is this block. */
const compressed = (block: string | Uint8Array, rawLength: number) => {
  const payload = typeof block === "string" ? bytesOf(block) : block;
  const head = bytesOf(`${ACCOUNT_HEAD} | 01 | 00*4 | 00*4`);
  const bytes = Uint8Array.from([...head, ...payload]);
  new DataView(bytes.buffer).setUint32(108, rawLength, true);
  new DataView(bytes.buffer).setUint32(112, payload.length, true);
  return bytes;
};

test("data is compressed from 512,000 bytes on, if the probe says so and it gets smaller", () => {
  const cases: [name: string, data: Uint8Array, isCompressed: boolean][] = [
    ["zeros below the threshold", fill(511_999, 0), false],
    ["zeros at the threshold", fill(512_000, 0), true],
    ["the original's 643,072 bytes of AB", fill(643_072, 0xab), true],
    ["noise", noise(512_000), false],
    [
      "noise whose end compresses: the probe does not see it",
      Uint8Array.from([...noise(8192), ...fill(503_808, 0)]),
      false,
    ],
    [
      "a start that compresses, and noise: it still gets smaller",
      Uint8Array.from([...fill(8192, 0), ...noise(503_808)]),
      true,
    ],
  ];
  for (const [name, data, isCompressed] of cases) {
    const frame = codec.encodeAccount({ ...ACCOUNT_UPDATE, data });
    assert.deepEqual([flagOf(frame), u32At(frame, 108)], [isCompressed ? 1 : 0, data.length], name);
    assert.equal(u32At(frame, 112), frame.length - 116, name);
    assert.equal(frame.length < 116 + data.length, isCompressed, name);
    assert.ok(Buffer.from(dataOf(codec.decodeServerFrame(frame))).equals(data), name);
    const plain = codec.encodeAccount({ ...ACCOUNT_UPDATE, data }, { compress: false });
    assert.deepEqual([flagOf(plain), plain.length], [0, 116 + data.length], name);
  }
});

test("the original's blocks decompress, whatever their size", () => {
  assert.deepEqual(dataOf(codec.decodeServerFrame(compressed("1f 00 01 00 26 60 00*6", 64))), fill(64, 0));
  assert.deepEqual(dataOf(codec.decodeServerFrame(compressed("00", 0))), fill(0, 0), "an empty payload is one byte");
  assert.deepEqual(dataOf(codec.decodeServerFrame(compressed("30 68 65 79", 3))), ascii("hey"), "and may get longer");
});

test("the largest payloads fit, one byte more does not", () => {
  const data = fill(PAYLOAD_BYTES_MAX, 7);
  const frame = codec.encodeAccount({ ...ACCOUNT_UPDATE, data }, { compress: false });
  assert.equal(dataOf(codec.decodeServerFrame(frame)).length, PAYLOAD_BYTES_MAX);
  const small = codec.encodeAccount({ ...ACCOUNT_UPDATE, data });
  assert.ok(Buffer.from(dataOf(codec.decodeServerFrame(small))).equals(data));
  const message = fill(PAYLOAD_BYTES_MAX, 7);
  assert.equal(codec.encodeTransaction({ ...TRANSACTION_UPDATE, message }).length, 91 + PAYLOAD_BYTES_MAX);
  const tooLong = fill(PAYLOAD_BYTES_MAX + 1, 7);
  assert.throws(() => codec.encodeAccount({ ...ACCOUNT_UPDATE, data: tooLong }), RangeError);
  assert.throws(() => codec.encodeTransaction({ ...TRANSACTION_UPDATE, message: tooLong }), RangeError);
});

// Refusals

const TOO_LARGE = "01 00 a0 00"; // 10 MiB and a byte
const REFUSALS: readonly [name: string, bytes: () => Uint8Array, code: QlasterErrorCode][] = [
  ["nothing", () => bytesOf(""), "V9_MALFORMED"],
  ["one byte", () => bytesOf("09"), "V9_MALFORMED"],
  ["an unknown tag", () => bytesOf("09 08"), "V9_TAG"],
  ["subscribe", () => bytesOf("09 01 ff | 00*25"), "V9_TAG"],
  ["ping", () => bytesOf("09 04 00 | 00*8"), "V9_TAG"],
  ["an account, cut in its header", () => bytesOf(ACCOUNT).subarray(0, 115), "V9_MALFORMED"],
  ["an account, cut in its header, of another version", () => bytesOf("08 02 | 00*113"), "V9_MALFORMED"],
  ["an account of another version", () => bytesOf(`08 ${ACCOUNT.slice(3)}`), "V9_VERSION"],
  ["an account, cut in its data", () => bytesOf(ACCOUNT).subarray(0, 118), "V9_MALFORMED"],
  ["an account with a byte more", () => bytesOf(`${ACCOUNT} 00`), "V9_MALFORMED"],
  ["executable 2", () => bytesOf(ACCOUNT.replace("| 01 |", "| 02 |")), "V9_MALFORMED"],
  ["an unknown flag", () => bytesOf(`${ACCOUNT_HEAD} | 02 | 03 00*3 | 03 00*3 | 68 65 79`), "V9_MALFORMED"],
  [
    "an unknown flag next to LZ4",
    () => bytesOf(`${ACCOUNT_HEAD} | 03 | 03 00*3 | 04 00*3 | 30 68 65 79`),
    "V9_MALFORMED",
  ],
  ["raw length 4 without LZ4", () => bytesOf(`${ACCOUNT_HEAD} | 00 | 04 00*3 | 03 00*3 | 68 65 79`), "V9_MALFORMED"],
  [
    "a raw length beyond 10 MiB",
    () => bytesOf(`${ACCOUNT_HEAD} | 01 | ${TOO_LARGE} | 01 00*3 | 00`),
    "V9_PAYLOAD_TOO_LARGE",
  ],
  [
    "both lengths wrong: the limit comes first",
    () => bytesOf(`${ACCOUNT_HEAD} | 00 | ${TOO_LARGE} | 09 00*3 | 00`),
    "V9_PAYLOAD_TOO_LARGE",
  ],
  [
    "executable 2 and a raw length beyond 10 MiB: fields in their order",
    () => bytesOf(`${ACCOUNT_HEAD} | 00 | ${TOO_LARGE} | 00*4`).fill(2, 82, 83),
    "V9_MALFORMED",
  ],
  ["LZ4 of nothing", () => compressed("", 0), "V9_DECODE"],
  ["LZ4 with less room than it needs", () => compressed("30 68 65 79", 2), "V9_DECODE"],
  ["LZ4 with more room than it needs", () => compressed("30 68 65 79", 4), "V9_MALFORMED"],
  ["LZ4 that is cut", () => compressed("30 68 65", 3), "V9_DECODE"],
  ["LZ4 that ends in a match", () => compressed("1f 00 01 00 2a", 64), "V9_DECODE"],
  ["LZ4 with an offset before the start", () => compressed("10 00 05 00 50 00*5", 10), "V9_DECODE"],
  ["LZ4 with its size in front", () => compressed("40 00 00 00 | 1f 00 01 00 26 60 00*6", 64), "V9_DECODE"],
  ["a transaction, cut in its header", () => bytesOf(TRANSACTION).subarray(0, 90), "V9_MALFORMED"],
  ["a transaction, cut in its message", () => bytesOf(TRANSACTION).subarray(0, 92), "V9_MALFORMED"],
  ["a transaction with a byte more", () => bytesOf(`${TRANSACTION} 00`), "V9_MALFORMED"],
  ["a transaction of another version", () => bytesOf(`0a ${TRANSACTION.slice(3)}`), "V9_VERSION"],
  ["vote 2", () => bytesOf(TRANSACTION).fill(2, 22, 23), "V9_MALFORMED"],
  ["a message beyond 10 MiB", () => bytesOf(`${TRANSACTION_HEAD} | ${TOO_LARGE} | 74 78`), "V9_PAYLOAD_TOO_LARGE"],
  ["a slot, cut", () => bytesOf(SLOT).subarray(0, 17), "V9_MALFORMED"],
  ["a slot with a 19th byte", () => bytesOf(`${SLOT} 00`), "V9_MALFORMED"],
  ["a slot of another version", () => bytesOf(`08 ${SLOT.slice(3)}`), "V9_VERSION"],
];

for (const [name, bytes, code] of REFUSALS) {
  test(`decodeServerFrame() refuses ${name}: ${code}`, () => {
    assert.throws(() => codec.decodeServerFrame(bytes()), (error) => isQlasterError(error, code));
  });
}

test("nothing is encoded from fields that are not what they must be", () => {
  assert.throws(() => codec.encodeSlot({ slot: -1n }), RangeError);
  assert.throws(() => codec.encodeSlot({ slot: 1n }, { createdNs: 1n << 64n }), RangeError);
  assert.throws(() => codec.encodeSlot({ slot: 1n }, { createdNs: 1 as unknown as bigint }), TypeError);
  assert.throws(() => codec.encodeAccount({ ...ACCOUNT_UPDATE, pubkey: fill(31, 0) }), TypeError);
  assert.throws(() => codec.encodeTransaction({ ...TRANSACTION_UPDATE, signature: fill(63, 0) }), TypeError);
});

// Properties

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const account = fc.record({
  kind: fc.constant("account" as const),
  pubkey: bytes(32),
  owner: bytes(32),
  lamports: u64,
  data: fc.uint8Array({ maxLength: 300 }),
  slot: u64,
  writeVersion: u64,
  rentEpoch: u64,
  executable: fc.boolean(),
}, { noNullPrototype: true });
const transaction = fc.record({
  kind: fc.constant("transaction" as const),
  slot: u64,
  index: fc.integer({ min: 0, max: 0xffffffff }),
  signature: bytes(64),
  message: fc.uint8Array({ maxLength: 300 }),
  vote: fc.boolean(),
}, { noNullPrototype: true });
const slot = fc.record({ kind: fc.constant("slot" as const), slot: u64 }, { noNullPrototype: true });
const update = fc.oneof(account, transaction, slot);
type AnyUpdate = typeof update extends fc.Arbitrary<infer U> ? U : never;

function encode(update: AnyUpdate, createdNs: bigint): Uint8Array {
  switch (update.kind) {
    case "account":
      return codec.encodeAccount(update, { createdNs });
    case "transaction":
      return codec.encodeTransaction(update, { createdNs });
    case "slot":
      return codec.encodeSlot(update, { createdNs });
  }
}

/** The frame, or the code of the refusal. Any other exception fails the test. */
function verdict(bytes: Uint8Array): unknown {
  try {
    return codec.decodeServerFrame(bytes);
  } catch (error) {
    assert.ok(isQlasterError(error) && error.code.startsWith("V9_"), String(error));
    return error.code;
  }
}

/** The verdict, which has to be that of the reference's rules. */
function agreed(bytes: Uint8Array): unknown {
  const ours = verdict(bytes);
  assert.deepEqual(ours, readServer(bytes), `of ${hex(bytes)}`);
  return ours;
}

/** Bytes on which decoders decide, and their neighbours. */
const TELLING: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 127, 128, 159, 160, 161, 254, 255];

test("updates come out as they went in", () => {
  fc.assert(fc.property(update, u64, (update, createdNs) => {
    const frame = encode(update, createdNs);
    assert.deepEqual(agreed(frame), { kind: "update", createdNs, update });
  }));
});

test("a frame cut at any byte, or longer by some, is V9_MALFORMED", () => {
  fc.assert(
    fc.property(update, (update) => {
      const frame = encode(update, 1n);
      for (let length = 0; length < frame.length; length++) {
        assert.equal(agreed(frame.slice(0, length)), "V9_MALFORMED");
      }
      assert.equal(agreed(Uint8Array.from([...frame, 0])), "V9_MALFORMED");
    }),
    { numRuns: 20 },
  );
});

test("a flipped bit, or any other byte, gives what the reference's rules say", () => {
  fc.assert(
    fc.property(update, (update) => {
      const frame = encode(update, 1n);
      for (let bit = 0; bit < 8 * frame.length; bit++) {
        frame[bit >> 3]! ^= 1 << (bit & 7);
        agreed(frame);
        frame[bit >> 3]! ^= 1 << (bit & 7);
      }
      for (let at = 0; at < frame.length; at++) {
        const was = frame[at]!;
        for (const byte of at < 120 ? TELLING : [0]) {
          frame[at] = byte;
          agreed(frame);
        }
        frame[at] = was;
      }
    }),
    { numRuns: 5 },
  );
});

test("two faults in one frame: the first by the reference's order counts", () => {
  const places = fc.tuple(fc.constantFrom(0, 1, 22, 82, 87, 88, 90, 107, 108, 110, 111, 112, 115), fc.nat(255));
  fc.assert(
    fc.property(update, places, places, fc.option(fc.nat(130)), (update, [a, first], [b, second], cut) => {
      const frame = encode(update, 1n);
      if (a < frame.length) frame[a] = first;
      if (b < frame.length) frame[b] = second;
      agreed(cut === null ? frame : frame.slice(0, cut));
    }),
    { numRuns: 2000 },
  );
});

/** The same where blocks are compressed. There ours refuses what no compressor writes: see docs/interop.md, LZ4. */
function agreedUnlessStricter(bytes: Uint8Array): unknown {
  const ours = verdict(bytes);
  if (ours !== "V9_DECODE") assert.deepEqual(ours, readServer(bytes));
  return ours;
}

test("a flipped bit of a compressed frame gives what the reference's rules say, or V9_DECODE", () => {
  const data = Uint8Array.from([...fill(500_000, 1), ...patternBytes(12_000, 2)]);
  const large = codec.encodeAccount({ ...ACCOUNT_UPDATE, data });
  assert.equal(flagOf(large), 1);
  for (const frame of [large, compressed("1f 00 01 00 26 60 00*6", 64), compressed("30 61 62 63", 3)]) {
    assert.equal(typeof agreedUnlessStricter(frame), "object");
    const last = Math.min(frame.length, frame === large ? 300 : Infinity);
    for (let bit = 8 * (frame === large ? 107 : 0); bit < 8 * last; bit++) {
      frame[bit >> 3]! ^= 1 << (bit & 7);
      agreedUnlessStricter(frame);
      frame[bit >> 3]! ^= 1 << (bit & 7);
    }
    for (let length = 0; length < last; length++) {
      const cut = frame.slice(0, length);
      if (length >= 116) new DataView(cut.buffer).setUint32(112, length - 116, true);
      agreedUnlessStricter(cut);
    }
  }
});

test("any bytes are a frame or one of the refusals, as the reference's rules say", () => {
  const nearly = fc.tuple(
    fc.constantFrom(9, 9, 9, 8),
    fc.integer({ min: 0, max: 8 }),
    fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.uint8Array({ maxLength: 200 }).map((rest) => rest.map((b) => b & 1)),
    ),
  ).map(([version, tag, rest]) => Uint8Array.of(version, tag, ...rest));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), nearly), (bytes) => void agreed(bytes)),
    { numRuns: 2000 },
  );
});

test("refusals say what was found, what was expected, and the most that there may be", () => {
  const fault = (read: () => unknown) => {
    try {
      read();
    } catch (error) {
      assert.ok(isQlasterError(error), String(error));
      const { code, found, expected, max } = error;
      return [code, found, expected, max];
    }
    assert.fail("it was read");
  };
  assert.equal(ACCOUNT_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX);
  assert.equal(TRANSACTION_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX);
  const none = undefined;
  const server = (bytes: Uint8Array) => fault(() => codec.decodeServerFrame(bytes));
  assert.deepEqual(server(bytesOf(SLOT).with(0, 8)), ["V9_VERSION", 8, 9, none]);
  assert.deepEqual(server(bytesOf(ACCOUNT).with(0, 7)), ["V9_VERSION", 7, 9, none]);
  assert.deepEqual(server(bytesOf(SLOT).with(1, 77)), ["V9_TAG", 77, 2, none]);
  const tooLong = PAYLOAD_BYTES_MAX + 1;
  const account = bytesOf(ACCOUNT);
  new DataView(account.buffer).setUint32(108, tooLong, true);
  assert.deepEqual(server(account), ["V9_PAYLOAD_TOO_LARGE", tooLong, none, PAYLOAD_BYTES_MAX]);
  const transaction = bytesOf(TRANSACTION);
  new DataView(transaction.buffer).setUint32(87, tooLong, true);
  assert.deepEqual(server(transaction), ["V9_PAYLOAD_TOO_LARGE", tooLong, none, PAYLOAD_BYTES_MAX]);
  assert.deepEqual(server(bytesOf(ACCOUNT).subarray(0, 50)), ["V9_MALFORMED", none, none, none]);
  const ping = bytesOf("09 04 03 | 00*8");
  assert.deepEqual(fault(() => codec.decodeClientFrame(ping.with(0, 8))), ["V9_VERSION", 8, 9, none]);
  assert.deepEqual(fault(() => codec.decodeClientFrame(ping.with(1, 5))), ["V9_TAG", 5, 1, none]);
  assert.deepEqual(
    fault(() => new FrameCutter().push(Uint8Array.of(1, 0, 0, 1))),
    ["V9_FRAME_TOO_LARGE", 16 * 1024 * 1024 + 1, none, 16 * 1024 * 1024],
  );
});
