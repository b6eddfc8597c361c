/**
 * The native fan-out against the reference: random schedules of publish, edits, slow and dead consumers, in one process.
 * May touch: the native library through support/rig.ts.
 * fast-check prints the seed of a failure and shrinks the schedule. QLASTER_MODEL_RUNS multiplies the number of them.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import fc from "fast-check";
import { bytesFromAddress } from "../../src/address.ts";
import { SLOT_STATUSES } from "../../src/types.ts";
import type { NamedFilter } from "../../src/wire/filters.ts";
import {
  type ConsumerOptions,
  type Edit,
  keyName,
  type ModelUpdate,
  type Policy,
} from "../support/reference_fanout.ts";
import { keyOf, patternBytes } from "../unit/support/updates.ts";
import { BACKLOG_LARGE, editFromFilter, encodeEdit, Rig, type RigOptions } from "./support/rig.ts";

const scale = Number(process.env.QLASTER_MODEL_RUNS ?? 1);
const KEYS = Array.from({ length: 6 }, (_, i) => keyOf(10 + i));
const OWNERS = [
  keyOf(50),
  keyOf(51),
  bytesFromAddress("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"),
] as readonly Uint8Array[];
const SIGNATURES = [patternBytes(64, 5), patternBytes(64, 6)];
const STATUSES = SLOT_STATUSES.slice(0, 3);

const contents = new Map<string, Uint8Array>();
/** The same object for the same content, as cheap as can be. */
function content(length: number, seed: number): Uint8Array {
  const name = `${length} ${seed}`;
  let bytes = contents.get(name);
  if (bytes === undefined) contents.set(name, bytes = patternBytes(length, seed));
  return bytes;
}

/** A legacy message that names these. */
function messageOf(keys: readonly Uint8Array[], size: number): Uint8Array {
  const message = new Uint8Array(Math.max(size, 3 + 1 + 32 * keys.length + 32));
  message.set([1, 0, 0, keys.length]);
  keys.forEach((key, i) => message.set(key, 4 + 32 * i));
  return message;
}
const MESSAGES = [messageOf([KEYS[0]!, KEYS[1]!], 0), messageOf([KEYS[2]!], 0), Uint8Array.from([1, 2, 3])];
const LOADED = [
  { writable: [KEYS[3]!], readonly: [] },
  { writable: [], readonly: [KEYS[4]!, KEYS[2]!] },
  { writable: [KEYS[1]!, KEYS[5]!], readonly: [KEYS[4]!] },
];

// What happens

type Step =
  | { readonly step: "publish"; readonly update: ModelUpdate; readonly isBatch: boolean }
  | { readonly step: "many"; readonly updates: readonly ModelUpdate[]; readonly commits: boolean }
  | { readonly step: "commit" }
  | { readonly step: "sweep"; readonly elapsedMs: number }
  | { readonly step: "edit"; readonly who: number; readonly edit: Edit }
  | { readonly step: "poll" | "release"; readonly who: number; readonly count: number }
  | { readonly step: "flush"; readonly who: number }
  | { readonly step: "wake" }
  | { readonly step: "mark"; readonly who: number; readonly kind: "gap" | "filter" }
  | { readonly step: "kill"; readonly who: number; readonly isGone: boolean }
  | { readonly step: "connect"; readonly options: ConsumerOptions; readonly edits: readonly Edit[] }
  | { readonly step: "forge"; readonly who: number; readonly how: "ahead" | "back" | "misaligned" | "wild" };

interface Schedule {
  readonly rig: RigOptions;
  readonly consumers: readonly { readonly options: ConsumerOptions; readonly edits: readonly Edit[] }[];
  readonly steps: readonly Step[];
}

const CONSUMERS_MAX = 4;

