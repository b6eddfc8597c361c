/**
 * What each consumer of a sender must get, said a second time: plainly, slowly, and without the engine. Filters and their
 * edits, the one order, rings that are full, what each policy does then, backlogs, marks, changes, leaving, versions.
 * May touch: types only, and reference_filters.ts. May not touch: src/ at run time, the native library.
 * Sizes are written down here once more, from the tables of docs/protocol.md: whether a ring is full depends on them.
 * Where the engine is free, the model asks: a backlog may refuse a frame while up to a quarter of it is holes (`Witness`).
 *
 * @module
 */

import type { AccountUpdate, ReadonlyUint8Array, SlotUpdate, TransactionUpdate } from "../../src/types.ts";
import type { DataSlice, NamedFilter } from "../../src/wire/filters.ts";
import { outcomeOf, slicesOf, transactionKeys } from "./reference_filters.ts";

/** Bytes of the parts of frames, docs/protocol.md. */
const HEADER = 64;
const BODY = { account: 120, transaction: 96, slot: 64, left: 96, gap: 8, filter: 8, goodbye: 8 } as const;
const SIGNATURE = 64;
/** What a frame in a backlog costs beside itself; all of it is padded to 8. */
const WAITING = 64;
const BACKLOG_STEP = 4096;
/** Payloads of these tests fill blocks of the pool up to this (pool_blocks.zig rounds others in its own way). */
export const POOL_STEP = 2048;
const MASK_ALL = 2n ** 64n - 1n;

const padded = (size: number, step = 8): number => Math.ceil(size / step) * step;

export type FrameName = keyof typeof BODY;
export type Policy = "disconnect" | "drop-newest" | "drop-oldest" | "conflate" | "block";
/** An account's version is its source's epoch, too. */
export type ModelAccount = AccountUpdate & { readonly sourceEpoch?: number };
export type ModelUpdate = ModelAccount | TransactionUpdate | SlotUpdate;

export interface FanoutOptions {
  /** Whether accounts are remembered at all (as many as there are). */
  readonly isTracking: boolean;
  readonly guard: "off" | "count" | "drop";
  /** Payloads from this size on go into the pool. */
  readonly poolThreshold: number;
  /** Of the whole pool. */
  readonly poolBytes: number;
  /** How long a consumer may leave no room for marks. */
  readonly stallMs: number;
}

export interface ConsumerOptions {
  readonly policy: Policy;
  readonly transactionPolicy: Policy;
  readonly statuses: readonly SlotUpdate["status"][];
  readonly capacity: number;
  readonly reserved: number;
  readonly backlogBytes: number;
  /** 0: it has no pool. */
  readonly poolBytes: number;
}

/** An edit of one filter. Keys are names: equal bytes, equal text. */
export interface Edit {
  readonly op: "add" | "remove" | "replace" | "drop";
  readonly bit: number;
  readonly accounts: readonly string[];
  readonly owners: readonly string[];
  readonly transactions: boolean;
  readonly isLast: boolean;
  /** Only with `replace`: the conditions beside the keys above, which are alternatives. */
  readonly conditions?: NamedFilter;
  /** The filter that the conditions are taken from. */
  readonly filter?: NamedFilter;
  /** Only with `conditions`: there is no list of keys, every account is a candidate. */
  readonly isUnkeyed?: boolean;
}

/** One frame, as it must be seen. */
export interface Frame {
  readonly kind: FrameName;
  readonly sequence: number;
  readonly mask: bigint;
  /** Of the mark of an edit. */
  readonly generation: number;
  /** Of an account, transaction, slot, or of the account that left. */
  readonly update: ModelUpdate | undefined;
  /** What travels of an account's data. */
  readonly data: ReadonlyUint8Array;
  readonly isSliced: boolean;
  readonly isClipped: boolean;
  readonly published: Counts;
  /** Of the slot, on this connection. */
  slotLost: Counts;
  /** Since the frame before it in the ring. */
  lost: number;
  conflated: number;
  isPooled: boolean;
}

export interface Counts {
  readonly accounts: number;
  readonly transactions: number;
}
const NOTHING: Counts = { accounts: 0, transactions: 0 };

/** Sequences of updates of one slot. */
interface Sequences {
  readonly accounts: number[];
  readonly transactions: number[];
}

/** How many of them stand before a place in the order. */
export function countBefore(sequences: Sequences | undefined, sequence: number): Counts {
  const before = (list: readonly number[] = []) => list.filter((one) => one < sequence).length;
  return { accounts: before(sequences?.accounts), transactions: before(sequences?.transactions) };
}

/** A frame that was polled: and how many matching updates did not come since the one before. */
export interface Polled {
  readonly frame: Frame;
  readonly lost: number;
  readonly ringBytes: number;
  /** Of a slot frame: what of its slot was skipped in the ring. */
  readonly skipped: Counts;
}

/** What the engine says, after the call at hand, that it has lost of a consumer's updates. */
export type Witness = (id: number) => { readonly lost: number; readonly conflated: number };

