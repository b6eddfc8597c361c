/**
 * Random schedules for real processes, and what the reference makes of one once it is known when each edit took effect.
 * May touch: the reference (tests/support/reference_fanout.ts), fast-check. May not touch: processes.
 * A schedule says what each process does, not when: real time decides that. What is expected follows from the sender's one
 * order, which is the schedule's, and from the sequences of the acknowledgements.
 *
 * @module
 */

import fc from "fast-check";
import { SLOT_STATUSES } from "../../../src/types.ts";
import { type Edit, type Frame, keyName, type Policy, ReferenceFanout } from "../../support/reference_fanout.ts";
import { accountKey, ownerKey } from "../../support/script.ts";
import {
  type AccountFilterSpec,
  type Acked,
  type Chunk,
  contentOf,
  type EditSpec,
  filterOf,
  type FilterSpec,
  type ReadingMode,
  type TransactionFilterSpec,
  updateOf,
  type UpdateSpec,
} from "./process_peer.ts";
import { editFromFilter } from "./rig.ts";

export interface ConsumerPlan {
  readonly policy: { readonly accounts: Policy; readonly transactions: Policy };
  /** 0: as much as the sender permits, which is more than a schedule publishes. */
  readonly queueBytes: number;
  readonly mode: ReadingMode;
  readonly idle: "adaptive" | "park" | "yield";
}

/** What happens at the same time: the sender publishes, consumers edit, some of them do not read. */
export interface Round {
  readonly chunks: readonly Chunk[];
  /** By consumer. */
  readonly edits: readonly { readonly edits: readonly EditSpec[]; readonly isAtOnce: boolean }[];
  readonly isPaused: readonly boolean[];
}

export interface Schedule {
  readonly consumers: readonly ConsumerPlan[];
  readonly rounds: readonly Round[];
  /** Who is killed when the sender comes to that chunk of that round. */
  readonly kill: { readonly who: number; readonly round: number; readonly chunk: number } | undefined;
}

export const CONSUMERS_MAX = 4;
const ROUNDS_MAX = 6;
const KEYS = 6;
const OWNERS = 3;
const SLOTS = 3;
/** Names of filters. Their bits in the reference are these places, whatever the library gives them. */
export const NAMES: readonly string[] = ["", "a", "b", "c"];
/** The engine remembers eight filters that an account may leave; four consumers with two of them are within that. */
const TRACKED_MAX = 2;

// Arbitraries

const index = (length: number) => fc.nat({ max: length - 1 });
const some = (length: number, maxLength: number) =>
  fc.uniqueArray(index(length), { minLength: 1, maxLength, size: "max" });
const status = fc.constantFrom(...SLOT_STATUSES.slice(0, 3));

/** Some travel in the ring and some, from 1 KiB on, in the pool. */
export const POOL_THRESHOLD = 1024;
const length = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(0, 8, 165, 900, 1000) },
  { weight: 2, arbitrary: fc.constantFrom(1023, 1024, 2000, 5000, 16_384) },
);

