/**
 * Filters: what the encoder splits off and refuses, and that encoder and engine together mean what the reference means.
 * May touch: the native library's `filterEvaluate`, which has no index; the tests stand in for it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AccountRole,
  address,
  appendTransactionMessageInstruction,
  blockhash,
  compileTransactionMessage,
  createTransactionMessage,
  getBase58Decoder,
  getCompiledTransactionMessageEncoder,
  setTransactionMessageFeePayer,
  setTransactionMessageLifetimeUsingBlockhash,
} from "@solana/kit";
import fc from "fast-check";
import { addressFromBytes, bytesFromAddress } from "../../src/address.ts";
import {
  FILTER_KEYS_MAX,
  FilterOutcome,
  FilterRange,
  FilterVerdict,
  PAYLOAD_BYTES_MAX,
  Status,
} from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import { type AddressLike, SLOT_STATUSES, type TransactionUpdate } from "../../src/types.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import {
  type AccountFilter,
  type EncodedFilter,
  encodeFilter,
  type NamedFilter,
  type TransactionFilter,
} from "../../src/wire/filters.ts";
import {
  ChangeTracker,
  matchesOf,
  messageKeys,
  outcomeOf,
  type ReferenceAccount,
  type ReferenceOutcome,
  type ReferenceSlices,
  type ReferenceUpdate,
  slicesOf,
  transactionKeys,
} from "../support/reference_filters.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";

const library = await load();
const encoder = new FrameEncoder();
const verdictBytes = new Uint8Array(FilterVerdict.size);
const verdictWords = new Uint32Array(verdictBytes.buffer);
const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };
const OUTCOMES: Readonly<Record<number, ReferenceOutcome>> = {
  [FilterOutcome.no]: "no",
  [FilterOutcome.unchanged]: "unchanged",
  [FilterOutcome.yes]: "yes",
};

const TOKEN = bytesFromAddress("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
const TOKEN_2022 = bytesFromAddress("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

interface Judgement {
  readonly outcome: ReferenceOutcome;
  readonly slices: ReferenceSlices["slices"];
  readonly clipped: boolean;
}

function bytesOf(key: AddressLike): Uint8Array {
  return typeof key === "string" ? bytesFromAddress(key) : key as Uint8Array;
}

function evaluate(program: Uint8Array, update: ReferenceUpdate): number {
  let changed = -1;
  if (update.kind === "account") {
    encoder.account(update);
    if (update.changed !== undefined) changed = update.changed ? 1 : 0;
  } else if (update.kind === "transaction") {
    encoder.transaction(update);
  } else {
    encoder.slot(update, NO_COUNTS);
  }
  const { head, headLength, tail } = encoder;
  return library.filterEvaluate(
    program,
    program.length,
    head,
    headLength,
    tail,
    tail.length,
    changed,
    verdictBytes,
  );
}

/** What an index would find by the keys of an update. */
function isCandidate(encoded: EncodedFilter, update: ReferenceUpdate): boolean {
  const among = (list: readonly Uint8Array[], key: AddressLike) =>
    list.some((own) => own.every((byte, i) => byte === bytesOf(key)[i]));
  switch (encoded.index) {
    case "accounts":
      return update.kind === "account" && among(encoded.indexAccounts, update.pubkey);
    case "owners":
      return update.kind === "account" && among(encoded.indexOwners, update.owner);
    case "transactionKeys":
      return update.kind === "transaction" &&
        transactionKeys(update).some((key) => among(encoded.indexTransactionKeys, key));
    case "all":
      return true;
  }
}

/** Index and program. */
function judge(filter: NamedFilter, update: ReferenceUpdate): Judgement {
  const encoded = encodeFilter(filter, "test");
  const nothing: Judgement = { outcome: "no", slices: [], clipped: false };
  if (!isCandidate(encoded, update)) return nothing;
  const status = evaluate(encoded.program, update);
  assert.ok(status >= 0, `status ${status}`);
  assert.equal(verdictWords[FilterVerdict.outcome / 4], status);
  const slices = Array.from({ length: verdictWords[FilterVerdict.sliceCount / 4]! }, (_, i) => {
    const at = (FilterVerdict.slices + FilterRange.size * i) / 4;
    return { offset: verdictWords[at]!, length: verdictWords[at + 1]! };
  });
  return { outcome: OUTCOMES[status]!, slices, clipped: verdictWords[FilterVerdict.clipped / 4] !== 0 };
}