interface InRing {
  readonly frame: Frame;
  readonly ordinal: number;
  readonly start: number;
  readonly end: number;
  /** Where its payload lies, if that is in the pool. */
  readonly block: Block | undefined;
}

/** A part of the pool, in use while somebody's unread frames refer to it, or while it is offered. */
interface Block {
  readonly bytes: number;
}

/** What is offered to one consumer after the other; written into the pool for the first that gets it from there. */
interface Payload {
  block: Block | undefined;
}

interface Waiting {
  readonly frame: Frame;
  readonly key: string | undefined;
  readonly size: number;
}

/** One filter of one consumer, from its making to its end. */
class Filter {
  readonly accounts: Set<string>;
  readonly owners: Set<string>;
  takesTransactions: boolean;
  readonly conditions: NamedFilter | undefined;
  readonly isUnkeyed: boolean;
  /** An account can leave it, other than by its key. */
  isTracked = false;
  isInForce = false;

  constructor(readonly consumer: Consumer, readonly bit: number, edit: Edit) {
    this.accounts = new Set(edit.accounts);
    this.owners = new Set(edit.owners);
    this.conditions = edit.conditions;
    this.isUnkeyed = edit.isUnkeyed ?? false;
    this.takesTransactions = edit.transactions || (edit.conditions?.transactions !== undefined && this.isUnkeyed);
    const { accounts } = edit.conditions ?? {};
    if (edit.owners.length > 0 || (accounts !== undefined && accounts !== true && Object.keys(accounts).length > 0)) {
      this.isTracked = true;
    }
  }

  add(edit: Edit): void {
    for (const key of edit.accounts) this.accounts.add(key);
    for (const key of edit.owners) this.owners.add(key);
    if (edit.owners.length > 0) this.isTracked = true;
    if (edit.transactions) this.takesTransactions = true;
  }

  remove(edit: Edit): void {
    for (const key of edit.accounts) this.accounts.delete(key);
    for (const key of edit.owners) this.owners.delete(key);
    if (edit.transactions) this.takesTransactions = false;
  }

  outcome(update: ModelUpdate, isChanged: () => boolean | undefined): "no" | "unchanged" | "yes" {
    if (update.kind === "slot") return "no";
    if (update.kind === "transaction") {
      const isOwn = this.conditions?.transactions !== undefined;
      const isFound = isOwn && !this.isUnkeyed && keysOf(update).some((key) => this.accounts.has(key));
      if (!this.takesTransactions && !isFound) return "no";
      return isOwn ? outcomeOf(this.conditions!, update) : "yes";
    }
    const isFound = this.isUnkeyed || this.accounts.has(keyName(update.pubkey)) ||
      this.owners.has(keyName(update.owner));
    if (!isFound) return "no";
    if (this.conditions === undefined) return "yes";
    return outcomeOf(this.conditions, this.asksForChanges ? { ...update, changed: isChanged() } : update);
  }

  get asksForChanges(): boolean {
    const accounts = this.conditions?.accounts;
    return accounts !== undefined && accounts !== true && accounts.onlyChanged === true;
  }

  slices(): readonly DataSlice[] {
    const accounts = this.conditions?.accounts;
    if (accounts === undefined || accounts === true || accounts.dataSlice === undefined) return [];
    return [accounts.dataSlice].flat() as DataSlice[];
  }
}

class Consumer {
  readonly filters = new Map<number, Filter>();
  staged: Filter | undefined;
  isLive = true;
  // The ring.
  inRing: InRing[] = [];
  produced = 0;
  committed = 0;
  released = 0;
  /** Handed out up to here. */
  polled = 0;
  skipTo = 0;
  skipped = 0;
  /** Updates that were in its ring and that it skipped; those of slots. */
  skippedUpdates = 0;
  readonly skippedOfSlot = new Map<bigint, { accounts: number; transactions: number }>();
  /** What was polled and not released, oldest first: bytes of the ring. */
  readonly held: number[] = [];
  ordinal = 0;
  ordinalPolled = 0;
  /** Of the last frame that was given back. */
  ordinalReleased = 0;
  /** What its ring says at least: what had matched, and the newest slot, when all was committed last. */
  toldOrdinal = 0;
  toldSlot: bigint;
  pendingLost = 0;
  pendingConflated = 0;
  backlog: Waiting[] = [];
  /** What was lost of each slot, in the order in which it was found out. */
  readonly slotLosses = new Map<bigint, Sequences>();
  // Figures.
  matched = 0;
  readonly matchedOfSlot = new Map<bigint, Sequences>();
  frames = 0;
  lost = 0;
  conflated = 0;
  isGapDue = false;
  /** Of the newest edit; and whether its mark has found no room. */
  generation = 0;
  isEditDue = false;
  /** Where it stood when something that may use the reserved room had none, and for how long. */
  stalledAt = -1;
  stalledMs = 0;

  constructor(readonly id: number, readonly options: ConsumerOptions, toldSlot: bigint) {
    this.toldSlot = toldSlot;
  }

