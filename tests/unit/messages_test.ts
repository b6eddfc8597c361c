/**
 * Messages of a link: what goes in comes out, and nothing that an adversary sends brings anything but LINK_PROTOCOL.
 * May touch: bytes. May not touch: sockets.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isQlasterError } from "../../src/errors.ts";
import {
  LINK_BODY_BYTES_MAX,
  LINK_MAGIC,
  LinkHeader,
  LinkKind,
  NAME_BYTES_MAX,
} from "../../src/native/abi.generated.ts";
import {
  decodeAck,
  decodeGoodbye,
  decodeGrant,
  decodeHeader,
  decodeHello,
  decodeRefusal,
  decodeSubscribe,
  encodeAck,
  encodeEmpty,
  encodeGoodbye,
  encodeGrant,
  encodeHello,
  encodeRefusal,
  encodeSubscribe,
  KEYS_PER_MESSAGE_MAX,
  type Message,
  protocolError,
} from "../../src/wire/messages.ts";
import { keyOf, patternBytes } from "./support/updates.ts";

function messageFrom(bytes: Uint8Array): Message {
  const { kind, requestId, bodyLength } = decodeHeader(bytes);
  assert.equal(bytes.length, LinkHeader.size + bodyLength);
  return { kind, requestId, body: bytes.slice(LinkHeader.size) };
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const text = fc.string({ unit: "binary", maxLength: 16 });
const PLAIN = { noNullPrototype: true } as const;
const utf8 = new TextEncoder();

test("hello, round trip", () => {
  fc.assert(fc.property(text.filter((name) => utf8.encode(name).length <= NAME_BYTES_MAX), (name) => {
    const message = messageFrom(encodeHello(name));
    assert.equal(message.kind, LinkKind.hello);
    assert.deepEqual(decodeHello(message), { versionMin: 1, versionMax: 1, name });
  }));
});

test("hello and refusal keep a text that starts with a byte order mark", () => {
  assert.equal(decodeHello(messageFrom(encodeHello("\ufeffbot"))).name, "\ufeffbot");
  assert.equal(decodeRefusal(messageFrom(encodeRefusal(1, { status: -1, text: "\ufeffno" }))).text, "\ufeffno");
});

test("grant, round trip", () => {
  const grant = fc.record({
    version: fc.integer({ min: 0, max: 0xffff }),
    capacityBytes: fc.maxSafeNat(),
    reservedBytes: u32,
    connectionId: fc.maxSafeNat(),
    senderId: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  }, PLAIN);
  fc.assert(fc.property(grant, (grant) => {
    const message = messageFrom(encodeGrant(grant));
    assert.equal(message.kind, LinkKind.grant);
    assert.deepEqual(decodeGrant(message), grant);
  }));
});

test("subscribe, round trip", () => {
  const request = fc.record({ accounts: fc.array(key), owners: fc.array(key), transactions: fc.boolean() }, PLAIN);
  fc.assert(fc.property(u32, request, (id, request) => {
    const message = messageFrom(encodeSubscribe(id, request));
    assert.deepEqual([message.kind, message.requestId], [LinkKind.subscribe, id]);
    assert.deepEqual(decodeSubscribe(message), request);
  }));
});

test("ack, refusal, goodbye and the empty ones, round trip", () => {
  fc.assert(
    fc.property(
      u32,
      u64,
      u32,
      fc.integer({ min: -5000, max: -1 }),
      fc.string({ unit: "binary" }),
      (id, sequence, generation, status, text) => {
        const ack = messageFrom(encodeAck(id, { sequence, generation }));
        assert.deepEqual([ack.kind, ack.requestId], [LinkKind.ack, id]);
        assert.deepEqual(decodeAck(ack), { sequence, generation });
        const refusal = messageFrom(encodeRefusal(id, { status, text }));
        assert.deepEqual([refusal.kind, refusal.requestId], [LinkKind.refuse, id]);
        assert.deepEqual(decodeRefusal(refusal), { status, text });
        const goodbye = messageFrom(encodeGoodbye(generation));
        assert.equal(goodbye.kind, LinkKind.goodbye);
        assert.equal(decodeGoodbye(goodbye), generation);
        const ping = messageFrom(encodeEmpty(LinkKind.ping, id));
        assert.deepEqual([ping.kind, ping.requestId, ping.body.length], [LinkKind.ping, id, 0]);
      },
    ),
  );
});

test("the bytes are those of zig/layout.zig", () => {
  const hex = (bytes: Uint8Array) => bytes.toHex();
  assert.equal(
    hex(encodeHello("ab")),
    "514c4153" + "0100" + "0100" + "0a000000" + "00000000" + "0100" + "0100" + "02000000" + "6162",
  );
  assert.equal(
    hex(
      encodeGrant({
        version: 1,
        capacityBytes: 0x1_0002_0003,
        reservedBytes: 0x04050607,
        connectionId: 0x0809,
        senderId: patternBytes(16, 0),
      }),
    ),
    "514c4153" + "0100" + "0200" + "28000000" + "00000000" + "0100" + "0000" + "07060504" + "0300020001000000" +
      "0908000000000000" + hex(patternBytes(16, 0)),
  );
  assert.equal(
    hex(encodeSubscribe(0x01020304, { accounts: [keyOf(1)], owners: [keyOf(2)], transactions: true })),
    "514c4153" + "0100" + "0300" + "50000000" + "04030201" + "01000000" + "01000000" + "01000000" + "00000000" +
      hex(keyOf(1)) + hex(keyOf(2)),
  );
  assert.equal(
    hex(encodeAck(5, { sequence: 6n, generation: 7 })),
    "514c4153" + "0100" + "0400" + "10000000" + "05000000" + "0600000000000000" + "07000000" + "00000000",
  );
  assert.equal(hex(encodeEmpty(LinkKind.ping, 1)), "514c4153" + "0100" + "0500" + "00000000" + "01000000");
  assert.equal(hex(encodeEmpty(LinkKind.pong, 1)), "514c4153" + "0100" + "0600" + "00000000" + "01000000");
  assert.equal(hex(encodeGoodbye(3)), "514c4153" + "0100" + "0700" + "04000000" + "00000000" + "03000000");
  assert.equal(
    hex(encodeRefusal(9, { status: -4097, text: "no" })),
    "514c4153" + "0100" + "0800" + "0a000000" + "09000000" + "ffefffff" + "02000000" + "6e6f",
  );
});

/** One message of each kind, with the function that reads it. */
const EXAMPLES: [name: string, bytes: Uint8Array, decode: (message: Message) => unknown][] = [
  ["hello", encodeHello("bot ü"), decodeHello],
  [
    "grant",
    encodeGrant({
      version: 1,
      capacityBytes: 65536,
      reservedBytes: 16384,
      connectionId: 3,
      senderId: patternBytes(16, 9),
    }),
    decodeGrant,
  ],
  [
    "subscribe",
    encodeSubscribe(2, { accounts: [keyOf(1), keyOf(2)], owners: [keyOf(3)], transactions: true }),
    decodeSubscribe,
  ],
  ["ack", encodeAck(3, { sequence: 12n, generation: 4 }), decodeAck],
  ["refusal", encodeRefusal(4, { status: -4200, text: "no room" }), decodeRefusal],
  ["goodbye", encodeGoodbye(1), decodeGoodbye],
];