const update: fc.Arbitrary<UpdateSpec> = fc.oneof(
  {
    weight: 7,
    arbitrary: fc.record({
      kind: fc.constant("account" as const),
      key: index(KEYS),
      owner: index(OWNERS),
      lamports: index(3),
      length,
      seed: index(4),
      slot: index(SLOTS).map((i) => 100 + i),
      startup: fc.boolean(),
      hasSignature: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("transaction" as const),
      keys: some(KEYS, 3),
      length,
      seed: index(4),
      slot: index(SLOTS).map((i) => 100 + i),
      vote: fc.boolean(),
      failed: fc.boolean(),
      signature: index(2),
      hasMeta: fc.boolean(),
      writable: fc.oneof(fc.constant([]), some(KEYS, 2)),
      readonly: fc.oneof(fc.constant([]), some(KEYS, 2)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("slot" as const), slot: index(SLOTS).map((i) => 100 + i), status }),
  },
);

const optional = { requiredKeys: [] as [], noNullPrototype: true };

/** Few conditions at once, or nothing ever matches. */
function few<T extends object>(all: fc.Arbitrary<T>): fc.Arbitrary<Partial<T>> {
  return all.chain((given) =>
    fc.subarray(Object.keys(given) as (keyof T)[], { maxLength: Math.min(2, Object.keys(given).length) })
      .map((names) => Object.fromEntries(names.map((name) => [name, given[name]])) as Partial<T>)
  );
}

const accountFilter = few<AccountFilterSpec>(fc.record({
  accounts: some(KEYS, 4),
  owners: some(OWNERS, 2),
  excludeAccounts: some(KEYS, 2),
  excludeOwners: some(OWNERS, 1),
  dataSize: fc.constantFrom(165, { min: 10 }, { max: 2000 }),
  memcmp: index(4),
  lamportsAbove: index(2),
  startup: fc.boolean(),
  nonemptyTxnSignature: fc.boolean(),
  onlyChanged: fc.constant(true as const),
  dataSlice: fc.constantFrom([{ offset: 0, length: 8 }], [{ offset: 160, length: 2000 }]),
}, optional));

const transactionFilter = few<TransactionFilterSpec>(fc.record({
  vote: fc.boolean(),
  failed: fc.boolean(),
  signature: index(2),
  accountInclude: some(KEYS, 3),
  accountExclude: some(KEYS, 2),
  accountRequired: some(KEYS, 2),
}, optional));

const filter: fc.Arbitrary<FilterSpec> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ accounts: accountFilter }) },
  { weight: 1, arbitrary: fc.constant({ accounts: true as const }) },
  { weight: 2, arbitrary: fc.record({ transactions: transactionFilter }) },
  { weight: 1, arbitrary: fc.constant({ transactions: true as const }) },
  {
    weight: 1,
    arbitrary: fc.oneof(
      fc.constant({ slots: true as const }),
      fc.record({ slots: fc.record({ statuses: fc.subarray(SLOT_STATUSES.slice(0, 3), { minLength: 1 }) }) }),
    ),
  },
);

/** What a consumer would like; `EditBook` makes of it what it may ask. */
interface Wish {
  readonly op: "subscribe" | "unsubscribe" | "set" | "add" | "take" | "remove";
  readonly name: number;
  readonly filter: FilterSpec;
  readonly accounts: readonly number[];
  readonly owners: readonly number[];
  readonly transactions: boolean;
}

const wish: fc.Arbitrary<Wish> = fc.record({
  op: fc.constantFrom("subscribe", "unsubscribe", "set", "set", "set", "add", "take", "remove"),
  name: index(3),
  filter,
  accounts: some(KEYS, 3),
  owners: some(OWNERS, 2),
  transactions: fc.boolean(),
});

const chunk: fc.Arbitrary<Chunk> = fc.record({
  isBatch: fc.boolean(),
  updates: fc.array(update, { minLength: 1, maxLength: 60, size: "max" }),
  turns: fc.constantFrom(0, 1, 3, 20),
});

const policy: fc.Arbitrary<ConsumerPlan["policy"]> = fc.oneof(
  ...(["disconnect", "drop-newest", "drop-oldest", "block"] as const).map((name) =>
    fc.constant({ accounts: name, transactions: name })
  ),
  fc.constantFrom("conflate" as const, "drop-newest" as const, "drop-oldest" as const).map((transactions) => ({
    accounts: "conflate" as const,
    transactions,
  })),
  fc.constantFrom("drop-newest" as const, "block" as const).map((accounts) => ({
    accounts,
    transactions: "drop-oldest" as const,
  })),
);

const consumerPlan: fc.Arbitrary<ConsumerPlan> = fc.record({
  policy,
  queueBytes: fc.constantFrom(0, 0, 32_768),
  mode: fc.constantFrom("for await", "poll", "batches"),
  idle: fc.constantFrom("adaptive", "park", "yield"),
});