  get backlogBytes(): number {
    return this.backlog.reduce((sum, { size }) => sum + size, 0);
  }

  /** Updates that have got a number, or wait for one. */
  get numbered(): number {
    return this.ordinal + this.backlog.filter(({ frame }) => isUpdate(frame)).length;
  }

  get pinned(): number {
    return this.blocks.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** That its unread frames refer to, each as often as they do. */
  get blocks(): Block[] {
    return this.inRing.flatMap(({ block, end }) => block === undefined || end <= this.released ? [] : [block]);
  }

  /** Whether something has to be said that had no room. */
  get isDue(): boolean {
    return this.pendingLost > 0 || this.isEditDue || this.backlog.some(({ frame }) => mayUseReserved(frame));
  }

  get backlogLimit(): number {
    return padded(this.options.backlogBytes, BACKLOG_STEP);
  }
}

/** The sender. */
export class ReferenceFanout {
  readonly consumers = new Map<number, Consumer>();
  readonly events: { readonly id: number; readonly reason: "slow-consumer" }[] = [];
  sequence = 0;
  newestSlot = 0n;
  #toldSlot = 0n;
  readonly counts = { accounts: 0, transactions: 0, slots: 0, lost: 0, conflated: 0, unchanged: 0, stale: 0 };
  readonly #published = new Map<bigint, { accounts: number; transactions: number }>();
  readonly #remembered = new Map<
    string,
    { update: ModelAccount; newest: ModelAccount; filters: Filter[]; isKnown: boolean }
  >();
  /** Accounts were published while nobody looked, since no filter asked for it. */
  #isBlind = false;
  /** What is being offered. */
  readonly #offered = new Set<Payload>();
  /** Blocking consumers that were found to have room in the pool: what others are given meanwhile changes nothing. */
  readonly #promised = new Set<Consumer>();
  /** More filters than the engine remembers of one account matched at once: what leaves is no longer certain. */
  isUncertain = false;

  constructor(readonly options: FanoutOptions) {}

  // Consumers

  add(id: number, options: ConsumerOptions): void {
    this.consumers.set(id, new Consumer(id, options, this.#toldSlot));
  }

  remove(id: number): void {
    this.counts.lost += this.consumers.get(id)!.skippedUpdates;
    this.#silence(this.consumers.get(id)!);
    this.consumers.delete(id);
  }

  #silence(consumer: Consumer): void {
    consumer.isLive = false;
    for (const filter of consumer.filters.values()) filter.isInForce = false;
    consumer.filters.clear();
    consumer.staged = undefined;
  }

  #end(consumer: Consumer): void {
    this.#silence(consumer);
    this.events.push({ id: consumer.id, reason: "slow-consumer" });
  }

  // Filters

  /** Limits are out of reach here, so every edit is accepted. */
  edit(id: number, edit: Edit): void {
    this.#edit(this.consumers.get(id)!, edit);
    if (!this.#isBlind || !this.#isLooking()) return;
    // What the accounts are now, nobody knows.
    for (const record of this.#remembered.values()) record.isKnown = false;
    this.#isBlind = false;
  }

  /** Whether a filter, in force or being made, asks what became of accounts. */
  #isLooking(): boolean {
    return [...this.consumers.values()].some(({ filters, staged }) =>
      staged?.isTracked === true || [...filters.values()].some(({ isTracked }) => isTracked)
    );
  }

  /** Whether a filter asks for changes only: else nobody looks at contents. */
  #asksForChanges(): boolean {
    return [...this.consumers.values()].some(({ filters, staged }) =>
      staged?.asksForChanges === true || [...filters.values()].some(({ asksForChanges }) => asksForChanges)
    );
  }

  #edit(consumer: Consumer, edit: Edit): void {
    const filter = consumer.filters.get(edit.bit);
    switch (edit.op) {
      case "add":
        if (consumer.staged?.bit === edit.bit) {
          consumer.staged.add(edit);
          if (edit.isLast) this.#putInForce(consumer, consumer.staged);
        } else if (filter !== undefined) filter.add(edit);
        else this.#putInForce(consumer, new Filter(consumer, edit.bit, edit));
        break;
      case "remove":
        filter?.remove(edit);
        break;
      case "replace":
        consumer.staged = new Filter(consumer, edit.bit, edit);
        if (edit.isLast) this.#putInForce(consumer, consumer.staged);
        break;
      case "drop":
        if (consumer.staged?.bit === edit.bit) consumer.staged = undefined;
        if (filter !== undefined) filter.isInForce = false;
        consumer.filters.delete(edit.bit);
    }
  }