test("decode…() refuses a body cut at any byte, and one byte more", () => {
  for (const [name, bytes, decode] of EXAMPLES) {
    const message = messageFrom(bytes);
    const longer = new Uint8Array(message.body.length + 1);
    longer.set(message.body);
    for (let length = 0; length < message.body.length; length++) {
      assert.throws(
        () => decode({ ...message, body: message.body.slice(0, length) }),
        isProtocolError,
        `${name} ${length}`,
      );
    }
    assert.throws(() => decode({ ...message, body: longer }), isProtocolError, `${name} and one`);
  }
});

function isProtocolError(error: unknown): boolean {
  return isQlasterError(error, "LINK_PROTOCOL");
}

/** Reads as a link would. True if it was refused as it must be; any other exception is thrown on. */
function readOrRefuse(bytes: Uint8Array, decode: (message: Message) => unknown): boolean {
  try {
    const { kind, requestId, bodyLength } = decodeHeader(bytes);
    if (bodyLength > bytes.length - LinkHeader.size) return true; // a link would wait for the rest
    decode({ kind, requestId, body: bytes.slice(LinkHeader.size, LinkHeader.size + bodyLength) });
    return false;
  } catch (error) {
    if (isProtocolError(error)) return true;
    throw error;
  }
}

test("a flipped bit is refused as LINK_PROTOCOL or read, and never throws anything else", () => {
  for (const [name, bytes, decode] of EXAMPLES) {
    let refused = 0;
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = bytes.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      if (readOrRefuse(flipped, decode)) refused++;
      if (bit < 32) assert.ok(refused === bit + 1, `${name}: the magic is checked`);
    }
    assert.ok(refused >= 32, name);
  }
});

test("random bytes behind a true header are refused or read, whatever the kind", () => {
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(fc.constantFrom(0, 0, 0, 1, 2, 8, 64, 255), { maxLength: 120 }).map((bytes) => Uint8Array.from(bytes)),
  );
  fc.assert(
    fc.property(body, fc.constantFrom(...EXAMPLES), (body, [, bytes, decode]) => {
      const whole = new Uint8Array(LinkHeader.size + body.length);
      whole.set(bytes.subarray(0, LinkHeader.size));
      new DataView(whole.buffer).setUint32(LinkHeader.bodyLength, body.length, true);
      whole.set(body, LinkHeader.size);
      readOrRefuse(whole, decode);
    }),
    { numRuns: 3000 },
  );
});