function expected(filter: NamedFilter, update: ReferenceUpdate): Judgement {
  const outcome = outcomeOf(filter, update);
  if (update.kind !== "account" || outcome !== "yes") return { outcome, slices: [], clipped: false };
  const { slices, clipped } = slicesOf(filter, update.data);
  return { outcome, slices, clipped };
}

function matches(filter: NamedFilter, update: ReferenceUpdate): boolean {
  return judge(filter, update).outcome === "yes";
}

// Arbitraries: few keys, few bytes, few lengths, and few conditions at a time, so that much matches.

const PLAIN = { noNullPrototype: true } as const;
const KEYS = [keyOf(1), keyOf(2), keyOf(3), new Uint8Array(32), TOKEN, TOKEN_2022];
const keyArbitrary: fc.Arbitrary<AddressLike> = fc.tuple(fc.constantFrom(...KEYS), fc.boolean())
  .map(([key, asText]) => asText ? addressFromBytes(key) : key);
const keysArbitrary: fc.Arbitrary<Iterable<AddressLike>> = fc.tuple(
  fc.array(keyArbitrary, { maxLength: 5 }),
  fc.boolean(),
).map(([keys, asSet]) => asSet ? new Set(keys) : keys);
const lengths = fc.oneof(fc.nat(12), fc.constantFrom(108, 164, 165, 166, 167, 355, 356));
const bitBytes = (options: fc.IntArrayConstraints) => fc.uint8Array({ ...options, max: 2 });
const lamportsArbitrary = fc.constantFrom(0n, 1n, 2n, 3n, 2n ** 63n, 2n ** 64n - 2n, 2n ** 64n - 1n);

const sliceArbitrary = fc.array(fc.tuple(fc.nat(5), fc.nat(6)), { minLength: 1, maxLength: 4 }).map((pairs) => {
  let at = 0;
  return pairs.map(([gap, length]) => {
    const slice = { offset: at + gap, length };
    at += gap + length;
    return slice;
  });
});

const accountConditions: { [Name in keyof AccountFilter]-?: fc.Arbitrary<AccountFilter[Name]> } = {
  accounts: keysArbitrary,
  owners: keysArbitrary,
  excludeAccounts: keysArbitrary,
  excludeOwners: keysArbitrary,
  dataSize: fc.oneof(
    lengths,
    fc.record({ min: lengths }, PLAIN),
    fc.record({ max: lengths }, PLAIN),
    fc.tuple(lengths, lengths).map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) })),
  ),
  memcmp: fc.array(
    fc.record({
      offset: fc.oneof({ weight: 4, arbitrary: fc.nat(5) }, fc.nat(170)),
      bytes: fc.tuple(bitBytes({ maxLength: 2 }), fc.boolean())
        .map(([bytes, asText]) => asText ? getBase58Decoder().decode(bytes) : bytes),
    }, PLAIN),
    { maxLength: 3 },
  ),
  lamports: fc.oneof(
    lamportsArbitrary,
    fc.record(
      { eq: lamportsArbitrary, ne: lamportsArbitrary, lt: lamportsArbitrary, gt: lamportsArbitrary },
      { ...PLAIN, requiredKeys: [] },
    ),
  ),
  tokenAccountState: fc.boolean(),
  nonemptyTxnSignature: fc.boolean(),
  startup: fc.boolean(),
  onlyChanged: fc.boolean(),
  dataSlice: fc.oneof(sliceArbitrary, sliceArbitrary.map(([first]) => first!)),
};

const transactionConditions: { [Name in keyof TransactionFilter]-?: fc.Arbitrary<TransactionFilter[Name]> } = {
  vote: fc.boolean(),
  failed: fc.boolean(),
  signature: fc.tuple(fc.constantFrom(1, 2, 3), fc.boolean())
    .map(([seed, asText]) => asText ? getBase58Decoder().decode(patternBytes(64, seed)) : patternBytes(64, seed)),
  accountInclude: keysArbitrary,
  accountExclude: fc.array(keyArbitrary, { maxLength: 2 }),
  accountRequired: fc.array(keyArbitrary, { maxLength: 3 }),
};

