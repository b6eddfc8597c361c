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
  FILTER_PROGRAM_BYTES_MAX,
  FilterBody,
  FilterKind,
  HelloBody,
  LINK_BODY_BYTES_MAX,
  LINK_MAGIC,
  LinkHeader,
  LinkKind,
  NAME_BYTES_MAX,
} from "../../src/native/abi.generated.ts";
import { OVERFLOW_POLICIES } from "../../src/types.ts";
import { encodeFilter } from "../../src/wire/filters.ts";
import {
  decodeAck,
  decodeFilterEdit,
  decodeGoodbye,
  decodeGrant,
  decodeHandover,
  decodeHeader,
  decodeHello,
  decodeRefusal,
  decodeSubscribe,
  encodeAck,
  encodeEmpty,
  encodeFilterEdit,
  encodeGoodbye,
  encodeGrant,
  encodeHandover,
  encodeHello,
  encodeRefusal,
  encodeSubscribe,
  type FilterEdit,
  filterKeys,
  filterKeysMax,
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

const policy = fc.constantFrom(...OVERFLOW_POLICIES);
const NO_WISHES = {
  policy: "disconnect",
  transactionPolicy: "disconnect",
  backlogBytes: 0,
  resume: undefined,
} as const;

test("hello, round trip", () => {
  const name = text.filter((name) => utf8.encode(name).length <= NAME_BYTES_MAX);
  const senderId = fc.uint8Array({ minLength: 16, maxLength: 16 }).filter((id) => id.some((byte) => byte !== 0));
  const resume = fc.option(fc.record({ senderId, after: u64 }, PLAIN), { nil: undefined });
  const wishes = fc.record({ policy, transactionPolicy: policy, backlogBytes: u32, resume }, PLAIN);
  fc.assert(fc.property(name, wishes, (name, wishes) => {
    const message = messageFrom(encodeHello(name, wishes));
    assert.equal(message.kind, LinkKind.hello);
    assert.deepEqual(decodeHello(message), { versionMin: 1, versionMax: 1, name, ...wishes });
  }));
  assert.deepEqual(decodeHello(messageFrom(encodeHello("x"))), {
    versionMin: 1,
    versionMax: 1,
    name: "x",
    ...NO_WISHES,
  });
});

test("hello and grant refuse a policy that is none", () => {
  assert.throws(() => encodeHello("x", { ...NO_WISHES, policy: "maybe" as never }), TypeError);
  const hello = messageFrom(encodeHello("x"));
  const grant = messageFrom(encodeGrant(GRANT));
  for (const [message, offset, decode] of [[hello, 8, decodeHello], [hello, 10, decodeHello]] as const) {
    const body = message.body.slice();
    body[offset] = 5;
    assert.throws(() => decode({ ...message, body }), isProtocolError);
  }
  for (const offset of [44, 46]) {
    const body = grant.body.slice();
    body[offset] = 5;
    assert.throws(() => decodeGrant({ ...grant, body }), isProtocolError);
  }
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
    poolBytes: u32,
    policy,
    transactionPolicy: policy,
    sequence: u64,
    historyFrom: fc.option(u64.filter((from) => from < 2n ** 64n - 1n), { nil: undefined }),
    hasState: fc.boolean(),
    hasHistory: fc.boolean(),
    hasTakeover: fc.boolean(),
    isResumed: fc.boolean(),
  }, PLAIN);
  fc.assert(fc.property(grant, (grant) => {
    const message = messageFrom(encodeGrant(grant));
    assert.equal(message.kind, LinkKind.grant);
    assert.deepEqual(decodeGrant(message), grant);
  }));
});

test("subscribe, round trip", () => {
  const flags = { transactions: fc.boolean(), state: fc.boolean(), hasMore: fc.boolean() };
  const request = fc.record({ accounts: fc.array(key), owners: fc.array(key), ...flags }, PLAIN);
  fc.assert(fc.property(u32, request, (id, request) => {
    const message = messageFrom(encodeSubscribe(id, request));
    assert.deepEqual([message.kind, message.requestId], [LinkKind.subscribe, id]);
    assert.deepEqual(decodeSubscribe(message), request);
  }));
});

const GRANT = {
  version: 1,
  capacityBytes: 65536,
  reservedBytes: 16384,
  connectionId: 3,
  senderId: patternBytes(16, 9),
};

test("grant without policies and a pool: those of who asks for nothing", () => {
  assert.deepEqual(decodeGrant(messageFrom(encodeGrant(GRANT))), {
    ...GRANT,
    poolBytes: 0,
    policy: "disconnect",
    transactionPolicy: "disconnect",
    sequence: 0n,
    historyFrom: undefined,
    hasState: false,
    hasHistory: false,
    hasTakeover: false,
    isResumed: false,
  });
});