function run({ rig: options, consumers, steps }: Schedule, consumersMax = CONSUMERS_MAX): void {
  using rig = new Rig(options);
  const edit = (id: number, edit: Edit) => {
    // A filter without a list of keys stays one: adding keys to it would mean nothing.
    const consumer = rig.model.consumers.get(id);
    const target = consumer?.staged?.bit === edit.bit ? consumer.staged : consumer?.filters.get(edit.bit);
    if (edit.op !== "add" || target?.isUnkeyed !== true) rig.edit(id, edit);
  };
  const connect = (options: ConsumerOptions, edits: readonly Edit[]) => {
    const id = rig.connect(options);
    for (const one of edits) edit(id, one);
  };
  for (const { options, edits } of consumers) connect(options, edits);
  for (const step of steps) {
    const ids = [...rig.peers.keys()];
    if ("who" in step && ids.length === 0) continue;
    const id = "who" in step ? ids[step.who % ids.length]! : -1;
    switch (step.step) {
      case "publish":
        rig.publish(step.update, step.isBatch);
        break;
      case "many":
        rig.publishMany(step.updates, step.commits);
        break;
      case "commit":
        rig.commit();
        break;
      case "sweep":
        rig.sweep(step.elapsedMs);
        break;
      case "edit":
        edit(id, step.edit);
        break;
      case "poll":
        rig.poll(id, step.count);
        break;
      case "release":
        rig.release(id, step.count);
        break;
      case "flush":
        rig.flush(id);
        break;
      case "wake":
        if (rig.wasWoken()) { for (const each of ids) if (rig.peers.has(each)) rig.flush(each); }
        break;
      case "mark":
        rig.mark(id, step.kind);
        break;
      case "kill":
        rig.kill(id, step.isGone);
        break;
      case "connect":
        if (rig.peers.size < consumersMax) connect(step.options, step.edits);
        break;
      case "forge":
        rig.forgeCursor(id, (cursor) => {
          if (step.how === "ahead") return cursor + 2n ** 20n;
          if (step.how === "back") return cursor - 8n;
          return step.how === "misaligned" ? cursor + 1n : 2n ** 64n - 8n;
        }, step.how === "back");
        break;
    }
    if (rig.model.isUncertain) return;
  }
  rig.finish();
  const isForged = steps.some(({ step }) => step === "forge");
  if (!isForged) rig.compareTotals();
}

// Arbitraries

const index = (length: number) => fc.nat({ max: length - 1 });
const subset = (keys: readonly Uint8Array[], max: number) =>
  fc.uniqueArray(index(keys.length), { maxLength: max }).map((list) => list.map((i) => keyName(keys[i]!)));
const bit = index(2);
const noise = fc.boolean();

interface Sizes {
  /** Lengths of data. */
  readonly data: readonly number[];
  readonly messages: readonly number[];
}

function updateOf({ data, messages }: Sizes): fc.Arbitrary<ModelUpdate> {
  const account = fc.record({
    kind: fc.constant("account" as const),
    pubkey: index(KEYS.length).map((i) => KEYS[i]!),
    owner: index(OWNERS.length).map((i) => OWNERS[i]!),
    lamports: index(3).map(BigInt),
    data: fc.tuple(fc.constantFrom(...data), index(2)).map(([length, seed]) => content(length, seed)),
    slot: index(3).map((i) => BigInt(100 + i)),
    writeVersion: index(3).map(BigInt),
    bankId: index(2).map(BigInt),
    sourceEpoch: fc.constantFrom(0, 0, 0, 1),
    executable: fc.constantFrom(false, false, false, true),
    startup: noise,
    lossy: fc.constantFrom(false, false, true),
    signature: fc.constantFrom(undefined, undefined, SIGNATURES[0]!),
  });
  const transaction = fc.record({
    kind: fc.constant("transaction" as const),
    slot: index(3).map((i) => BigInt(100 + i)),
    index: index(100),
    signature: fc.constantFrom(...SIGNATURES),
    message: fc.constantFrom(...MESSAGES, ...messages.map((size) => messageOf([KEYS[0]!], size))),
    meta: fc.constantFrom(undefined, content(5, 1)),
    loadedAddresses: fc.constantFrom(undefined, undefined, ...LOADED),
    vote: noise,
    failed: noise,
  });
  const slot = fc.record({
    kind: fc.constant("slot" as const),
    slot: index(3).map((i) => BigInt(100 + i)),
    parent: fc.constant(99n),
    status: fc.constantFrom(...STATUSES),
  });
  return fc.oneof(
    { arbitrary: account, weight: 6 },
    { arbitrary: transaction, weight: 2 },
    { arbitrary: slot, weight: 1 },
  );
}