/** Some of the conditions, at most `maxLength`. */
function someOf<T extends object>(
  conditions: { [Name in keyof T]-?: fc.Arbitrary<T[Name]> },
  maxLength: number,
): fc.Arbitrary<T> {
  return fc.subarray(Object.keys(conditions) as (keyof T & string)[], { maxLength }).chain((names) =>
    fc.record(Object.fromEntries(names.map((name) => [name, conditions[name]])), PLAIN)
  ) as fc.Arbitrary<T>;
}

const accountArbitrary: fc.Arbitrary<ReferenceAccount> = fc.record({
  pubkey: keyArbitrary,
  owner: keyArbitrary,
  lamports: lamportsArbitrary,
  data: lengths.chain((length) => bitBytes({ minLength: length, maxLength: length })),
  signature: fc.option(fc.constant(patternBytes(64, 9)), { nil: undefined }),
  startup: fc.boolean(),
  executable: fc.boolean(),
  lossy: fc.boolean(),
  changed: fc.constantFrom(undefined, false, true),
}, PLAIN).map((fields) => ({ ...accountUpdate(), ...fields }));

/** Where the version, if there is one, and the number of keys stand, is all that differs. */
function messageOf(version: "legacy" | 0 | 1, keys: readonly AddressLike[]): Uint8Array {
  const header = [1, 0, 0];
  const bytes = keys.flatMap((key) => [...bytesOf(key)]);
  const blockhashBytes = patternBytes(32, 8);
  if (version === 1) return Uint8Array.from([0x81, ...header, 0, 0, 0, 0, ...blockhashBytes, 0, keys.length, ...bytes]);
  return Uint8Array.from([...version === 0 ? [0x80] : [], ...header, keys.length, ...bytes, ...blockhashBytes, 0, 0]);
}

const messageArbitrary: fc.Arbitrary<Uint8Array> = fc.tuple(
  fc.constantFrom("legacy" as const, 0 as const, 1 as const),
  fc.array(keyArbitrary, { minLength: 1, maxLength: 6 }),
  fc.oneof({ weight: 9, arbitrary: fc.constant(1) }, fc.double({ min: 0, max: 1, noNaN: true })),
).map(([version, keys, part]) => {
  const message = messageOf(version, keys);
  return message.slice(0, Math.floor(message.length * part)); // cut off, it has no keys
});

const transactionArbitrary: fc.Arbitrary<TransactionUpdate> = fc.record({
  message: messageArbitrary,
  loadedAddresses: fc.option(
    fc.record({
      writable: fc.array(keyArbitrary, { maxLength: 2 }),
      readonly: fc.array(keyArbitrary, { maxLength: 2 }),
    }, PLAIN),
    { nil: undefined },
  ),
  signature: fc.constantFrom(1, 2, 3).map((seed) => patternBytes(64, seed)),
  meta: fc.option(fc.constant(patternBytes(21, 4)), { nil: undefined }),
  vote: fc.boolean(),
  failed: fc.boolean(),
}, PLAIN).map((fields) => ({ ...transactionUpdate(), ...fields }));