const NOTHING = new Uint8Array(0);
const RICH = encodeFilter({ accounts: { owners: [keyOf(2)], lamports: { gt: 10n } } }, "rich");
const EDIT: FilterEdit = {
  op: "replace",
  bit: 7,
  transactions: false,
  isLast: true,
  accounts: [],
  owners: [keyOf(2)],
  program: RICH.program,
};

test("filter, round trip: keys and program stay in the body, counted", () => {
  const edit: fc.Arbitrary<FilterEdit> = fc.record({
    op: fc.constantFrom("add" as const, "remove" as const),
    bit: fc.integer({ min: 0, max: 63 }),
    transactions: fc.boolean(),
    isLast: fc.boolean(),
    state: fc.boolean(),
    versions: fc.boolean(),
    accounts: fc.array(key),
    owners: fc.array(key),
    program: fc.constant(NOTHING),
  }, PLAIN).map((edit) => {
    const state = edit.state && edit.op === "add";
    return { ...edit, state, versions: state && edit.versions };
  });
  fc.assert(fc.property(u32, edit, (id, edit) => {
    const message = messageFrom(encodeFilterEdit(id, edit));
    assert.deepEqual([message.kind, message.requestId], [LinkKind.filter, id]);
    const { op, bit, transactions, isLast, state, versions } = edit;
    const request = decodeFilterEdit(message);
    assert.deepEqual(request, {
      ...{
        op,
        bit,
        transactions,
        isLast,
        state: state === true,
        versions: versions === true,
        accountCount: edit.accounts.length,
        ownerCount: edit.owners.length,
      },
      ...{ programKind: 0, slotStatuses: undefined, body: message.body },
    });
    assert.deepEqual(filterKeys(request), { accounts: edit.accounts, owners: edit.owners });
  }));
  const request = decodeFilterEdit(messageFrom(encodeFilterEdit(1, EDIT)));
  assert.deepEqual([request.op, request.bit, request.programKind], ["replace", 7, FilterKind.accounts]);
  assert.deepEqual(request.body.slice(FilterBody.size + 32), RICH.program);
  assert.deepEqual(decodeFilterEdit(messageFrom(encodeFilterEdit(1, { ...EDIT, op: "drop", ...EMPTY }))).op, "drop");
});

const EMPTY = { accounts: [], owners: [], program: NOTHING };

test("decodeFilterEdit() says which statuses a filter of slots wants", () => {
  const statusesOf = (filter: Parameters<typeof encodeFilter>[0]) => {
    const { program } = encodeFilter(filter, "x");
    return decodeFilterEdit(messageFrom(encodeFilterEdit(1, { ...EDIT, ...EMPTY, program }))).slotStatuses;
  };
  assert.equal(statusesOf({ slots: true }), 0xffffffff);
  assert.equal(statusesOf({ slots: { statuses: ["processed", "finalized"] } }), 0b101);
  assert.equal(statusesOf({ slots: { statuses: [] } }), 0);
  assert.equal(statusesOf({ accounts: true }), undefined);
  assert.equal(statusesOf({ transactions: { vote: false } }), undefined);
});

test("decodeFilterEdit() refuses what contradicts itself", () => {
  const { body } = messageFrom(encodeFilterEdit(1, EDIT));
  const lies: [what: string, lie: (body: DataView) => void][] = [
    ["no operation", (view) => view.setUint8(FilterBody.op, 0)],
    ["an operation of the future", (view) => view.setUint8(FilterBody.op, 5)],
    ["a bit beyond the mask", (view) => view.setUint8(FilterBody.bit, 64)],
    ["transactions neither 0 nor 1", (view) => view.setUint8(FilterBody.transactions, 2)],
    ["last neither 0 nor 1", (view) => view.setUint8(FilterBody.isLast, 2)],
    ["flags of the future", (view) => view.setUint32(FilterBody.flags, 8, true)],
    ["flags of other messages", (view) => view.setUint32(FilterBody.flags, 2, true)],
    ["versions without state", (view) => view.setUint32(FilterBody.flags, 4, true)],
    ["counts whose sum overflows", (view) => {
      view.setUint32(FilterBody.accountCount, 0x80000000, true);
      view.setUint32(FilterBody.ownerCount, 0x80000001, true);
    }],
    ["a program that is not there", (view) => view.setUint32(FilterBody.programLength, RICH.program.length + 8, true)],
    ["a program to add", (view) => view.setUint8(FilterBody.op, 1)],
    ["a program to remove", (view) => view.setUint8(FilterBody.op, 2)],
  ];
  for (const [what, lie] of lies) {
    const lying = body.slice();
    lie(new DataView(lying.buffer));
    assert.throws(
      () => decodeFilterEdit({ kind: LinkKind.filter, requestId: 1, body: lying }),
      isProtocolError,
      what,
    );
  }
  const refused = (edit: Partial<FilterEdit>, what: string) => {
    const message = messageFrom(encodeFilterEdit(1, { ...EDIT, ...EMPTY, ...edit }));
    assert.throws(() => decodeFilterEdit(message), isProtocolError, what);
  };
  refused({ op: "drop", owners: [keyOf(1)] }, "keys to drop");
  refused({ program: new Uint8Array(FILTER_PROGRAM_BYTES_MAX + 8) }, "a program beyond the limit");
});