const accountList = fc.uniqueArray(index(KEYS.length), { maxLength: 3 }).map((list) => list.map((i) => KEYS[i]!));
const ownerList = fc.uniqueArray(index(OWNERS.length), { maxLength: 2 }).map((list) => list.map((i) => OWNERS[i]!));
const someAccounts = accountList.filter((list) => list.length > 0);
const someOwners = ownerList.filter((list) => list.length > 0);
const optional = { requiredKeys: [] as [], noNullPrototype: true };

const namedFilter: fc.Arbitrary<NamedFilter> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      accounts: fc.record({
        accounts: accountList,
        owners: ownerList,
        excludeAccounts: someAccounts,
        excludeOwners: someOwners,
        dataSize: fc.constantFrom(0, 165, { min: 10 }, { max: 165 }),
        memcmp: fc.constantFrom([{ offset: 0, bytes: content(165, 1).slice(0, 2) }], [{
          offset: 164,
          bytes: new Uint8Array(0),
        }]),
        lamports: fc.constantFrom(1n, { gt: 0n }, { lt: 2n, ne: 1n }),
        tokenAccountState: noise,
        nonemptyTxnSignature: noise,
        startup: noise,
        onlyChanged: fc.constant(true),
        dataSlice: fc.constantFrom(
          { offset: 0, length: 8 },
          { offset: 160, length: 10 },
          [{ offset: 1, length: 2 }, { offset: 3, length: 0 }, { offset: 100, length: 9 }],
        ),
      }, optional).chain((all) => {
        // Few conditions at once, or nothing ever matches.
        const names = Object.keys(all) as (keyof typeof all)[];
        return fc.subarray(names, { maxLength: Math.min(3, names.length) }).map((kept) =>
          Object.fromEntries(kept.map((name) => [name, all[name]]))
        );
      }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ accounts: true as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      transactions: fc.record(
        {
          vote: noise,
          failed: noise,
          signature: fc.constantFrom(...SIGNATURES),
          accountExclude: someAccounts,
          accountInclude: accountList,
          accountRequired: someAccounts,
        },
        optional,
      ),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ transactions: true as const }) },
  { weight: 1, arbitrary: fc.constant({ slots: true as const }) },
);

/** An edit without conditions: of the default filter, say. */
const plainEdit: fc.Arbitrary<Edit> = fc.record({
  op: fc.constantFrom("add", "add", "remove", "replace", "drop"),
  bit,
  accounts: subset(KEYS, 3),
  owners: subset(OWNERS, 2),
  transactions: noise,
  isLast: fc.constantFrom(true, true, true, false),
}).map((edit) => {
  if (edit.op === "drop") return { ...edit, accounts: [], owners: [] };
  return edit;
});

/** A named filter, in one message or left unfinished: then `add` may complete it. */
const namedEdit: fc.Arbitrary<Edit> = fc.tuple(bit, namedFilter, fc.constantFrom(true, true, false))
  .map(([bit, filter, isLast]) => {
    const edit = editFromFilter(bit, filter, isLast);
    // Without a list, one message says it all; with an empty one, a second says that nothing follows.
    if (edit.isUnkeyed === true) return { ...edit, isLast: true };
    return edit.accounts.length + edit.owners.length === 0 ? { ...edit, isLast: false } : edit;
  });

const DEFAULT_EDITS = fc.array(plainEdit.map((edit): Edit => ({ ...edit, op: "add", bit: 0 })), {
  minLength: 1,
  maxLength: 1,
});

interface Shape {
  readonly sizes: Sizes;
  /** In place of any update with those sizes. */
  readonly update?: fc.Arbitrary<ModelUpdate>;
  readonly edits: fc.Arbitrary<Edit>;
  readonly firstEdits: fc.Arbitrary<readonly Edit[]>;
  readonly consumer: fc.Arbitrary<ConsumerOptions>;
  readonly consumersMax: number;
  readonly rig: fc.Arbitrary<RigOptions>;
  readonly stepsMax: number;
  readonly manyMax: number;
  /** Published in one go, now and then. */
  readonly bursts?: readonly ModelUpdate[];
  /** Where a backlog may refuse a frame or not, the mark of an edit would be one choice more. */
  readonly hasNoEditMarks?: boolean;
  readonly weights: Partial<Record<Step["step"], number>>;
}