test("decodeHeader() reads at an offset, and refuses a body beyond the limit before any of it came", () => {
  const bytes = new Uint8Array(40).fill(255);
  bytes.set(encodeEmpty(LinkKind.pong, 7), 5);
  assert.deepEqual(decodeHeader(bytes.subarray(5)), { kind: LinkKind.pong, requestId: 7, bodyLength: 0 });
  const header = new DataView(bytes.buffer, 5);
  header.setUint32(LinkHeader.bodyLength, LINK_BODY_BYTES_MAX, true);
  assert.equal(decodeHeader(bytes.subarray(5)).bodyLength, LINK_BODY_BYTES_MAX);
  for (const length of [LINK_BODY_BYTES_MAX + 1, 0xffffffff]) {
    header.setUint32(LinkHeader.bodyLength, length, true);
    assert.throws(() => decodeHeader(bytes.subarray(5)), {
      code: "LINK_PROTOCOL",
      message: new RegExp(`its body has ${length} bytes`),
    });
  }
});

test("decodeHeader() refuses another protocol and shows how it starts", () => {
  const v9 = new Uint8Array(16);
  v9[0] = 9;
  assert.throws(() => decodeHeader(v9), { code: "LINK_PROTOCOL", message: /it starts with 0x9/ });
  assert.equal(new TextDecoder().decode(new Uint8Array(Uint32Array.of(LINK_MAGIC).buffer)), "QLAS");
});

test("encodeHello() refuses a name beyond 64 bytes, counted as UTF-8", () => {
  assert.equal(decodeHello(messageFrom(encodeHello("ü".repeat(32)))).name, "ü".repeat(32));
  assert.throws(() => encodeHello("ü".repeat(33)), { name: "RangeError", message: /66 bytes, the limit is 64/ });
  assert.throws(() => encodeHello("a".repeat(65)), RangeError);
});

test("decodeHello() refuses a name beyond 64 bytes although it is there", () => {
  const body = new Uint8Array(8 + 65);
  new DataView(body.buffer).setUint32(4, 65, true);
  assert.throws(() => decodeHello({ kind: LinkKind.hello, requestId: 0, body }), isProtocolError);
});

test("decodeHello() and decodeRefusal() show text that is not UTF-8 with replacement characters", () => {
  const hello = encodeHello("abc");
  hello[LinkHeader.size + 8] = 0xff;
  assert.equal(decodeHello(messageFrom(hello)).name, "\ufffdbc");
});

test("decodeSubscribe() refuses counts whose sum overflows, and a flag that is neither 0 nor 1", () => {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setUint32(0, 0x80000000, true);
  view.setUint32(4, 0x80000000, true);
  assert.throws(() => decodeSubscribe({ kind: LinkKind.subscribe, requestId: 1, body }), isProtocolError);
  body.fill(0);
  view.setUint32(8, 2, true);
  assert.throws(() => decodeSubscribe({ kind: LinkKind.subscribe, requestId: 1, body }), isProtocolError);
});

test("decode…() copies: what it returns does not change with the buffer it was read from", () => {
  const message = messageFrom(encodeSubscribe(1, { accounts: [keyOf(1)], owners: [keyOf(2)], transactions: false }));
  const request = decodeSubscribe(message);
  const grant = messageFrom(
    encodeGrant({ version: 1, capacityBytes: 1, reservedBytes: 1, connectionId: 1, senderId: keyOf(3).slice(0, 16) }),
  );
  const granted = decodeGrant(grant);
  message.body.fill(0);
  grant.body.fill(0);
  assert.deepEqual(request.accounts, [keyOf(1)]);
  assert.deepEqual(request.owners, [keyOf(2)]);
  assert.deepEqual(granted.senderId, keyOf(3).slice(0, 16));
});

test("KEYS_PER_MESSAGE_MAX keys fit a message, one more does not", () => {
  const keys = (count: number) => ({ accounts: Array(count).fill(keyOf(1)), owners: [], transactions: false });
  const largest = encodeSubscribe(1, keys(KEYS_PER_MESSAGE_MAX));
  assert.equal(decodeSubscribe(messageFrom(largest)).accounts.length, KEYS_PER_MESSAGE_MAX);
  assert.throws(() => decodeHeader(encodeSubscribe(1, keys(KEYS_PER_MESSAGE_MAX + 1))), isProtocolError);
});

test("protocolError() says what", () => {
  assert.match(protocolError("a thing").message, /^Cannot read a link message: a thing: /);
});