const flags = fc.array(fc.boolean(), { minLength: CONSUMERS_MAX, maxLength: CONSUMERS_MAX });

const round = fc.record({
  chunks: fc.array(chunk, { minLength: 1, maxLength: 8, size: "max" }),
  wishes: fc.array(
    fc.record({ wishes: fc.array(wish, { maxLength: 3, size: "max" }), isAtOnce: fc.boolean() }),
    { minLength: CONSUMERS_MAX, maxLength: CONSUMERS_MAX },
  ),
  isPaused: flags,
});

export const schedule: fc.Arbitrary<Schedule> = fc.record({
  consumers: fc.array(consumerPlan, { minLength: 2, maxLength: CONSUMERS_MAX, size: "max" }),
  rounds: fc.array(round, { minLength: 3, maxLength: ROUNDS_MAX, size: "max" }),
  kill: fc.option(
    fc.record({ who: index(CONSUMERS_MAX), round: index(ROUNDS_MAX), chunk: index(8) }),
    { nil: undefined, freq: 2 },
  ),
}).map(({ consumers, rounds, kill }) => {
  // Whether a write has changed anything is known of accounts that somebody asked for before: of one who may vanish at any
  // moment, nobody can tell whether he still did.
  const isCertain = kill === undefined && !consumers.some(({ policy }) => policy.accounts === "disconnect");
  const books = consumers.map((_, who) => new EditBook(who % 2 === 1, isCertain));
  const planned = rounds.map(({ chunks, wishes, isPaused }, i) => ({
    chunks,
    isPaused: isPaused.slice(0, consumers.length),
    edits: books.map((book, who) => {
      const { wishes: own, isAtOnce } = wishes[who]!;
      return { edits: [...i === 0 ? book.begin() : [], ...own.flatMap((wish) => book.editsOf(wish))], isAtOnce };
    }),
  }));
  const round = kill === undefined ? 0 : kill.round % rounds.length;
  return {
    consumers,
    rounds: planned,
    kill: kill && {
      round,
      who: kill.who % consumers.length,
      chunk: kill.chunk % planned[round]!.chunks.length,
    },
  };
});

// What no chance decides

const steady = { queueBytes: 0, idle: "adaptive" } as const;
const same = (name: Policy) => ({ accounts: name, transactions: name });
/** In the ring, as every payload below the threshold. */
const written = (key: number, owner: number, seed: number): UpdateSpec => ({
  ...{ kind: "account", key, owner, lamports: 1, length: 1000, seed, slot: 100, startup: false, hasSignature: false },
});
const ended: UpdateSpec = { kind: "slot", slot: 100, status: "processed" };
/** Several times what a ring takes. */
const flood: readonly Chunk[] = Array.from({ length: 8 }, (_, chunk) => ({
  isBatch: chunk % 2 === 0,
  updates: Array.from({ length: 60 }, (_, i) => written(i % 3, 1, i % 4)),
  turns: 1,
}));
/** An account that no consumer names gets an owner that some of them name, and then another one. */
const passing: Chunk = { isBatch: false, updates: [written(5, 0, 0), written(5, 1, 1), ended], turns: 0 };

/** All subscribe; then nobody reads while a flood comes; then all read. @param kills Whom, in the flood. */
function floodOf(policies: readonly ConsumerPlan["policy"][], kills?: number): Schedule {
  const modes = ["for await", "poll", "batches"] as const;
  const subscribed = (who: number): readonly EditSpec[] => [
    { op: "subscribe", accounts: [0, 1, 2], owners: who % 2 === 1 ? [0] : [], transactions: true },
  ];
  const edits = (of: (who: number) => readonly EditSpec[]) =>
    policies.map((_, who) => ({ edits: of(who), isAtOnce: false }));
  const round = (chunks: readonly Chunk[], isPaused: boolean): Round => ({
    chunks,
    edits: edits(() => []),
    isPaused: policies.map(() => isPaused),
  });
  return {
    consumers: policies.map((policy, i) => ({ ...steady, policy, mode: modes[i % modes.length]! })),
    rounds: [
      { ...round([{ isBatch: false, updates: [ended], turns: 0 }], false), edits: edits(subscribed) },
      round(flood, true),
      round([passing], false),
    ],
    kill: kills === undefined ? undefined : { who: kills, round: 1, chunk: 1 },
  };
}