function scheduleOf(shape: Shape): fc.Arbitrary<Schedule> {
  const update = shape.update ?? updateOf(shape.sizes);
  const who = index(CONSUMERS_MAX);
  const arbitraries: { readonly [Name in Step["step"]]: fc.Arbitrary<Step> } = {
    publish: fc.record({ step: fc.constant("publish" as const), update, isBatch: noise }),
    many: fc.record({
      step: fc.constant("many" as const),
      updates: fc.oneof(
        { weight: 2, arbitrary: fc.array(update, { minLength: 1, maxLength: shape.manyMax }) },
        { weight: shape.bursts === undefined ? 0 : 1, arbitrary: fc.constant(shape.bursts ?? []) },
      ),
      commits: noise,
    }),
    commit: fc.constant({ step: "commit" as const }),
    sweep: fc.record({ step: fc.constant("sweep" as const), elapsedMs: fc.constantFrom(0, 1000, 4000, 10_000) }),
    edit: fc.record({ step: fc.constant("edit" as const), who, edit: shape.edits }),
    poll: fc.record({ step: fc.constant("poll" as const), who, count: fc.constantFrom(1, 2, 5, 64) }),
    release: fc.record({ step: fc.constant("release" as const), who, count: fc.constantFrom(1, 2, 5, 64) }),
    flush: fc.record({ step: fc.constant("flush" as const), who }),
    wake: fc.constant({ step: "wake" as const }),
    mark: fc.record({
      step: fc.constant("mark" as const),
      who,
      kind: fc.constantFrom("gap" as const, ...(shape.hasNoEditMarks === true ? [] : ["filter" as const])),
    }),
    kill: fc.record({ step: fc.constant("kill" as const), who, isGone: noise }),
    connect: fc.record({ step: fc.constant("connect" as const), options: shape.consumer, edits: shape.firstEdits }),
    forge: fc.record({
      step: fc.constant("forge" as const),
      who,
      how: fc.constantFrom("ahead" as const, "back" as const, "misaligned" as const, "wild" as const),
    }),
  };
  const steps = Object.entries(shape.weights).map(([name, weight]) => ({
    arbitrary: arbitraries[name as Step["step"]],
    weight: Math.round(10 * weight),
  }));
  return fc.record({
    rig: shape.rig,
    consumers: fc.array(fc.record({ options: shape.consumer, edits: shape.firstEdits }), {
      minLength: 1,
      maxLength: shape.consumersMax,
    }),
    steps: fc.array(fc.oneof(...steps), { minLength: 15, maxLength: shape.stepsMax, size: "max" }),
  });
}

const statuses = fc.subarray([...STATUSES]);
const policies: fc.Arbitrary<readonly [Policy, Policy]> = fc.oneof(
  fc.constantFrom(
    ...(["disconnect", "drop-newest", "drop-oldest", "block"] as const).map((name) => [name, name] as const),
  ),
  fc.constantFrom("disconnect", "drop-newest", "drop-oldest", "conflate").map((other) =>
    ["conflate", other as Policy] as const
  ),
  fc.constantFrom(["drop-newest", "drop-oldest"] as const, ["drop-oldest", "drop-newest"] as const),
);

function consumerOf(
  capacity: number,
  backlogs: readonly number[],
  pools: readonly number[] = [0],
  some = policies,
): fc.Arbitrary<ConsumerOptions> {
  return fc.record({
    policy: some,
    statuses,
    backlogBytes: fc.constantFrom(...backlogs),
    poolBytes: fc.constantFrom(...pools),
  })
    .map(({ policy: [policy, transactionPolicy], ...others }) => ({
      ...others,
      policy,
      transactionPolicy,
      capacity,
      reserved: 16_384,
    }));
}

const NO_POOL = { poolBytes: 0, poolThreshold: 0xffffffff };

/** Keys by their numbers, data by their lengths: short enough to read. */
function describe(schedule: Schedule | undefined): string {
  const text = (value: unknown) =>
    JSON.stringify(value, (_name, part) => {
      if (typeof part === "bigint") return `${part}n`;
      if (!(part instanceof Uint8Array)) {
        const names = [...KEYS, ...OWNERS].map(keyName);
        return typeof part === "string" && names.includes(part) ? `key ${names.indexOf(part)}` : part;
      }
      const key = KEYS.indexOf(part as (typeof KEYS)[number]);
      const owner = OWNERS.indexOf(part);
      return key >= 0 ? `key ${key}` : owner >= 0 ? `owner ${owner}` : `${part.length} bytes`;
    });
  if (schedule === undefined) return "no schedule";
  return [schedule.rig, ...schedule.consumers, ...schedule.steps].map(text).join("\n");
}