test("filterKeysMax() keys fit a message beside a program, one more does not", () => {
  const count = filterKeysMax(RICH.program.length);
  const edit = (count: number) => encodeFilterEdit(1, { ...EDIT, owners: Array(count).fill(keyOf(1)) });
  assert.equal(decodeFilterEdit(messageFrom(edit(count))).ownerCount, count);
  assert.throws(() => decodeHeader(edit(count + 1)), isProtocolError);
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
    hex(encodeHello("ab", { policy: "conflate", transactionPolicy: "drop-oldest", backlogBytes: 0x01020304 })),
    "514c4153" + "0100" + "0100" + "2a000000" + "00000000" + "0100" + "0100" + "02000000" + "0300" + "0200" +
      "04030201" + "00".repeat(24) + "6162",
  );
  assert.equal(
    hex(encodeHello("", { ...NO_WISHES, resume: { senderId: patternBytes(16, 4), after: 0x0102n } })),
    "514c4153" + "0100" + "0100" + "28000000" + "00000000" + "0100" + "0100" + "00000000" + "0000" + "0000" +
      "00000000" + "0201000000000000" + hex(patternBytes(16, 4)),
  );
  assert.equal(
    hex(encodeHandover(7, { sequence: 0x0102n, newestSlot: 3n, evicted: 4n })),
    "514c4153" + "0100" + "0c00" + "18000000" + "07000000" + "0201000000000000" + "0300000000000000" +
      "0400000000000000",
  );
  assert.equal(
    hex(
      encodeGrant({
        version: 1,
        capacityBytes: 0x1_0002_0003,
        reservedBytes: 0x04050607,
        connectionId: 0x0809,
        senderId: patternBytes(16, 0),
        poolBytes: 0x0a0b0c0d,
        policy: "block",
        transactionPolicy: "drop-newest",
        sequence: 0x0203n,
        historyFrom: 0x0102n,
        hasState: true,
        hasTakeover: true,
        isResumed: true,
      }),
    ),
    "514c4153" + "0100" + "0200" + "48000000" + "00000000" + "0100" + "0000" + "07060504" + "0300020001000000" +
      "0908000000000000" + hex(patternBytes(16, 0)) + "0d0c0b0a" + "0400" + "0100" +
      "0302000000000000" + "0201000000000000" + "05000000" + "01000000",
  );
  assert.equal(
    hex(
      encodeFilterEdit(0x01020304, {
        ...{ op: "replace", bit: 5, transactions: true, isLast: false },
        ...{ accounts: [keyOf(1)], owners: [keyOf(2)], program: patternBytes(8, 3), state: true },
      }),
    ),
    "514c4153" + "0100" + "0900" + "5c000000" + "04030201" + "03" + "05" + "01" + "00" + "01000000" + "01000000" +
      "08000000" + "01000000" + hex(keyOf(1)) + hex(keyOf(2)) + hex(patternBytes(8, 3)),
  );
  assert.equal(
    hex(
      encodeSubscribe(0x01020304, {
        ...{ accounts: [keyOf(1)], owners: [keyOf(2)] },
        ...{ transactions: true, state: true, hasMore: true },
      }),
    ),
    "514c4153" + "0100" + "0300" + "50000000" + "04030201" + "01000000" + "01000000" + "01000000" + "03000000" +
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
    encodeGrant({ ...GRANT, poolBytes: 1 << 20, policy: "conflate" }),
    decodeGrant,
  ],
  [
    "subscribe",
    encodeSubscribe(2, { accounts: [keyOf(1), keyOf(2)], owners: [keyOf(3)], transactions: true }),
    decodeSubscribe,
  ],
  ["filter", encodeFilterEdit(2, EDIT), decodeFilterEdit],
  ["ack", encodeAck(3, { sequence: 12n, generation: 4 }), decodeAck],
  ["refusal", encodeRefusal(4, { status: -4200, text: "no room" }), decodeRefusal],
  ["goodbye", encodeGoodbye(1), decodeGoodbye],
  ["handover", encodeHandover(5, { sequence: 9n, newestSlot: 8n, evicted: 7n }), decodeHandover],
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
  const body = new Uint8Array(HelloBody.size + 65);
  new DataView(body.buffer).setUint32(4, 65, true);
  assert.throws(() => decodeHello({ kind: LinkKind.hello, requestId: 0, body }), isProtocolError);
});

test("decodeHello() and decodeRefusal() show text that is not UTF-8 with replacement characters", () => {
  const hello = encodeHello("abc");
  hello[LinkHeader.size + HelloBody.size] = 0xff;
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