/**
 * Each of these has what the test looks for in any case, by its construction: among random ones there are a few of each kind
 * on average, and so none in one run of twenty.
 */
export const CERTAIN: readonly Schedule[] = [
  floodOf([same("disconnect"), same("drop-newest"), same("drop-oldest"), same("conflate")]),
  floodOf([same("block"), same("drop-newest"), same("conflate"), same("drop-oldest")], 2),
];

/** Keeps the books of one consumer's filters, so that it asks for nothing that is refused. */
class EditBook {
  readonly #filters = new Map<string, FilterSpec>();
  readonly #takesOwners: boolean;
  readonly #isCertain: boolean;

  constructor(takesOwners: boolean, isCertain: boolean) {
    this.#takesOwners = takesOwners;
    this.#isCertain = isCertain;
  }

  /** Something to start with. */
  begin(): EditSpec[] {
    return [{ op: "subscribe", accounts: [0, 1, 2], owners: this.#takesOwners ? [0] : [], transactions: true }];
  }

  /** A subscription to owners is one of the filters that an account may leave. */
  get #namesMax(): number {
    return this.#takesOwners ? TRACKED_MAX - 1 : TRACKED_MAX;
  }

  editsOf(wish: Wish): EditSpec[] {
    const name = NAMES[1 + wish.name]!;
    const filter = this.#filters.get(name);
    switch (wish.op) {
      case "subscribe":
      case "unsubscribe": {
        const owners = this.#takesOwners ? wish.owners : [];
        return [{ op: wish.op, accounts: wish.accounts, owners, transactions: wish.transactions }];
      }
      case "set": {
        const edits: EditSpec[] = [];
        if (filter === undefined && this.#filters.size === this.#namesMax) {
          const [oldest] = this.#filters.keys();
          edits.push(this.#remove(oldest!));
        }
        const wanted = this.#isCertain ? wish.filter : withoutChanges(wish.filter);
        this.#filters.set(name, wanted);
        return [...edits, { op: "set", name, filter: wanted }];
      }
      case "add":
      case "take": {
        const list = filter && editableList(filter);
        if (list === undefined) return [];
        return [{ op: wish.op, name, list, keys: list === "owners" ? wish.owners : wish.accounts }];
      }
      case "remove":
        return filter === undefined ? [] : [this.#remove(name)];
    }
  }

  #remove(name: string): EditSpec {
    this.#filters.delete(name);
    return { op: "remove", name };
  }
}

function withoutChanges(filter: FilterSpec): FilterSpec {
  if (!("accounts" in filter) || filter.accounts === true) return filter;
  const { onlyChanged: _, ...others } = filter.accounts;
  return { accounts: others };
}

/** Which list of a filter `editFilter` edits: docs of `Consumer.editFilter`. */
function editableList(filter: FilterSpec): "accounts" | "owners" | undefined {
  if ("accounts" in filter && filter.accounts !== true) {
    if (filter.accounts.accounts !== undefined) return "accounts";
    return filter.accounts.owners !== undefined ? "owners" : undefined;
  }
  if ("transactions" in filter && filter.transactions !== true) {
    const { accountInclude, accountRequired } = filter.transactions;
    return accountInclude !== undefined || accountRequired !== undefined ? "accounts" : undefined;
  }
  return undefined;
}

// What must come

/** One matching update, as its consumer must see it. */
export interface Expected {
  readonly kind: "account" | "transaction" | "slot" | "left";
  readonly sequence: number;
  readonly filters: readonly string[];
  readonly content: string;
  /** The account's, or undefined. */
  readonly key: string | undefined;
  readonly slot: bigint;
  /** Its payload was in the pool, perhaps. */
  readonly isLarge: boolean;
}

/** Edits of one consumer, with where they took effect; `null` for those that did not, as far as anybody can see. */
export type TakenEdits = readonly { readonly edit: EditSpec; readonly acked: Acked }[];

/** The reference's list for each consumer; undefined if it can't tell which accounts have left which filters. */
export function expectedOf(updates: readonly UpdateSpec[], edits: readonly TakenEdits[]): Expected[][] | undefined {
  const pool = { poolThreshold: Infinity, poolBytes: 0 };
  const model = new ReferenceFanout({ isTracking: true, guard: "count", stallMs: Infinity, ...pool });
  edits.forEach((_, id) =>
    model.add(id, {
      policy: "drop-newest",
      transactionPolicy: "drop-newest",
      statuses: SLOT_STATUSES,
      capacity: Number.MAX_SAFE_INTEGER,
      reserved: 0,
      backlogBytes: 0,
      poolBytes: 0,
    })
  );
  const next = edits.map(() => 0);
  for (const [i, spec] of updates.entries()) {
    edits.forEach((list, id) => {
      for (; next[id]! < list.length; next[id]!++) {
        const { edit, acked } = list[next[id]!]!;
        if (acked === null || acked.sequence > i) break;
        model.edit(id, modelEdit(edit));
      }
    });
    model.publish(updateOf(spec, i), false, () => ({ lost: 0, conflated: 0 }));
  }
  if (model.isUncertain) return undefined;
  return edits.map((_, id) => model.consumers.get(id)!.inRing.map(({ frame }) => expectedFrame(frame)));
}

function modelEdit(edit: EditSpec): Edit {
  const plain = { accounts: [], owners: [], transactions: false, isLast: true };
  switch (edit.op) {
    case "subscribe":
    case "unsubscribe": {
      const { accounts, owners, transactions } = edit;
      return {
        ...plain,
        op: edit.op === "subscribe" ? "add" : "remove",
        bit: 0,
        accounts: accounts.map(accountName),
        owners: owners.map(ownerName),
        transactions,
      };
    }
    case "set":
      return editFromFilter(NAMES.indexOf(edit.name), filterOf(edit.filter));
    case "add":
    case "take": {
      const keys = edit.keys.map(edit.list === "owners" ? ownerName : accountName);
      const op = edit.op === "add" ? "add" as const : "remove" as const;
      return { ...plain, op, bit: NAMES.indexOf(edit.name), [edit.list]: keys };
    }
    case "remove":
      return { ...plain, op: "drop", bit: NAMES.indexOf(edit.name) };
  }
}

const accountName = (number: number) => keyName(accountKey(number));
const ownerName = (number: number) => keyName(ownerKey(number));

function expectedFrame({ kind, sequence, mask, update, data, isSliced, isClipped, published }: Frame): Expected {
  const isAll = mask === 2n ** 64n - 1n;
  const fields = {
    ...update!,
    kind,
    isSliced,
    isClipped,
    fullLength: update!.kind === "account" ? update!.data.length : 0,
    data,
    accountsPublished: published.accounts,
    transactionsPublished: published.transactions,
  };
  return {
    kind: kind as Expected["kind"],
    sequence,
    filters: isAll ? [] : NAMES.filter((_, bit) => (mask & (1n << BigInt(bit))) !== 0n),
    content: contentOf(fields),
    key: update!.kind === "account" && kind === "account" ? keyName(update!.pubkey) : undefined,
    slot: update!.slot,
    isLarge: kind === "transaction" || (kind === "account" && !isSliced && data.length >= POOL_THRESHOLD),
  };
}