function check(schedules: fc.Arbitrary<Schedule>, runs: number, consumersMax = CONSUMERS_MAX): void {
  const before = { ...Rig.seen };
  const started = performance.now();
  fc.assert(fc.property(schedules, (schedule) => run(schedule, consumersMax)), {
    numRuns: Math.ceil(runs * scale),
    seed: process.env.QLASTER_MODEL_SEED === undefined ? undefined : Number(process.env.QLASTER_MODEL_SEED),
    reporter(details) {
      if (!details.failed) return;
      const { seed, counterexamplePath, counterexample, errorInstance, numRuns } = details;
      const again = `QLASTER_MODEL_SEED=${seed}, path ${counterexamplePath}`;
      const message = `after ${numRuns} schedules, ${again}: ${(errorInstance as Error)?.stack}`;
      throw new Error(`${message}\n${describe(counterexample?.[0])}`);
    },
  });
  if (process.env.QLASTER_MODEL_VERBOSE !== undefined) {
    const ms = performance.now() - started;
    const seen = Object.entries(Rig.seen).map(([what, count]) => `${what}: ${count - (before[what] ?? 0)}`);
    console.log(
      `${Math.ceil(runs * scale)} schedules, ${(Math.ceil(runs * scale) * 1000 / ms).toFixed(0)}/s; ${seen.join(", ")}`,
    );
  }
}

test("Fanout: filters and their edits, while publishing, give each consumer what the reference says", () => {
  check(
    scheduleOf({
      sizes: { data: [0, 8, 165, 300], messages: [] },
      edits: fc.oneof(plainEdit, namedEdit),
      firstEdits: fc.array(fc.oneof(plainEdit, namedEdit), { minLength: 1, maxLength: 2 }),
      consumer: consumerOf(262_144, [BACKLOG_LARGE]),
      consumersMax: 3,
      rig: fc.record({
        isTracking: fc.constantFrom(true, true, false),
        guard: fc.constantFrom("off", "count", "drop"),
      }).map((options) => ({ ...options, ...NO_POOL })),
      stepsMax: 40,
      manyMax: 12,
      weights: {
        publish: 12,
        many: 2,
        commit: 2,
        sweep: 1,
        edit: 8,
        poll: 2,
        release: 2,
        mark: 1,
        kill: 1,
        connect: 1,
      },
    }),
    4000,
    3,
  );
});

const SLOW = {
  publish: 16,
  many: 2,
  commit: 2,
  sweep: 1,
  edit: 2,
  poll: 5,
  release: 5,
  flush: 2,
  wake: 2,
  mark: 1,
  kill: 0.3,
  connect: 0.5,
} as const;
const POLICY_SHAPE: Shape = {
  sizes: { data: [0, 165, 3000, 8000, 12_000, 20_000], messages: [1000, 9000] },
  edits: plainEdit,
  firstEdits: DEFAULT_EDITS,
  consumer: consumerOf(65_536, [0, BACKLOG_LARGE, BACKLOG_LARGE, BACKLOG_LARGE]),
  consumersMax: 4,
  rig: fc.record({ isTracking: noise, guard: fc.constantFrom("off" as const, "drop" as const) })
    .map((options) => ({ ...options, ...NO_POOL })),
  stepsMax: 60,
  manyMax: 8,
  weights: SLOW,
};

test("Fanout: full rings; each policy does what the reference says, and every loss is said", () => {
  check(scheduleOf(POLICY_SHAPE), 2500);
});