  #putInForce(consumer: Consumer, filter: Filter): void {
    const before = consumer.filters.get(filter.bit);
    if (before !== undefined) before.isInForce = false;
    consumer.filters.set(filter.bit, filter);
    if (consumer.staged === filter) consumer.staged = undefined;
    filter.isInForce = true;
  }

  /** What all filters in force want: each key with a letter for what, and "*" for all. */
  demand(): string[] {
    const wanted = new Set<string>();
    for (const { filters } of this.consumers.values()) {
      for (const { conditions, accounts, owners, isUnkeyed, takesTransactions } of filters.values()) {
        if (takesTransactions) wanted.add("transactions *");
        if (conditions?.slots !== undefined) continue;
        const isTransactions = conditions?.transactions !== undefined;
        for (const key of accounts) wanted.add(`${isTransactions ? "transactions" : "accounts"} ${key}`);
        if (isTransactions) continue;
        for (const key of owners) wanted.add(`owners ${key}`);
        if (isUnkeyed) wanted.add("accounts *");
      }
    }
    return [...wanted].sort();
  }

  // Publishing

  /** How many consumers got it into their rings; "blocked": nobody did, and it has no place in the order. */
  publish(update: ModelUpdate, isBatch: boolean, witness: Witness): number | "blocked" {
    const record = update.kind === "account" ? this.#remembered.get(keyName(update.pubkey)) : undefined;
    const isChanged = () => {
      if (record?.isKnown !== true || update.kind !== "account") return undefined;
      return !hasSameContent(record.update, update);
    };
    // Who wants it, and which filters match it but for its being no change: they get nothing, and it does not leave them.
    const wanted = new Map<Consumer, Filter[]>();
    const unchanged: Filter[] = [];
    for (const consumer of this.consumers.values()) {
      if (!consumer.isLive) continue;
      if (update.kind === "slot") {
        // Filters for slots, if there are any, stand in place of the statuses.
        const asking = [...consumer.filters.values()].filter(({ conditions }) => conditions?.slots !== undefined);
        const matching = asking.filter(({ conditions }) => outcomeOf(conditions!, update) === "yes");
        const isWanted = asking.length === 0 ? consumer.options.statuses.includes(update.status) : matching.length > 0;
        if (isWanted) wanted.set(consumer, matching);
        continue;
      }
      for (const filter of consumer.filters.values()) {
        const outcome = filter.outcome(update, isChanged);
        if (outcome === "unchanged") unchanged.push(filter);
        if (outcome !== "yes") continue;
        wanted.set(consumer, [...wanted.get(consumer) ?? [], filter]);
      }
    }
    // Whom it has left.
    const matched = [...[...wanted.values()].flat(), ...unchanged];
    const left = new Map<Consumer, Filter[]>();
    const isGuarded = this.options.guard !== "off" && wanted.size > 0;
    const isCompared = this.options.isTracking && update.kind === "account" && (isGuarded || this.#isLooking());
    if (!isCompared && update.kind === "account") this.#isBlind = true;
    for (const filter of isCompared ? record?.filters ?? [] : []) {
      if (!filter.isInForce || matched.includes(filter)) continue;
      left.set(filter.consumer, [...left.get(filter.consumer) ?? [], filter]);
    }
    // Whether it is older than what was published before.
    const isStale = isCompared && this.options.guard !== "off" && record !== undefined &&
      isOlder(update, record.newest);
    if (isStale && this.options.guard === "drop") {
      this.counts.stale += 1;
      if (!isBatch) this.commit();
      return 0;
    }
    // Whether everybody who is waited for has room.
    const offers: Offer[] = [];
    for (const [consumer, filters] of wanted) {
      offers.push({ consumer, frame: this.#frame(update, filters), isLeft: false });
    }
    for (const [consumer, filters] of left) {
      const frame = { ...this.#frame(update, filters), kind: "left" as const, data: new Uint8Array(0) };
      offers.push({ consumer, frame: { ...frame, isSliced: false, isClipped: false }, isLeft: true });
    }
    if (this.#isBlocked(offers)) {
      this.commit();
      return "blocked";
    }
    // Its place in the order.
    if (isStale) this.counts.stale += 1;
    this.counts.unchanged += unchanged.length;
    this.sequence += 1;
    if (update.slot > this.newestSlot) this.newestSlot = update.slot;
    if (update.kind === "slot") this.counts.slots += 1;
    else {
      const counts = at(this.#published, update.slot);
      counts[`${update.kind}s`] += 1;
      this.counts[`${update.kind}s`] += 1;
    }
    if (isCompared) this.#remember(update, matched, record, isStale, isGuarded);

    let reached = 0;
    using payload = this.#offering();
    for (const { consumer, frame, isLeft } of offers) {
      if (!consumer.isLive) continue; // the frame before has ended it
      consumer.matched += 1;
      if (update.kind !== "slot" && !isLeft) {
        sequencesAt(consumer.matchedOfSlot, update.slot)[`${update.kind}s`].push(frame.sequence);
      }
      if (this.#deliver(consumer, frame, witness, payload) && !isLeft) reached += 1;
    }
    if (!isBatch) this.commit();
    return reached;
  }

  #remember(
    update: ModelAccount,
    matched: Filter[],
    record: { newest: ModelAccount } | undefined,
    isStale: boolean,
    isGuarded: boolean,
  ): void {
    const filters = matched.filter(({ isTracked }) => isTracked);
    if (filters.length > 8) this.isUncertain = true;
    if (record === undefined && filters.length === 0 && !isGuarded) return;
    const newest = isStale ? record!.newest : update;
    const isKnown = this.#asksForChanges() && !isStale;
    this.#remembered.set(keyName(update.pubkey), { update, newest, filters, isKnown });
  }

  #frame(update: ModelUpdate, filters: readonly Filter[]): Frame {
    const mask = filters.length === 0 ? MASK_ALL : filters.reduce((bits, { bit }) => bits | 1n << BigInt(bit), 0n);
    const common = {
      kind: update.kind,
      sequence: this.sequence + 1,
      generation: 0,
      mask,
      update,
      slotLost: NOTHING,
      lost: 0,
      conflated: 0,
      isPooled: false,
    };
    const published = update.kind === "slot" ? { ...at(this.#published, update.slot) } : NOTHING;
    if (update.kind !== "account") {
      return { ...common, data: new Uint8Array(0), isSliced: false, isClipped: false, published };
    }
    const asked = filters.map((filter) => filter.slices());
    const isSliced = asked[0] !== undefined && asked[0].length > 0 &&
      asked.every((other) => sameSlices(other, asked[0]!));
    if (!isSliced) return { ...common, data: update.data, isSliced, isClipped: false, published };
    const { data, clipped } = slicesOf({ accounts: { dataSlice: asked[0]! } }, update.data);
    return { ...common, data, isSliced, isClipped: clipped, published };
  }

  /** Of those that have left, and of those that are here. */
  get lostInAll(): number {
    return [...this.consumers.values()].reduce((sum, { skippedUpdates }) => sum + skippedUpdates, this.counts.lost);
  }

  /** Those that anything was published of. */
  slots(): bigint[] {
    return [...this.#published.keys()];
  }

  // Rings

  /** One offer after the other into a ring nobody else may move: is there room for all of them? */
  #isBlocked(offers: readonly Offer[]): boolean {
    const used = new Map<Consumer, number>();
    const pinned = new Map<Consumer, number>();
    let isBlocked = false;
    this.#promised.clear();
    for (const { consumer, frame } of offers) {
      if (this.#policyOf(consumer, frame) !== "block") continue;
      const tail = tailSize(frame);
      const isWanted = this.#isPooled(consumer, frame);
      const hasShare = !isWanted || this.#hasShare(consumer, tail, undefined);
      const isPooled = isWanted && hasShare && this.#hasBlock(tail);
      if (isPooled) this.#promised.add(consumer);
      const size = padded(headSize(frame) + (isPooled ? 0 : tail));
      if (size > limitOf(consumer, frame)) {
        // It never fits: lost, and no reason to wait; but if it has had its share, the pool takes it later.
        if (!hasShare) isBlocked = true;
        continue;
      }
      // The mark of an edit goes before the update.
      const due = consumer.isEditDue ? padded(HEADER + BODY.filter) : 0;
      const before = used.get(consumer) ?? consumer.produced - consumer.released + due;
      const held = pinned.get(consumer) ?? consumer.pinned;
      if (isWanted && held > 0 && held + tail > consumer.options.poolBytes) isBlocked = true;
      if (before + size > limitOf(consumer, frame)) isBlocked = true;
      used.set(consumer, before + size);
      if (isPooled) pinned.set(consumer, held + padded(tail, POOL_STEP));
    }
    return isBlocked;
  }

  #policyOf(consumer: Consumer, frame: Frame): Policy {
    return frame.kind === "transaction" ? consumer.options.transactionPolicy : consumer.options.policy;
  }

  #isPooled(consumer: Consumer, frame: Frame): boolean {
    return consumer.options.poolBytes > 0 && !frame.isSliced && tailSize(frame) >= this.options.poolThreshold;
  }

  #offering(): Payload & Disposable {
    const payload = { block: undefined, [Symbol.dispose]: () => void this.#offered.delete(payload) };
    this.#offered.add(payload);
    return payload;
  }

  /** Of the whole pool, each block once. */
  get #poolUsed(): number {
    const blocks = new Set([...this.consumers.values()].flatMap(({ blocks }) => blocks));
    for (const { block } of this.#offered) if (block !== undefined) blocks.add(block);
    return [...blocks].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #hasBlock(size: number): boolean {
    return this.#poolUsed + padded(size, POOL_STEP) <= this.options.poolBytes;
  }

  /** Who has unread payloads in the pool may have one more if as much as it then has stays free. */
  #hasShare({ pinned }: Consumer, size: number, block: Block | undefined): boolean {
    const used = this.#poolUsed + (block === undefined ? size : 0);
    return pinned === 0 || pinned + size <= this.options.poolBytes - used;
  }

  #offer(
    consumer: Consumer,
    frame: Frame,
    isWanted: boolean,
    payload: Payload,
    isPromised = false,
  ): "taken" | "full" | "too large" {
    const { pinned, options } = consumer;
    const tail = tailSize(frame);
    if (isWanted && pinned > 0 && pinned + tail > options.poolBytes) return "full";
    const hasShare = !isWanted || isPromised || this.#hasShare(consumer, tail, payload.block);
    if (isWanted && hasShare && payload.block === undefined && this.#hasBlock(tail)) {
      payload.block = { bytes: padded(tail, POOL_STEP) };
    }
    const block = isWanted && hasShare ? payload.block : undefined;
    const isPooled = block !== undefined;
    const size = padded(headSize(frame) + (isPooled ? 0 : tail));
    if (size > limitOf(consumer, frame)) return hasShare ? "too large" : "full";
    if (consumer.produced - consumer.released + size > limitOf(consumer, frame)) return "full";
    if (isUpdate(frame)) consumer.ordinal += 1;
    // Of what was lost by now, what stands before it: others may have been lost behind it while it has waited.
    const losses = frame.kind === "slot" ? consumer.slotLosses.get((frame.update as SlotUpdate).slot) : undefined;
    consumer.inRing.push({
      frame: {
        ...frame,
        lost: consumer.pendingLost,
        conflated: consumer.pendingConflated,
        slotLost: countBefore(losses, frame.sequence),
        isPooled,
      },
      ordinal: consumer.ordinal,
      start: consumer.produced,
      end: consumer.produced + size,
      block,
    });
    consumer.produced += size;
    consumer.pendingLost = 0;
    consumer.pendingConflated = 0;
    consumer.isGapDue = false;
    return "taken";
  }

  /** Whether it is in the ring. */
  #deliver(consumer: Consumer, frame: Frame, witness: Witness, payload: Payload): boolean {
    if (consumer.isEditDue) this.#sayEdit(consumer, this.sequence - 1);
    if (consumer.backlog.length > 0 && !this.flush(consumer.id)) {
      this.#wait(consumer, frame, witness);
      return false;
    }
    const isPooled = this.#isPooled(consumer, frame);
    const outcome = this.#offer(consumer, frame, isPooled, payload, this.#promised.has(consumer));
    if (outcome === "taken") {
      consumer.frames += 1;
      return true;
    }
    if (outcome === "too large") {
      this.#lose(consumer, frame, false);
      this.#sayGap(consumer);
      return false;
    }
    consumer.committed = consumer.produced;
    switch (this.#policyOf(consumer, frame)) {
      case "drop-newest":
        this.#lose(consumer, frame, false);
        break;
      case "drop-oldest":
      case "conflate":
        this.#wait(consumer, frame, witness);
        break;
      case "disconnect":
      case "block":
        this.#lose(consumer, frame, false);
        this.#end(consumer);
    }
    return false;
  }

  #wait(consumer: Consumer, frame: Frame, witness: Witness): void {
    const policy = this.#policyOf(consumer, frame);
    if (policy === "disconnect") {
      this.#lose(consumer, frame, false);
      return this.#end(consumer);
    }
    if (policy === "drop-newest") return this.#lose(consumer, frame, false);
    const { options } = consumer;
    // What another policy cares for does not go with the rest.
    const dropsOldest = options.policy === "drop-oldest" && options.transactionPolicy === "drop-oldest";
    if (dropsOldest) consumer.skipTo = consumer.committed;
    const size = padded(WAITING + headSize(frame) + tailSize(frame));
    const limit = consumer.backlogLimit;
    if (size > limit) return this.#lose(consumer, frame, false);
    const free = () => limit - consumer.backlogBytes;
    /** Must it fit? May it? Between the two, the engine decides. */
    const must = () => free() >= size + limit / 4;
    const may = () => free() >= size;
    const key = policy === "conflate" && frame.kind === "account"
      ? keyName((frame.update as AccountUpdate).pubkey)
      : undefined;
    if (dropsOldest) {
      while (consumer.backlog.length > 0 && !must()) {
        if (may() && witness(consumer.id).lost <= consumer.lost) break;
        const { frame: oldest } = consumer.backlog.shift()!;
        this.#lose(consumer, oldest, false);
      }
    } else if (!must()) {
      const said = witness(consumer.id);
      const isRefused = said.lost > consumer.lost && said.conflated === consumer.conflated;
      if (!may() || isRefused) return this.#lose(consumer, frame, false);
    }
    if (key !== undefined) {
      const older = consumer.backlog.findIndex((waiting) => waiting.key === key);
      if (older >= 0) {
        this.#lose(consumer, consumer.backlog[older]!.frame, true);
        consumer.backlog.splice(older, 1);
      }
    }
    consumer.backlog.push({ frame, key, size });
    this.flush(consumer.id);
  }

  /** Whether nothing waits any longer. */
  flush(id: number): boolean {
    const consumer = this.consumers.get(id)!;
    while (consumer.backlog.length > 0 && consumer.isLive) {
      const { frame } = consumer.backlog[0]!;
      using payload = this.#offering();
      const outcome = this.#offer(consumer, frame, this.#isPooled(consumer, frame), payload);
      if (outcome === "full") {
        consumer.committed = consumer.produced;
        return false;
      }
      consumer.backlog.shift();
      if (outcome === "too large") this.#lose(consumer, frame, false);
      else if (isUpdate(frame)) consumer.frames += 1;
    }
    return true;
  }

  /** When the consumer has said that there is room. */
  flushAwaited(id: number): boolean {
    const isEmpty = this.flush(id);
    const consumer = this.consumers.get(id)!;
    if (consumer.isLive) this.#sayDue(consumer);
    return isEmpty;
  }

  /** What has to be done now and then. Shows what was staged: who did so may be gone. */
  sweep(elapsedMs: number): void {
    this.commit();
    for (const consumer of this.consumers.values()) {
      if (!consumer.isLive) continue;
      this.#sayDue(consumer);
      if (!consumer.isDue) consumer.stalledAt = -1;
      else if (consumer.stalledAt !== consumer.released) {
        consumer.stalledAt = consumer.released;
        consumer.stalledMs = 0;
      } else {
        consumer.stalledMs += elapsedMs;
        if (consumer.stalledMs >= this.options.stallMs) this.#end(consumer);
      }
    }
  }

  #sayDue(consumer: Consumer): void {
    if (consumer.isEditDue) this.#sayEdit(consumer, this.sequence);
    this.#sayGap(consumer);
  }

  /** The newest edit's mark says all that those of older ones would have. */
  #sayEdit(consumer: Consumer, sequence: number): void {
    if (this.#putMark(consumer, "filter", sequence) === "taken") consumer.committed = consumer.produced;
  }

  /** Losses that no frame has said are said by one of their own, if there is room. */
  #sayGap(consumer: Consumer): void {
    if (consumer.pendingLost > 0) this.mark(consumer.id, "gap");
  }

  #lose(consumer: Consumer, frame: Frame, isConflated: boolean): void {
    consumer.ordinal += 1;
    consumer.lost += 1;
    consumer.pendingLost += 1;
    consumer.isGapDue = true;
    this.counts.lost += 1;
    if (isConflated) {
      consumer.conflated += 1;
      consumer.pendingConflated += 1;
      this.counts.conflated += 1;
    }
    if (frame.kind === "account" || frame.kind === "transaction") {
      sequencesAt(consumer.slotLosses, frame.update!.slot)[`${frame.kind}s`].push(frame.sequence);
    }
  }

  commit(): void {
    this.#toldSlot = this.newestSlot;
    for (const consumer of this.consumers.values()) {
      if (!consumer.isLive) continue;
      consumer.committed = consumer.produced;
      consumer.toldOrdinal = consumer.numbered;
      consumer.toldSlot = this.newestSlot;
    }
  }

  /** A mark behind all frames. That of an edit, with its `generation`, comes later if there is no room. */
  mark(id: number, kind: "gap" | "filter" | "goodbye", generation = 0): "taken" | "full" {
    const consumer = this.consumers.get(id)!;
    if (kind === "filter") consumer.generation = generation;
    const outcome = this.#putMark(consumer, kind, this.sequence);
    if (outcome === "taken") consumer.committed = consumer.produced;
    else if (kind === "filter") consumer.isEditDue = true;
    return outcome;
  }

  /** Behind what waits, the mark of an edit waits, too. Backlogs are large where there are such marks: it fits, or nothing does. */
  #putMark(consumer: Consumer, kind: "gap" | "filter" | "goodbye", sequence: number): "taken" | "full" {
    const frame: Frame = {
      kind,
      sequence,
      generation: kind === "filter" ? consumer.generation : 0,
      mask: MASK_ALL,
      update: undefined,
      data: new Uint8Array(0),
      isSliced: false,
      isClipped: false,
      published: NOTHING,
      slotLost: NOTHING,
      lost: 0,
      conflated: 0,
      isPooled: false,
    };
    if (consumer.backlog.length > 0) {
      const size = padded(WAITING + headSize(frame));
      if (kind !== "filter" || consumer.backlogBytes + size > consumer.backlogLimit) return "full";
      consumer.backlog.push({ frame, key: undefined, size });
    } else if (this.#offer(consumer, frame, false, { block: undefined }) !== "taken") return "full";
    if (kind === "filter") consumer.isEditDue = false;
    return "taken";
  }

  // The other end

  /** What a consumer is shown next. */
  poll(id: number, count: number): Polled[] {
    const consumer = this.consumers.get(id)!;
    const polled: Polled[] = [];
    for (const inRing of consumer.inRing) {
      const { frame, ordinal, start, end } = inRing;
      if (start < consumer.polled) continue;
      if (end > consumer.committed || polled.length === count) break;
      if (this.#skip(consumer, inRing)) continue;
      const lost = ordinal - consumer.ordinalPolled - (isUpdate(frame) ? 1 : 0);
      const ofSlot = frame.kind === "slot" ? consumer.skippedOfSlot.get(frame.update!.slot) : undefined;
      polled.push({
        frame,
        lost,
        ringBytes: end - start + consumer.skipped,
        skipped: { ...ofSlot ?? NOTHING },
      });
      consumer.held.push(end - start + consumer.skipped);
      consumer.skipped = 0;
      consumer.polled = end;
      consumer.ordinalPolled = ordinal;
    }
    if (polled.length === 0 && consumer.skipped > 0 && consumer.held.length === 0) {
      this.#giveBack(consumer, consumer.skipped);
      consumer.skipped = 0;
    }
    return polled;
  }

  /** What is stale is lost; marks, but for gaps, are told of all the same. */
  #skip(consumer: Consumer, { frame, end }: InRing): boolean {
    if (end > consumer.skipTo || (!isUpdate(frame) && frame.kind !== "gap")) return false;
    if (isUpdate(frame)) consumer.skippedUpdates += 1;
    if (frame.kind === "account" || frame.kind === "transaction") {
      at(consumer.skippedOfSlot, frame.update!.slot)[`${frame.kind}s`] += 1;
    }
    consumer.skipped += end - consumer.polled;
    consumer.polled = end;
    return true;
  }

  /** Gives the oldest of what was polled back. @returns How many bytes that is. */
  release(id: number, count: number): number {
    const consumer = this.consumers.get(id)!;
    const size = consumer.held.splice(0, count).reduce((sum, bytes) => sum + bytes, 0);
    this.#giveBack(consumer, size);
    return size;
  }

  #giveBack(consumer: Consumer, size: number): void {
    consumer.released += size;
    const given = consumer.inRing.findLast(({ end }) => end <= consumer.released);
    if (given !== undefined) consumer.ordinalReleased = given.ordinal;
    consumer.inRing = consumer.inRing.filter(({ end }) => end > consumer.released);
  }
}

