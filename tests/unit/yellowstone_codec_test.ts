/**
 * Yellowstone's bytes: what protobufjs writes, we read; what we write, it reads; what nobody should write, is refused.
 * May touch: the codec of src/sources/yellowstone. The other side is protobufjs with the published field numbers, and kit.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  type Address,
  appendTransactionMessageInstructions,
  blockhash,
  type CompiledTransactionMessage,
  compileTransactionMessage,
  createTransactionMessage,
  getAddressDecoder,
  getCompiledTransactionMessageEncoder,
  pipe,
  setTransactionMessageComputeUnitLimit,
  setTransactionMessageFeePayer,
  setTransactionMessageLifetimeUsingBlockhash,
  setTransactionMessageLoadedAccountsDataSizeLimit,
} from "@solana/kit";
import fc from "fast-check";
import { Decoded, UpdateDecoder } from "../../src/sources/yellowstone/decoder.ts";
import { FrameError, frameOf, FrameReader } from "../../src/sources/yellowstone/frames.ts";
import { ProtobufError } from "../../src/sources/yellowstone/protobuf.ts";
import { encodePing, encodeSubscribeRequest } from "../../src/sources/yellowstone/request.ts";
import { messageFromProtobuf } from "../../src/sources/yellowstone/transaction_message.ts";
import { decodeRequest, encodeMessage, encodeUpdate, frame } from "../support/geyser/protocol.ts";
import { signedMessageOf, updateOf, World } from "../support/geyser/world.ts";

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const slotNumber = fc.bigInt({ min: 0n, max: 2n ** 53n - 1n });
const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("hex");

test("UpdateDecoder reads every account that protobufjs writes, inside other bytes, and leaves those alone", () => {
  const account = fc.record({
    pubkey: bytesOf(32),
    owner: bytesOf(32),
    lamports: u64,
    data: fc.uint8Array({ maxLength: 400 }),
    slot: slotNumber,
    writeVersion: u64,
    rentEpoch: fc.oneof(u64, fc.constant(2n ** 64n - 1n), fc.constant(2n ** 63n - 1n)),
    executable: fc.boolean(),
    startup: fc.boolean(),
    signature: fc.option(bytesOf(64), { nil: undefined }),
    seconds: fc.integer({ min: 0, max: 4_000_000_000 }),
    nanos: fc.integer({ min: 0, max: 999_999_999 }),
    filters: fc.array(fc.string(), { maxLength: 3 }),
    around: fc.integer({ min: 0, max: 9 }),
  });
  const decoder = new UpdateDecoder();
  decoder.epoch = 7;
  fc.assert(fc.property(account, (expected) => {
    const { pubkey, owner, data, executable, signature, filters, around } = expected;
    const message = encodeUpdate({
      filters,
      account: {
        account: {
          pubkey,
          owner,
          data,
          executable,
          lamports: expected.lamports.toString(),
          rentEpoch: expected.rentEpoch.toString(),
          writeVersion: expected.writeVersion.toString(),
          ...signature === undefined ? {} : { txnSignature: signature },
        },
        slot: expected.slot.toString(),
        isStartup: expected.startup,
      },
      createdAt: { seconds: expected.seconds, nanos: expected.nanos },
    });
    const bytes = new Uint8Array(around + message.length + around).fill(0xff);
    bytes.set(message, around);
    const before = bytes.slice();
    assert.equal(decoder.decode(bytes, around, around + message.length), Decoded.account);
    const update = decoder.account();
    assert.deepEqual(bytes, before);
    assert.deepEqual(
      [hex(update.pubkey as Uint8Array), hex(update.owner as Uint8Array), hex(update.data as Uint8Array)],
      [hex(pubkey), hex(owner), hex(data)],
    );
    assert.equal(hex(update.signature as Uint8Array | undefined), hex(signature));
    const { lamports, slot, writeVersion, rentEpoch, startup } = update;
    assert.deepEqual(
      { lamports, slot, writeVersion, rentEpoch, startup, executable: update.executable },
      {
        lamports: expected.lamports,
        slot: expected.slot,
        writeVersion: expected.writeVersion,
        rentEpoch: expected.rentEpoch,
        startup: expected.startup,
        executable,
      },
    );
    assert.equal(update.sourceNs, BigInt(expected.seconds) * 1_000_000_000n + BigInt(expected.nanos));
    assert.equal(update.sourceEpoch, 7);
  }));
});

test("UpdateDecoder keeps a transaction's meta as it came, or leaves it out", () => {
  const event = new World(1n).advance({ writes: 3 }).find(({ kind }) => kind === "transaction")!;
  assert.ok(event.kind === "transaction");
  const bytes = encodeUpdate(updateOf(event, ["x"]));
  const decoder = new UpdateDecoder();
  assert.equal(decoder.decode(bytes, 0, bytes.length), Decoded.transaction);
  const update = decoder.transaction();
  assert.equal(hex(update.message as Uint8Array), hex(signedMessageOf(event)));
  assert.ok(Buffer.from(update.meta as Uint8Array).includes("log of 0"));
  assert.equal(update.failed, true);
  decoder.withMeta = false;
  assert.equal(decoder.transaction().meta, undefined);
});

test("UpdateDecoder refuses, or reads, whatever bytes there are: it throws ProtobufError and nothing else", () => {
  const samples = new World(5n).advance({ writes: 6 }).map((event) => encodeUpdate(updateOf(event, ["a", "b"])));
  const decoder = new UpdateDecoder();
  const edits = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 });
  const tryDecode = (bytes: Uint8Array) => {
    try {
      const kind = decoder.decode(bytes, 0, bytes.length);
      if (kind === Decoded.account) decoder.account();
      if (kind === Decoded.transaction) decoder.transaction();
      if (kind === Decoded.slot) decoder.slotUpdate();
    } catch (error) {
      assert.ok(error instanceof ProtobufError, String(error));
    }
  };
  fc.assert(
    fc.property(fc.nat(samples.length - 1), fc.nat(), edits, (sample, cut, edits) => {
      const bytes = samples[sample]!.slice(0, samples[sample]!.length - cut % 40);
      for (const [at, byte] of edits) if (bytes.length > 0) bytes[at % bytes.length] = byte;
      tryDecode(bytes);
    }),
    { numRuns: 3000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), tryDecode), { numRuns: 1000 });
});

const addressOf = (seed: number) => getAddressDecoder().decode(new Uint8Array(32).fill(seed));

function decodeBase58(text: string): Uint8Array {
  const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  let value = 0n;
  for (const character of text) value = value * 58n + BigInt(alphabet.indexOf(character));
  return Buffer.from(value.toString(16).padStart(64, "0"), "hex");
}

for (const version of ["legacy", 0, 1] as const) {
  test(`messageFromProtobuf() lays a message out as it is signed: ${version}`, () => {
    const hash = addressOf(9);
    const instructions = [1, 2, 300].map((size) => ({
      programAddress: addressOf(5),
      accounts: [{ address: addressOf(3), role: 1 }, { address: addressOf(4), role: 0 }],
      data: new Uint8Array(size).fill(size),
    }));
    const message = pipe(
      createTransactionMessage({ version: version as 0 }),
      (message) => setTransactionMessageFeePayer(addressOf(1), message),
      (message) =>
        setTransactionMessageLifetimeUsingBlockhash(
          { blockhash: blockhash(hash), lastValidBlockHeight: 1n },
          message,
        ),
      (message) => appendTransactionMessageInstructions(instructions, message),
      (message) =>
        version !== 1 ? message : setTransactionMessageLoadedAccountsDataSizeLimit(
          70_000,
          setTransactionMessageComputeUnitLimit(12_345, message),
        ),
    );
    const compiled = compileTransactionMessage(message) as CompiledTransactionMessage & {
      staticAccounts: Address[];
      header: { numSignerAccounts: number; numReadonlySignerAccounts: number; numReadonlyNonSignerAccounts: number };
    };
    const expected = getCompiledTransactionMessageEncoder().encode(compiled as never);
    const { staticAccounts, header } = compiled;
    const index = (seed: number) => staticAccounts.indexOf(addressOf(seed));
    const wire = encodeMessage({
      header: {
        numRequiredSignatures: header.numSignerAccounts,
        numReadonlySignedAccounts: header.numReadonlySignerAccounts,
        numReadonlyUnsignedAccounts: header.numReadonlyNonSignerAccounts,
      },
      accountKeys: staticAccounts.map(decodeBase58),
      recentBlockhash: decodeBase58(hash),
      instructions: instructions.map(({ data }) => ({
        programIdIndex: index(5),
        accounts: Uint8Array.of(index(3), index(4)),
        data,
      })),
      versioned: version !== "legacy",
      ...version === 1 ? { config: { computeUnitLimit: 12_345, loadedAccountsDataSizeLimit: 70_000 } } : {},
    });
    assert.equal(hex(messageFromProtobuf(wire, 0, wire.length)), hex(expected as Uint8Array));
  });
}

test("encodeSubscribeRequest() is read by protobufjs as it is meant, with no empty filter but by intent", () => {
  const options = { commitment: "confirmed" as const, filterKeysMax: 2, votes: undefined, failed: false };
  const keys = [1, 2, 3].map(addressOf);
  const read = (wanted: Parameters<typeof encodeSubscribeRequest>[0], fromSlot?: bigint) =>
    decodeRequest(encodeSubscribeRequest(wanted, options, fromSlot));
  const slots = { slots: { interslotUpdates: true } };
  assert.deepEqual(read({}), { slots, commitment: 1 });
  assert.deepEqual(read({ accounts: new Set(keys), transactions: { accounts: new Set(keys) } }, 2n ** 60n), {
    accounts: { keys0: { account: keys.slice(0, 2) }, keys1: { account: keys.slice(2) } },
    slots,
    transactions: {
      transactions0: { failed: false, accountInclude: keys.slice(0, 2) },
      transactions1: { failed: false, accountInclude: keys.slice(2) },
    },
    commitment: 1,
    fromSlot: (2n ** 60n).toString(),
  });
  assert.deepEqual(read({ allAccounts: true, accounts: new Set(keys), transactions: { all: true } }), {
    accounts: { all: {} },
    slots,
    transactions: { transactions0: { failed: false } },
    commitment: 1,
  });
  assert.deepEqual(decodeRequest(encodePing(300)), { ping: { id: 300 } });
});

test("FrameReader hands out the same messages however the stream is cut, compressed or not", () => {
  const stream = fc.array(
    fc.record({ bytes: fc.uint8Array({ maxLength: 300 }), isCompressed: fc.boolean() }),
    { maxLength: 12 },
  );
  fc.assert(fc.property(stream, fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 }), (messages, cuts) => {
    const bytes = Buffer.concat(
      messages.map(({ bytes, isCompressed }) => isCompressed ? frame(gzipSync(bytes), true) : frame(bytes)),
    );
    const got: string[] = [];
    const reader = new FrameReader(1000, (bytes, start, end) => got.push(hex(bytes.subarray(start, end))!));
    reader.encoding = "gzip";
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const next = at + cuts[i % cuts.length]!;
      reader.push(bytes.subarray(at, next));
      at = next;
    }
    assert.deepEqual(got, messages.map(({ bytes }) => hex(bytes)));
    assert.equal(reader.compressedCount, messages.filter(({ isCompressed }) => isCompressed).length);
  }));
});

test("FrameReader refuses frames that are too long, before their bytes have come, and bombs", () => {
  const reader = new FrameReader(1000, () => assert.fail("no message"));
  assert.throws(() => reader.push(Uint8Array.of(0, 0xff, 0xff, 0xff, 0xff)), FrameError);
  assert.throws(() => new FrameReader(1000, () => {}).push(Uint8Array.of(7, 0, 0, 0, 0)), FrameError);
  const bomb = new FrameReader(1000, () => assert.fail("no message"));
  bomb.encoding = "gzip";
  assert.throws(() => bomb.push(frame(gzipSync(new Uint8Array(100_000)), true)), FrameError);
  assert.equal(hex(frameOf(Uint8Array.of(1, 2))), "00000000020102");
});

test("FrameReader says what a chunk has become, and refuses one that is many bombs", () => {
  const longest = 16 * 1024 * 1024;
  const one = frame(gzipSync(new Uint8Array(longest)), true);
  let count = 0;
  const reader = new FrameReader(longest, () => count++);
  reader.encoding = "gzip";
  reader.push(Buffer.concat([one, frame(new Uint8Array(10)), one]));
  assert.equal(count, 3);
  assert.equal(reader.plainBytes, 2 * longest);
  reader.push(frame(new Uint8Array(10)));
  assert.equal(reader.plainBytes, 0);
  const many = Buffer.concat(Array.from({ length: 64 }, () => one));
  assert.ok(many.length < 2 * 1024 * 1024);
  assert.throws(() => reader.push(many), FrameError);
  assert.equal(count, 4 + 16);
});

/** A field of bytes. */
function field(number: number, bytes: Uint8Array): Uint8Array {
  const length: number[] = [];
  for (let rest = bytes.length; rest > 0 || length.length === 0; rest >>>= 7) {
    length.push((rest & 127) | (rest > 127 ? 128 : 0));
  }
  return Buffer.concat([Uint8Array.of(number << 3 | 2, ...length), bytes]);
}