test("Fanout: writes that change nothing are left out, counted once they are published, and leave no filter", () => {
  // Few accounts, and little that can become of them: most writes repeat the one before, or differ by what is no content.
  const update: fc.Arbitrary<ModelUpdate> = fc.record({
    kind: fc.constant("account" as const),
    pubkey: index(2).map((i) => KEYS[i]!),
    owner: fc.constantFrom(OWNERS[0]!, OWNERS[0]!, OWNERS[0]!, OWNERS[1]!),
    lamports: fc.constantFrom(1n, 1n, 1n, 2n),
    data: fc.constantFrom(0, 8000, 8000).map((length) => content(length, 1)),
    slot: fc.constant(100n),
    writeVersion: index(2).map(BigInt),
    startup: fc.constantFrom(false, false, false, true),
    signature: fc.constantFrom(undefined, undefined, SIGNATURES[0]!),
  });
  const filter = fc.record({
    keys: fc.constantFrom({ owners: [OWNERS[0]!] }, { accounts: KEYS.slice(0, 2) }, {}),
    condition: fc.constantFrom({}, {}, { lamports: 1n }, { startup: false }, { nonemptyTxnSignature: false }, {
      dataSize: 8000,
    }),
    onlyChanged: fc.constantFrom({ onlyChanged: true }, { onlyChanged: true }, {}),
  }).map(({ keys, condition, onlyChanged }): NamedFilter => ({ accounts: { ...keys, ...condition, ...onlyChanged } }));
  const edits = fc.tuple(bit, filter).map(([bit, filter]) => editFromFilter(bit, filter));
  check(
    scheduleOf({
      ...POLICY_SHAPE,
      update,
      edits,
      firstEdits: fc.array(edits, { minLength: 1, maxLength: 2 }),
      rig: fc.constantFrom("off" as const, "count" as const, "drop" as const)
        .map((guard) => ({ isTracking: true, guard, ...NO_POOL })),
    }),
    1500,
  );
});

test("Fanout: full rings and small backlogs; what does not fit is lost and said, in order", () => {
  check(
    scheduleOf({
      ...POLICY_SHAPE,
      consumer: consumerOf(65_536, [4096, 16_384, 65_536]),
      hasNoEditMarks: true,
      // Nothing leaves: two frames of one update would be two choices, of which the engine tells the sum.
      rig: fc.constant({ isTracking: false, guard: "off" as const, ...NO_POOL }),
    }),
    1500,
  );
});

test("Fanout: marks without room wait for some; who gives none for too long is ended", () => {
  check(
    scheduleOf({
      ...POLICY_SHAPE,
      consumer: consumerOf(65_536, [0, BACKLOG_LARGE, BACKLOG_LARGE]),
      // As many slots as the reserved room takes.
      bursts: Array.from({ length: 130 }, () => ({ kind: "slot", slot: 100n, parent: 99n, status: "processed" })),
      weights: { ...SLOW, poll: 2, release: 2, sweep: 6, mark: 4 },
    }),
    400,
  );
});

test("Fanout: payloads that fit into no ring are lost, those before and after them are not", () => {
  check(
    scheduleOf({
      ...POLICY_SHAPE,
      sizes: { data: [0, 8000, 49_000, 60_000], messages: [49_000] },
      consumer: consumerOf(65_536, [BACKLOG_LARGE]),
    }),
    500,
  );
});

test("Fanout: large payloads by the pool, with limits, are whole for everybody", () => {
  // Slices travel in the ring, however large they are, and whether they had to wait or not.
  const slices = fc.constantFrom(4096, 8192).map((length) => ({ dataSlice: { offset: 0, length } }));
  const large = fc.tuple(bit, someAccounts, slices)
    .map(([bit, accounts, slices]) => editFromFilter(bit, { accounts: { accounts, ...slices } }));
  check(
    scheduleOf({
      ...POLICY_SHAPE,
      // What fills a block of the pool to its last unit, see POOL_STEP; messages with what may follow them.
      sizes: { data: [0, 165, 1999, 2000, 2048, 8192, 6144 - 3, 98_304], messages: [2040 - 96, 20_472 - 96] },
      consumer: consumerOf(65_536, [BACKLOG_LARGE], [0, 8192, 65_536, 1 << 20]),
      rig: fc.record({ isTracking: noise }).map(({ isTracking }) => ({
        isTracking,
        guard: "off" as const,
        poolBytes: 16 << 20,
        poolThreshold: 2000,
      })),
      edits: fc.oneof(plainEdit, namedEdit, large),
    }),
    1500,
  );
});