interface Offer {
  readonly consumer: Consumer;
  readonly frame: Frame;
  readonly isLeft: boolean;
}

function isUpdate({ kind }: Frame): boolean {
  return kind === "account" || kind === "transaction" || kind === "slot" || kind === "left";
}

function headSize({ kind, update }: Frame): number {
  const signature = kind === "account" && (update as AccountUpdate).signature !== undefined ? SIGNATURE : 0;
  return HEADER + BODY[kind] + signature;
}

function tailSize({ kind, update, data }: Frame): number {
  if (kind !== "transaction") return data.length;
  const { message, loadedAddresses, meta } = update as TransactionUpdate;
  const loaded = (loadedAddresses?.writable.length ?? 0) + (loadedAddresses?.readonly.length ?? 0);
  if (meta === undefined && loaded === 0) return message.length;
  return padded(message.length) + 32 * loaded + (meta?.length ?? 0);
}

/** Data leave the reserved room alone. */
function mayUseReserved({ kind }: Frame): boolean {
  return kind !== "account" && kind !== "transaction" && kind !== "left";
}

function limitOf({ options }: Consumer, frame: Frame): number {
  return mayUseReserved(frame) ? options.capacity : options.capacity - options.reserved;
}

function isOlder(a: ModelAccount, b: ModelAccount): boolean {
  const version = (update: ModelAccount) => [
    BigInt(update.sourceEpoch ?? 0),
    update.slot,
    update.bankId ?? 0n,
    update.writeVersion ?? 0n,
  ];
  const [left, right] = [version(a), version(b)];
  const first = left.findIndex((value, i) => value !== right[i]);
  return first >= 0 && left[first]! < right[first]!;
}