test("UpdateDecoder refuses what no frame holds, so that the connection ends, and not who feeds a sender", () => {
  const decoder = new UpdateDecoder();
  const decode = (update: Uint8Array) => decoder.decode(update, 0, update.length);
  const account = (bytes: number) =>
    field(
      2,
      field(
        1,
        Buffer.concat([field(1, new Uint8Array(32)), field(3, new Uint8Array(32)), field(6, new Uint8Array(bytes))]),
      ),
    );
  const most = 10 * 1024 * 1024;
  assert.equal(decode(account(most)), Decoded.account);
  assert.throws(() => decode(account(most + 1)), ProtobufError);
  const transaction = (meta: Uint8Array) =>
    field(4, field(1, Buffer.concat([field(1, new Uint8Array(64)), field(4, meta)])));
  const loading = (...counts: number[]) =>
    Buffer.concat(counts.flatMap((count, i) => Array.from({ length: count }, () => field(12 + i, new Uint8Array(32)))));
  assert.equal(decode(transaction(loading(200, 56))), Decoded.transaction);
  assert.throws(() => decode(transaction(loading(200, 57))), ProtobufError);
  assert.throws(() => decode(transaction(loading(257))), ProtobufError);
  assert.equal(decode(transaction(field(6, new Uint8Array(most - 8)))), Decoded.transaction);
  assert.throws(() => decode(transaction(field(6, new Uint8Array(most)))), ProtobufError);
});

test("messageFromProtobuf stops at the first part too many: a message of megabytes can have millions of empty ones", () => {
  for (const number of [2, 4, 6]) {
    const empty = field(number, new Uint8Array(0));
    const parts = Buffer.concat(Array.from({ length: 65_536 }, () => empty));
    // Cut off behind them: who reads on finds that.
    const message = Buffer.concat([parts, Uint8Array.of(0xff)]);
    assert.throws(() => messageFromProtobuf(message, 0, message.length), /more parts/);
  }
});