test("Fanout: those that lag leave as much of a small pool as each of them holds", () => {
  // All blocks of one size: where the pool has room for one is then no question of what lies where.
  const shared = (size: number): Shape => ({
    ...POLICY_SHAPE,
    sizes: { data: [0, 165, size, size, size], messages: [1000] },
    consumer: consumerOf(
      65_536,
      [0, BACKLOG_LARGE],
      [0, 262_144, 1 << 20, 1 << 20],
      // Who is ended in the middle of an update leaves what it held to the quarantine, which is a matter of its own.
      policies.filter(([accounts, transactions]) => accounts !== "disconnect" && transactions !== "disconnect"),
    ),
    rig: fc.constant({ isTracking: false, guard: "off", poolBytes: 1 << 20, poolThreshold: 2000 }),
    // Who comes first takes first: what waits for one is written before the next gets its turn. In what order an update's
    // consumers are served nobody promises; without edits and ends it is that of their coming.
    firstEdits: fc.uniqueArray(index(OWNERS.length), { minLength: 1 }).chain((owners) =>
      noise.map((transactions) => [{
        op: "add" as const,
        bit: 0,
        accounts: [],
        owners: owners.map((i) => keyName(OWNERS[i]!)),
        transactions,
        isLast: true,
      }])
    ),
    weights: { ...SLOW, many: 6, sweep: 0, edit: 0, kill: 0, connect: 1 },
  });
  // A ring takes one of them, or none.
  check(fc.oneof(scheduleOf(shared(32_768)), scheduleOf(shared(65_536))), 1000);
});

test("Fanout: a consumer that forges its cursor is told of and harms nobody else", () => {
  const hostile = (backlogs: readonly number[]): Shape => ({
    ...POLICY_SHAPE,
    edits: plainEdit,
    consumer: consumerOf(65_536, backlogs, [0, 65_536], policies.filter(([policy]) => policy !== "block")),
    rig: fc.constant({
      isTracking: false,
      guard: "off",
      poolBytes: 16 << 20,
      poolThreshold: 12_000,
      isHostile: true,
    }),
    sizes: { data: [0, 165, 3000, 8000, 12_288, 20_480], messages: [1000, 9000] },
    weights: { ...SLOW, forge: 1.5 },
  });
  check(
    fc.oneof( // marks of edits, or backlogs that may refuse a frame or not
      scheduleOf(hostile([0, BACKLOG_LARGE])),
      scheduleOf({ ...hostile([0, 65_536, BACKLOG_LARGE]), hasNoEditMarks: true }),
    ),
    1000,
  );
});

const MANY_KEYS = Array.from(
  { length: 300 },
  (_, i) => Uint8Array.from({ length: 32 }, (_, j) => j < 2 ? i >> (8 * j) : 9),
);
const MANY_NAMES = MANY_KEYS.map(keyName);

test("Fanout: an edit of many keys holds from the next update on, whoever leaves meanwhile", () => {
  const range = fc.tuple(index(MANY_KEYS.length), fc.constantFrom(0, 1, 5, 70, 200))
    .map(([start, length]) => Array.from({ length }, (_, i) => MANY_NAMES[(start + i) % MANY_NAMES.length]!));
  const edits: fc.Arbitrary<Edit> = fc.record({
    op: fc.constantFrom("add" as const, "remove" as const, "replace" as const, "drop" as const),
    bit: index(4),
    accounts: range,
    owners: range,
    transactions: noise,
    isLast: fc.constantFrom(true, true, false),
  }).map((edit) => edit.op === "drop" ? { ...edit, accounts: [], owners: [] } : edit);
  const update = fc.tuple(index(MANY_KEYS.length), index(MANY_KEYS.length)).map(([pubkey, owner]): ModelUpdate => ({
    kind: "account",
    pubkey: MANY_KEYS[pubkey]!,
    owner: MANY_KEYS[owner]!,
    lamports: 1n,
    slot: 100n,
    data: content(300, 1),
  }));
  const who = index(6);
  const options = consumerOf(
    65_536,
    [0],
    [0],
    fc.constantFrom(["disconnect", "disconnect"] as const, ["drop-newest", "drop-newest"] as const),
  );
  const first = fc.array(edits, { minLength: 1, maxLength: 3 });
  check(
    fc.record({
      rig: fc.constant({ isTracking: false, guard: "off" as const, ...NO_POOL }),
      consumers: fc.array(fc.record({ options, edits: first }), { minLength: 2, maxLength: 6 }),
      steps: fc.array(
        fc.oneof(
          { weight: 4, arbitrary: fc.record({ step: fc.constant("edit" as const), who, edit: edits }) },
          {
            weight: 3,
            arbitrary: fc.record({
              step: fc.constant("many" as const),
              // More than are looked up at once.
              updates: fc.array(update, { minLength: 1, maxLength: 150, size: "max" }),
              commits: noise,
            }),
          },
          { weight: 3, arbitrary: fc.record({ step: fc.constant("publish" as const), update, isBatch: noise }) },
          { weight: 1, arbitrary: fc.record({ step: fc.constant("poll" as const), who, count: fc.constant(64) }) },
          { weight: 1, arbitrary: fc.record({ step: fc.constant("release" as const), who, count: fc.constant(64) }) },
          { weight: 1, arbitrary: fc.constant({ step: "sweep" as const, elapsedMs: 1000 }) },
          { weight: 1, arbitrary: fc.record({ step: fc.constant("kill" as const), who, isGone: noise }) },
          { weight: 2, arbitrary: fc.record({ step: fc.constant("connect" as const), options, edits: first }) },
        ),
        { minLength: 5, maxLength: 20, size: "max" },
      ),
    }),
    400,
    6,
  );
});