function hasSameContent(a: AccountUpdate, b: AccountUpdate): boolean {
  return keyName(a.owner) === keyName(b.owner) && a.lamports === b.lamports &&
    (a.rentEpoch ?? MASK_ALL) === (b.rentEpoch ?? MASK_ALL) && (a.executable ?? false) === (b.executable ?? false) &&
    sameBytes(a.data, b.data);
}

function sameBytes(a: ReadonlyUint8Array, b: ReadonlyUint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function sameSlices(a: readonly DataSlice[], b: readonly DataSlice[]): boolean {
  return a.length === b.length &&
    a.every(({ offset, length }, i) => offset === b[i]!.offset && length === b[i]!.length);
}

function at(map: Map<bigint, { accounts: number; transactions: number }>, slot: bigint) {
  let counts = map.get(slot);
  if (counts === undefined) map.set(slot, counts = { accounts: 0, transactions: 0 });
  return counts;
}

function sequencesAt(map: Map<bigint, Sequences>, slot: bigint): Sequences {
  let sequences = map.get(slot);
  if (sequences === undefined) map.set(slot, sequences = { accounts: [], transactions: [] });
  return sequences;
}

const namedKeys = new WeakMap<object, readonly string[]>();

/** The keys that a transaction names. */
function keysOf(update: TransactionUpdate): readonly string[] {
  let keys = namedKeys.get(update);
  if (keys === undefined) namedKeys.set(update, keys = transactionKeys(update).map(keyName));
  return keys;
}

const names = new WeakMap<object, string>();

/** Equal bytes, equal text. */
export function keyName(key: AccountUpdate["pubkey"]): string {
  if (typeof key === "string") return key;
  let name = names.get(key);
  if (name === undefined) names.set(key, name = Array.from({ length: key.length }, (_, i) => key[i]).join());
  return name;
}