/** Runs the property and says how often each outcome came, so that a generator that misses all is seen. */
function agree(
  filters: fc.Arbitrary<NamedFilter>,
  updates: fc.Arbitrary<ReferenceUpdate>,
  numRuns: number,
): Record<ReferenceOutcome, number> {
  const counts = { no: 0, unchanged: 0, yes: 0 };
  fc.assert(
    fc.property(filters, updates, (filter, update) => {
      const wanted = expected(filter, update);
      counts[wanted.outcome]++;
      try {
        assert.deepEqual(judge(filter, update), wanted);
      } catch (error) {
        // Bounds between which nothing lies are refused, and match nothing.
        if (!(error instanceof RangeError && /lamports can't hold/.test(error.message))) throw error;
        assert.equal(wanted.outcome, "no");
      }
    }),
    { numRuns },
  );
  return counts;
}

test("accounts: the engine's verdict and slices are those of the reference", () => {
  const filters = fc.oneof(
    { weight: 1, arbitrary: fc.constant<NamedFilter>({ accounts: true }) },
    { weight: 20, arbitrary: someOf<AccountFilter>(accountConditions, 4).map((accounts) => ({ accounts })) },
    { weight: 3, arbitrary: someOf<AccountFilter>(accountConditions, 12).map((accounts) => ({ accounts })) },
    {
      weight: 6,
      arbitrary: someOf<AccountFilter>(accountConditions, 3).map((some) => ({
        accounts: { ...some, onlyChanged: true },
      })),
    },
  );
  const counts = agree(filters, accountArbitrary, 7_000);
  assert.ok(counts.yes > 1_000 && counts.no > 1_000 && counts.unchanged > 50, JSON.stringify(counts));
});

test("transactions: the engine's verdict is that of the reference", () => {
  const filters = fc.oneof(
    { weight: 1, arbitrary: fc.constant<NamedFilter>({ transactions: true }) },
    {
      weight: 20,
      arbitrary: someOf<TransactionFilter>(transactionConditions, 4).map((transactions) => ({ transactions })),
    },
  );
  const counts = agree(filters, transactionArbitrary, 4_000);
  assert.ok(counts.yes > 800 && counts.no > 800, JSON.stringify(counts));
});

test("slots, and updates of every kind: the engine's verdict is that of the reference", () => {
  const slots = fc.oneof(
    fc.constant<NamedFilter>({ slots: true }),
    fc.subarray([...SLOT_STATUSES]).map((statuses): NamedFilter => ({ slots: { statuses } })),
  );
  const slotArbitrary = fc.constantFrom(...SLOT_STATUSES).map((status) => slotUpdate({ status }));
  const counts = agree(slots, slotArbitrary, 500);
  assert.ok(counts.yes > 100 && counts.no > 100, JSON.stringify(counts));
  const some = fc.constantFrom<NamedFilter>(
    { slots: true },
    { accounts: true },
    { transactions: true },
    { accounts: { onlyChanged: true } },
  );
  agree(some, fc.oneof(slotArbitrary, accountArbitrary, transactionArbitrary), 500);
});

test("conditions at their edges, one by one", () => {
  const data = patternBytes(10, 1);
  const update = accountUpdate({ data, lamports: 2n ** 64n - 1n });
  const cases: [AccountFilter, boolean][] = [
    [{}, true],
    [{ accounts: [] }, false],
    [{ owners: [] }, false],
    [{ accounts: [update.pubkey], owners: [] }, false],
    [{ accounts: [update.pubkey], owners: [update.owner] }, true],
    [{ accounts: [update.pubkey], owners: [keyOf(9)] }, false],
    [{ excludeAccounts: [], excludeOwners: [] }, true],
    [{ accounts: [update.pubkey], excludeAccounts: [update.pubkey] }, false],
    [{ owners: [update.owner], excludeOwners: [update.owner] }, false],
    [{ dataSize: 10 }, true],
    [{ dataSize: { min: 10, max: 10 } }, true],
    [{ dataSize: { max: 9 } }, false],
    [{ memcmp: [] }, true],
    [{ memcmp: [{ offset: 10, bytes: new Uint8Array(0) }] }, true],
    [{ memcmp: [{ offset: 11, bytes: new Uint8Array(0) }] }, false],
    [{ memcmp: [{ offset: 10, bytes: data.subarray(0, 1) }] }, false],
    [{ memcmp: [{ offset: 7, bytes: data.subarray(7) }, { offset: 0, bytes: data }] }, true],
    [{ memcmp: [{ offset: PAYLOAD_BYTES_MAX, bytes: "" }] }, false],
    [{ lamports: 2n ** 64n - 1n }, true],
    [{ lamports: { gt: 2n ** 64n - 2n } }, true],
    [{ lamports: { lt: 2n ** 64n - 1n } }, false],
    [{ lamports: { ne: 2n ** 64n - 1n } }, false],
    [{ nonemptyTxnSignature: false, startup: false, tokenAccountState: false, onlyChanged: true }, true],
  ];
  for (const [accounts, wanted] of cases) {
    assert.equal(matches({ accounts }, update), wanted, Object.entries(accounts).join());
    assert.equal(outcomeOf({ accounts }, update) === "yes", wanted, Object.entries(accounts).join());
  }
});

test("key conditions of transactions see every key of messages that kit compiles, of each version", () => {
  const payer = addressFromBytes(keyOf(1));
  const program = addressFromBytes(keyOf(2));
  const accounts = [3, 4, 5].map((seed) => addressFromBytes(keyOf(seed)));
  for (const version of ["legacy", 0, 1] as const) {
    const empty = setTransactionMessageLifetimeUsingBlockhash(
      { blockhash: blockhash(addressFromBytes(keyOf(6))), lastValidBlockHeight: 1n },
      // deno-lint-ignore no-explicit-any -- kit's types want one version at a time
      setTransactionMessageFeePayer(address(payer), createTransactionMessage({ version } as any)),
    );
    const whole = appendTransactionMessageInstruction({
      programAddress: address(program),
      accounts: accounts.map((key) => ({ address: address(key), role: AccountRole.WRITABLE })),
      data: patternBytes(40, 7),
    }, empty);
    const message = new Uint8Array(getCompiledTransactionMessageEncoder().encode(compileTransactionMessage(whole)));
    const update = transactionUpdate({ message });
    const keys = [payer, program, ...accounts];
    assert.deepEqual(messageKeys(message).map(addressFromBytes).sort(), [...keys].sort(), `version ${version}`);
    assert.ok(matches({ transactions: { accountRequired: keys } }, update), `version ${version}`);
    for (const key of keys) {
      assert.ok(matches({ transactions: { accountRequired: [key] } }, update));
      assert.ok(!matches({ transactions: { accountExclude: [key] } }, update));
    }
    // The blockhash is no key.
    assert.ok(!matches({ transactions: { accountRequired: [payer, addressFromBytes(keyOf(6))] } }, update));
  }
});

test("a malformed message has no keys: who asks for none gets it", () => {
  const update: TransactionUpdate = transactionUpdate({ message: Uint8Array.of(0x82, 1, 2, 3) });
  assert.ok(matches({ transactions: true }, update));
  assert.ok(matches({ transactions: { accountExclude: [keyOf(1)] } }, update));
  assert.ok(!matches({ transactions: { accountRequired: [keyOf(1)] } }, update));
});

test("filterEvaluate refuses what is no program, no frame, no buffer", () => {
  const { program } = encodeFilter({ accounts: { owners: [keyOf(1)], lamports: 5n, dataSize: 8 } }, "test");
  for (let length = 0; length < program.length; length++) {
    assert.equal(evaluate(program.slice(0, length), accountUpdate()), Status.peerCorrupt);
  }
  for (let bit = 0; bit < 8 * program.length; bit++) {
    const flipped = program.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    const status = evaluate(flipped, accountUpdate());
    assert.ok(status === Status.peerCorrupt || status in OUTCOMES, `bit ${bit}: ${status}`);
  }
  encoder.account(accountUpdate());
  const call = (headLength: number, tailLength: number) =>
    library.filterEvaluate(
      program,
      program.length,
      encoder.head,
      headLength,
      encoder.tail,
      tailLength,
      -1,
      verdictBytes,
    );
  assert.equal(call(encoder.headLength, encoder.tail.length), FilterOutcome.no);
  for (const headLength of [0, 63, 64, encoder.headLength - 1]) {
    assert.equal(call(headLength, encoder.tail.length), Status.badArgument);
  }
  assert.equal(call(encoder.headLength, encoder.tail.length - 1), Status.badArgument);
});

// The encoder

const hex = (keys: readonly Uint8Array[]) => keys.map((key) => key.toHex());

test("encodeFilter splits off the keys that the index holds", () => {
  const [a, b, c] = [keyOf(1), keyOf(2), keyOf(3)];
  const EMPTY = 8;
  const split = (filter: NamedFilter) => {
    const { index, indexAccounts, indexOwners, indexTransactionKeys, program } = encodeFilter(filter, "x");
    return [index, hex(indexAccounts), hex(indexOwners), hex(indexTransactionKeys), program.length - EMPTY];
  };
  assert.deepEqual(split({ accounts: true }), ["all", [], [], [], 0]);
  assert.deepEqual(split({ accounts: {} }), ["all", [], [], [], 0]);
  assert.deepEqual(split({ accounts: { accounts: [a, b] } }), ["accounts", hex([a, b]), [], [], 0]);
  assert.deepEqual(split({ accounts: { accounts: [] } }), ["accounts", [], [], [], 0]);
  assert.deepEqual(split({ accounts: { owners: [a] } }), ["owners", [], hex([a]), [], 0]);
  assert.deepEqual(split({ accounts: { accounts: [a], owners: [b, c] } }), ["accounts", hex([a]), [], [], 8 + 64]);
  assert.deepEqual(split({ transactions: true }), ["all", [], [], [], 0]);
  assert.deepEqual(split({ transactions: { accountInclude: [a, b] } }), ["transactionKeys", [], [], hex([a, b]), 0]);
  assert.deepEqual(split({ transactions: { accountRequired: [b, a, b] } }), ["transactionKeys", [], [], hex([b]), 40]);
  assert.deepEqual(split({ transactions: { accountRequired: [] } }), ["all", [], [], [], 0]);
  assert.deepEqual(
    split({ transactions: { accountInclude: [a], accountRequired: [b] } }),
    ["transactionKeys", [], [], hex([a]), 40],
  );
  assert.deepEqual(split({ transactions: { accountExclude: [c, c] } }), ["all", [], [], [], 40]);
  assert.deepEqual(split({ slots: true }), ["all", [], [], [], 0]);
  assert.deepEqual(split({ slots: { statuses: ["processed", "dead"] } }), ["all", [], [], [], 8]);
});

test("encodeFilter writes the bytes of zig/layout.zig", () => {
  const { program } = encodeFilter({
    accounts: {
      dataSize: { min: 1, max: 258 },
      nonemptyTxnSignature: true,
      memcmp: [{ offset: 3, bytes: Uint8Array.of(9, 8) }],
      dataSlice: { offset: 64, length: 8 },
    },
  }, "x");
  // deno-fmt-ignore
  assert.deepEqual([...program], [
    1, 0, 4, 0, 72, 0, 0, 0,
    2, 0, 1, 0, 0, 0, 0, 0,
    3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0,
    8, 0, 1, 0, 16, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 9, 8, 0, 0, 0, 0, 0, 0,
    12, 0, 1, 0, 8, 0, 0, 0, 64, 0, 0, 0, 8, 0, 0, 0,
  ]);
});

test("encodeFilter keeps no key that its caller could change", () => {
  const key = keyOf(1);
  const { indexAccounts } = encodeFilter({ accounts: { accounts: [key] } }, "x");
  key.fill(0);
  assert.deepEqual(hex(indexAccounts), hex([keyOf(1)]));
});

test("encodeFilter takes full lists, and refuses a longer one where it would be searched", () => {
  const keys = Array.from({ length: FILTER_KEYS_MAX + 1 }, (_, i) => {
    const key = new Uint8Array(32);
    new DataView(key.buffer).setUint32(0, i * 2654435761 >>> 0);
    return key;
  });
  const full = keys.slice(1);
  const update = accountUpdate({ pubkey: keys[0]!, owner: keys[0]! });
  const filter: AccountFilter = {
    accounts: keys,
    owners: [...full, ...full],
    excludeAccounts: full,
    excludeOwners: full,
  };
  assert.ok(!matches({ accounts: filter }, update));
  assert.ok(matches({ accounts: { ...filter, owners: keys.slice(0, -1) } }, update));
  assert.ok(!matches({ accounts: { excludeOwners: keys.slice(0, -1) } }, update));
  assert.equal(encodeFilter({ accounts: { owners: keys } }, "x").indexOwners.length, keys.length);
  for (
    const [accounts, where] of [
      [{ excludeOwners: keys }, "accounts.excludeOwners"],
      [{ excludeAccounts: keys }, "accounts.excludeAccounts"],
      [{ accounts: [], owners: keys }, "accounts.owners"],
    ] as const
  ) {
    assert.throws(() => encodeFilter({ accounts }, "pools"), {
      name: "RangeError",
      message: new RegExp(`^Filter "pools": ${where} has 4097 keys, the limit is 4096: `),
    });
  }
  assert.throws(() => encodeFilter({ transactions: { accountInclude: [], accountRequired: keys } }, "x"), RangeError);
  assert.throws(() => encodeFilter({ transactions: { accountExclude: keys } }, "x"), RangeError);
});

test("encodeFilter refuses what is no filter, and says what is wrong", () => {
  const cases: [unknown, string, RegExp][] = [
    [undefined, "TypeError", /^Filter "x" must be an object, not undefined undefined$/],
    [{}, "TypeError", /it has none$/],
    [{ accounts: {}, slots: true }, "TypeError", /it has accounts and slots$/],
    [{ account: {} }, "TypeError", /no condition "account"; there are accounts, transactions, slots, state$/],
    [{ accounts: false }, "TypeError", /accounts must be an object, not boolean false$/],
    [{ slots: null }, "TypeError", /slots must be an object, not null$/],
    [{ accounts: { owner: [] } }, "TypeError", /accounts has no condition "owner"/],
    [
      { accounts: { owners: addressFromBytes(keyOf(1)) } },
      "TypeError",
      /owners must be a list of addresses, not string/,
    ],
    [{ accounts: { owners: keyOf(1) } }, "TypeError", /owners must be a list of addresses, not Uint8Array$/],
    [{ accounts: { owners: 5 } }, "TypeError", /owners must be a list/],
    [{ accounts: { owners: ["abc"] } }, "TypeError", /"abc" is no address/],
    [
      { accounts: { accounts: [keyOf(1).subarray(1)] } },
      "TypeError",
      /accounts\.accounts\[0\] must be a base58 address/,
    ],
    [{ accounts: { dataSize: -1 } }, "RangeError", /dataSize must be a whole number from 0 to 10485760, not -1$/],
    [{ accounts: { dataSize: 1.5 } }, "RangeError", /dataSize/],
    [{ accounts: { dataSize: PAYLOAD_BYTES_MAX + 1 } }, "RangeError", /dataSize/],
    [{ accounts: { dataSize: 5n } }, "TypeError", /dataSize must be an object, not bigint 5$/],
    [{ accounts: { dataSize: { min: 2, max: 1 } } }, "RangeError", /dataSize can't hold: min is 2, max is 1$/],
    [{ accounts: { memcmp: {} } }, "TypeError", /memcmp must be an array, not Object$/],
    [
      { accounts: { memcmp: Array(9).fill({ offset: 0, bytes: "1" }) } },
      "RangeError",
      /memcmp has 9 comparisons, the limit is 8$/,
    ],
    [
      { accounts: { memcmp: [{ offset: 0, bytes: new Uint8Array(129) }] } },
      "RangeError",
      /has 129 bytes, the limit is 128$/,
    ],
    [{ accounts: { memcmp: [{ offset: 0, bytes: "0" }] } }, "TypeError", /memcmp\[0\]\.bytes must be base58, "0"/],
    [{ accounts: { memcmp: [{ offset: 0, bytes: "1".repeat(129) }] } }, "RangeError", /at most 128 bytes/],
    [{ accounts: { memcmp: [{ offset: 0, bytes: "z".repeat(10_000) }] } }, "RangeError", /at most 128 bytes/],
    [{ accounts: { memcmp: [{ offset: 0, bytes: [1] }] } }, "TypeError", /bytes must be a Uint8Array or base58/],
    [
      { accounts: { memcmp: [{ offset: PAYLOAD_BYTES_MAX, bytes: "1" }] } },
      "RangeError",
      /memcmp\[0\] ends at 10485761/,
    ],
    [{ accounts: { lamports: 5 } }, "TypeError", /lamports must be an object, not number 5$/],
    [
      { accounts: { lamports: { min: 5n } } },
      "TypeError",
      /lamports has no condition "min"; there are eq, ne, lt, gt$/,
    ],
    [{ accounts: { lamports: { eq: 5 } } }, "TypeError", /lamports\.eq must be a bigint, not number 5$/],
    [{ accounts: { lamports: -1n } }, "RangeError", /lamports\.eq must fit 64 bits without sign, -1 does not$/],
    [{ accounts: { lamports: 2n ** 64n } }, "RangeError", /must fit 64 bits/],
    [{ accounts: { lamports: { lt: 0n } } }, "RangeError", /lamports can't hold/],
    [{ accounts: { lamports: { gt: 2n ** 64n - 1n } } }, "RangeError", /lamports can't hold/],
    [{ accounts: { lamports: { eq: 5n, gt: 5n } } }, "RangeError", /lamports can't hold/],
    [{ accounts: { lamports: { eq: 5n, ne: 5n } } }, "RangeError", /lamports can't hold/],
    [{ accounts: { startup: 1 } }, "TypeError", /startup must be a boolean, not number 1$/],
    [{ accounts: { onlyChanged: "yes" } }, "TypeError", /onlyChanged must be a boolean/],
    [{ accounts: { dataSlice: [] } }, "RangeError", /dataSlice is empty/],
    [{ accounts: { dataSlice: [0, 8] } }, "TypeError", /dataSlice\[0\] must be an object, not number 0$/],
    [{ accounts: { dataSlice: { offset: 0 } } }, "TypeError", /dataSlice\[0\]\.length must be a number/],
    [
      { accounts: { dataSlice: Array(5).fill({ offset: 0, length: 0 }) } },
      "RangeError",
      /dataSlice has 5 slices, the limit is 4$/,
    ],
    [
      { accounts: { dataSlice: { offset: 1, length: PAYLOAD_BYTES_MAX } } },
      "RangeError",
      /dataSlice\[0\] ends at 10485761/,
    ],
    [
      { accounts: { dataSlice: [{ offset: 0, length: 8 }, { offset: 7, length: 1 }] } },
      "RangeError",
      /dataSlice\[1\] begins at 7, before 8, where the one before it ends: sort and join them$/,
    ],
    [{ transactions: { signature: "1111" } }, "TypeError", /signature must be 64 bytes or their base58 text$/],
    [{ transactions: { signature: new Uint8Array(63) } }, "TypeError", /signature must be 64 bytes/],
    [{ transactions: { vote: null } }, "TypeError", /transactions\.vote must be a boolean, not null$/],
    [{ slots: { statuses: ["rooted"] } }, "TypeError", /statuses must be of processed, .*, not rooted$/],
    [
      { slots: { statuses: "processed" } },
      "TypeError",
      /statuses must be a list of slot statuses, not string processed$/,
    ],
  ];
  for (const [filter, name, message] of cases) {
    assert.throws(() => encodeFilter(filter as NamedFilter, "x"), { name, message }, String(message));
  }
});

test("conditions that are undefined are not there", () => {
  const given: NamedFilter = { accounts: { owners: undefined, memcmp: undefined } as AccountFilter };
  assert.deepEqual(encodeFilter({ ...given, slots: undefined }, "x"), encodeFilter({ accounts: true }, "x"));
});

// The reference itself, where it goes beyond one pair

test("matchesOf names the filters that match, ChangeTracker says what changed", () => {
  const tracker = new ChangeTracker();
  const filters: Record<string, NamedFilter> = {
    all: { accounts: true },
    changed: { accounts: { onlyChanged: true } },
    other: { accounts: { owners: [keyOf(9)] } },
    slots: { slots: true },
  };
  const write = (fields: Parameters<typeof accountUpdate>[0]) => {
    const update = accountUpdate(fields);
    return matchesOf(filters, { ...update, changed: tracker.changed(update) });
  };
  assert.deepEqual(write({}), ["all", "changed"]);
  assert.deepEqual(write({ slot: 78n, writeVersion: 5n }), ["all"]);
  assert.deepEqual(write({ lamports: 1n }), ["all", "changed"]);
  assert.deepEqual(write({ lamports: 1n, owner: keyOf(9) }), ["all", "changed", "other"]);
  assert.deepEqual(write({ pubkey: keyOf(7) }), ["all", "changed"]);
  assert.deepEqual(matchesOf(filters, slotUpdate()), ["slots"]);
});