test("Fanout: bytes that are no edit are refused or taken, and nobody else notices", () => {
  const valid = fc.oneof(plainEdit, namedEdit).map(encodeEdit);
  const mangled = fc.tuple(
    valid,
    fc.array(
      fc.oneof(
        fc.record({ how: fc.constant("flip" as const), at: fc.nat(1000), by: fc.integer({ min: 1, max: 255 }) }),
        fc.record({
          how: fc.constant("word" as const),
          at: fc.nat(250),
          by: fc.constantFrom(0, 1, 0x7fffffff, 0xffffffff, 64),
        }),
        fc.record({ how: fc.constant("cut" as const), at: fc.nat(1000), by: fc.constant(0) }),
        fc.record({ how: fc.constant("grow" as const), at: fc.nat(100), by: fc.nat(255) }),
      ),
      { minLength: 1, maxLength: 4 },
    ),
  ).map(([bytes, changes]) => {
    let result = bytes.slice();
    for (const { how, at, by } of changes) {
      if (how === "grow") result = Uint8Array.from([...result, ...new Array<number>(at).fill(by)]);
      if (result.length === 0) continue;
      if (how === "cut") result = result.slice(0, at % result.length);
      // The head and what follows it, above all.
      else if (how === "flip") result[at % Math.min(result.length, 64 + at)]! ^= by;
      else if (how === "word" && result.length >= 4) {
        new DataView(result.buffer).setUint32(4 * (at % Math.floor(result.length / 4)), by, true);
      }
    }
    return result;
  });
  const bodies = fc.oneof({ weight: 4, arbitrary: mangled }, {
    weight: 1,
    arbitrary: fc.uint8Array({ maxLength: 200 }),
  });
  const update = updateOf({ data: [0, 165], messages: [] });
  const started = performance.now();
  const runs = Math.ceil(500 * scale);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(bodies, update), { minLength: 1, maxLength: 20 }),
      plainEdit,
      (attempts, honest) => {
        using rig = new Rig({ isTracking: false, guard: "off", ...NO_POOL });
        const options = { statuses: STATUSES, capacity: 65_536, reserved: 16_384, backlogBytes: 0, poolBytes: 0 };
        const [hostile, other] = [0, 1].map(() =>
          rig.connect({ ...options, policy: "drop-newest", transactionPolicy: "drop-newest" })
        ) as [number, number];
        rig.edit(other, { ...honest, op: "add" });
        for (const [bytes, update] of attempts) {
          assert.ok(rig.fuzzEdit(hostile, bytes) <= 0);
          rig.publish(update, false);
          rig.drain(other);
        }
        rig.finish();
      },
    ),
    { numRuns: runs },
  );
  if (process.env.QLASTER_MODEL_VERBOSE !== undefined) {
    console.log(`${runs} schedules, ${(runs * 1000 / (performance.now() - started)).toFixed(0)}/s`, Rig.seen);
  }
});
