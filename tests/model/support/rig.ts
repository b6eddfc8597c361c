/**
 * A native fan-out with its consumers in this process, and the reference beside it: each step is done to both, and all
 * that can be seen is compared.
 * May touch: the native library's symbols, and the reference. May not touch: src/stream.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  AccountBody,
  DEMAND_ACCOUNTS,
  DEMAND_TRANSACTIONS,
  DemandHead,
  DemandRecord,
  EndReason,
  FANOUT_EVENT_FLAG,
  FANOUT_WORK_FLAG,
  FanoutConsumer,
  FanoutConsumerInfo,
  FanoutInfo,
  FanoutOptions,
  FilterBody,
  FilterMarkBody,
  FilterOp,
  FRAME_FLAG_CLIPPED,
  FRAME_FLAG_EXECUTABLE,
  FRAME_FLAG_FAILED,
  FRAME_FLAG_LOSSY,
  FRAME_FLAG_META,
  FRAME_FLAG_SIGNATURE,
  FRAME_FLAG_SLICED,
  FRAME_FLAG_STARTUP,
  FRAME_FLAG_VOTE,
  FrameHeader,
  FrameKind,
  LeftBody,
  PART_SIZE,
  Policy,
  PollRecord,
  RingInfo,
  SlotBody,
  Status,
  TransactionBody,
} from "../../../src/native/abi.generated.ts";
import { load } from "../../../src/native/load.ts";
import { lossesOf, totalOf } from "../../../src/stream/losses.ts";
import { type ReadonlyUint8Array, SLOT_STATUSES } from "../../../src/types.ts";
import { FrameEncoder } from "../../../src/wire/encoder.ts";
import { encodeFilter, type NamedFilter } from "../../../src/wire/filters.ts";
import { close, drainSocket, Mapping } from "../../support/libc.ts";
import {
  type ConsumerOptions,
  countBefore,
  type Edit,
  type Frame,
  type FrameName,
  keyName,
  type ModelAccount,
  type ModelUpdate,
  type Polled,
  ReferenceFanout,
} from "../../support/reference_fanout.ts";

export const native = await load();
const encoder = new FrameEncoder();
const KINDS: Readonly<Record<FrameName, number>> = FrameKind;
const POLICIES = {
  disconnect: Policy.disconnect,
  "drop-newest": Policy.dropNewest,
  "drop-oldest": Policy.dropOldest,
  conflate: Policy.conflate,
  block: Policy.block,
} as const;
const GUARDS = { off: 0, count: 1, drop: 2 } as const;
const FANOUT_SEED = Uint8Array.from({ length: 16 }, (_, i) => 7 * i + 1);
const CONNECTION_ID = 1;
const ANY_UID = 0xffffffff;
const RECORDS_MAX = 64;
const STALL_MS = 10_000;
/** No schedule fills that. */
export const BACKLOG_LARGE: number = 16 << 20;

/** How a rig is made. */
export interface RigOptions {
  readonly isTracking: boolean;
  readonly guard: "off" | "count" | "drop";
  /** 0: there is no pool. */
  readonly poolBytes: number;
  readonly poolThreshold: number;
  /** Consumers whose cursors a test may overwrite. */
  readonly isHostile?: boolean;
}

/** A named filter as an edit: what of it stands in the index, and what does not. */
export function editFromFilter(bit: number, filter: NamedFilter, isLast = true): Edit {
  const common = {
    op: "replace",
    bit,
    transactions: false,
    isLast,
    accounts: [],
    owners: [],
    isUnkeyed: false,
    filter,
  } as const;
  if (typeof filter.transactions === "object") {
    const { accountInclude, accountRequired = [], ...others } = filter.transactions;
    const [first, ...more] = [...accountRequired].map(keyName);
    if (accountInclude !== undefined) {
      return {
        ...common,
        accounts: [...accountInclude].map(keyName),
        conditions: { transactions: { ...others, accountRequired } },
      };
    }
    if (first !== undefined) {
      const rest = [...accountRequired].filter((key) => more.includes(keyName(key)) && keyName(key) !== first);
      return { ...common, accounts: [first], conditions: { transactions: { ...others, accountRequired: rest } } };
    }
  }
  if (filter.accounts === undefined) return { ...common, conditions: filter, isUnkeyed: true };
  if (filter.accounts === true) return { ...common, conditions: filter, isUnkeyed: true };
  const { accounts, owners, ...others } = filter.accounts;
  if (accounts !== undefined) {
    const rest = owners === undefined ? others : { ...others, owners };
    return { ...common, accounts: [...accounts].map(keyName), conditions: { accounts: rest } };
  }
  if (owners !== undefined) return { ...common, owners: [...owners].map(keyName), conditions: { accounts: others } };
  return { ...common, conditions: { accounts: others }, isUnkeyed: true };
}

const bytesOfKeys = (names: readonly string[]) => names.map((name) => Uint8Array.from(name.split(","), Number));

/** The message that asks for an edit. */
export function encodeEdit(edit: Edit): Uint8Array<ArrayBuffer> {
  const program = edit.filter === undefined ? new Uint8Array(0) : encodeFilter(edit.filter, "model").program;
  const keys = [...bytesOfKeys(edit.accounts), ...bytesOfKeys(edit.owners)];
  const bytes = new Uint8Array(FilterBody.size + 32 * keys.length + program.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(FilterBody.op, FilterOp[edit.op]);
  view.setUint8(FilterBody.bit, edit.bit);
  view.setUint8(FilterBody.transactions, edit.transactions ? 1 : 0);
  view.setUint8(FilterBody.isLast, edit.isLast ? 1 : 0);
  view.setUint32(FilterBody.accountCount, edit.accounts.length, true);
  view.setUint32(FilterBody.ownerCount, edit.owners.length, true);
  view.setUint32(FilterBody.programLength, program.length, true);
  keys.forEach((key, i) => bytes.set(key, FilterBody.size + 32 * i));
  bytes.set(program, FilterBody.size + 32 * keys.length);
  return bytes;
}

const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 } as const;

/** Leaves the frame in the encoder. */
function encode(update: ModelUpdate): FrameEncoder {
  if (update.kind === "account") encoder.account(update);
  else if (update.kind === "transaction") encoder.transaction(update);
  else encoder.slot(update, NO_COUNTS);
  return encoder;
}

interface Peer {
  readonly ring: number;
  readonly end: number;
  readonly options: ConsumerOptions;
  readonly memory: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly page: Mapping | undefined;
  /** Its cursor is its own: nothing is known about it any more. */
  isHostile: boolean;
  /** ... and it may be where it says. */
  isPlausible: boolean;
  lastSequence: number;
  /** Counted by its frames alone: updates that came, and those that the frames said were lost. */
  delivered: number;
  saidLost: number;
  readonly deliveredOfSlot: Map<bigint, { accounts: number; transactions: number }>;
}

const infoBytes = new Uint8Array(FanoutInfo.size);
const infoView = new DataView(infoBytes.buffer);
const consumerInfoBytes = new Uint8Array(FanoutConsumerInfo.size);
const ringInfo = new Float64Array(RingInfo.size / 8);
const consumerInfoView = new DataView(consumerInfoBytes.buffer);
const records = new Uint32Array(RECORDS_MAX * PollRecord.size / 4);
const recordsView = new DataView(records.buffer);

function ok(code: number, what: string): number {
  assert.ok(code >= 0, `${what}: ${code}`);
  return code;
}

export class Rig implements Disposable {
  readonly model: ReferenceFanout;
  readonly peers = new Map<number, Peer>();
  readonly #fanout: number;
  readonly #wake: { readonly handle: number; readonly fd: number };
  readonly #options: RigOptions;
  /** Of the newest mark of an edit. */
  #generation = 0;
  /** What the engine has told of the demand, by its differences. */
  readonly #told = new Set<string>();
  /** How often each thing happened, over all schedules: that none is never tried. */
  static readonly seen: Record<string, number> = {};

  constructor(options: RigOptions) {
    this.#options = options;
    this.model = new ReferenceFanout({
      isTracking: options.isTracking,
      guard: options.guard,
      poolThreshold: options.poolBytes > 0 ? options.poolThreshold : Infinity,
      poolBytes: options.poolBytes,
      stallMs: STALL_MS,
    });
    const bytes = new Uint8Array(FanoutOptions.size);
    const view = new DataView(bytes.buffer);
    bytes.set(FANOUT_SEED, FanoutOptions.seed);
    view.setUint32(FanoutOptions.keysMax, 10_000, true);
    // Of all its filters together: what the largest schedule asks for. The model knows no limits; zig/engine_test/edits.zig does.
    view.setUint32(FanoutOptions.keysPerConsumerMax, 10_000, true);
    view.setUint32(FanoutOptions.poolBytes, options.poolBytes, true);
    view.setUint32(FanoutOptions.poolThreshold, options.poolThreshold, true);
    view.setUint32(FanoutOptions.trackedMax, options.isTracking ? 1000 : 0, true);
    view.setUint32(FanoutOptions.guard, GUARDS[options.guard], true);
    view.setUint32(FanoutOptions.stallMs, STALL_MS, true);
    this.#fanout = ok(native.fanoutCreate(bytes), "fanoutCreate");
    ok(native.fanoutDemandStart(this.#fanout), "fanoutDemandStart");
    const pair = new Int32Array(2);
    ok(native.wakeCreate(pair), "wakeCreate");
    this.#wake = { fd: pair[0]!, handle: ok(native.wakeOpen(pair[1]!), "wakeOpen") };
  }

  get fanout(): number {
    return this.#fanout;
  }

  [Symbol.dispose](): void {
    for (const id of [...this.peers.keys()]) this.#close(id);
    native.close(this.#fanout);
    native.close(this.#wake.handle);
    close(this.#wake.fd);
  }

  static saw(what: string): void {
    Rig.seen[what] = (Rig.seen[what] ?? 0) + 1;
  }

  // Consumers

  connect(options: ConsumerOptions): number {
    const passed = new Int32Array(2);
    const { capacity } = options;
    const ring = ok(
      native.ringCreate(capacity, options.reserved, CONNECTION_ID, FANOUT_SEED, passed),
      "ringCreate",
    );
    const page = this.#options.isHostile === true ? new Mapping(passed[1]!, PART_SIZE) : undefined;
    const { poolBytes } = this.#options;
    const poolFd = poolBytes > 0 ? ok(native.fanoutPoolFd(this.#fanout), "fanoutPoolFd") : -1;
    const end = ok(native.ringJoin(passed[0]!, passed[1]!, poolFd, capacity, poolBytes, ANY_UID), "ringJoin");
    ok(native.ringAttach(end, this.#wake.handle), "ringAttach");
    const bytes = new Uint8Array(FanoutConsumer.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(FanoutConsumer.policy, POLICIES[options.policy], true);
    view.setUint32(FanoutConsumer.transactionPolicy, POLICIES[options.transactionPolicy], true);
    const statuses = options.statuses.reduce((bits, status) => bits | 1 << SLOT_STATUSES.indexOf(status), 0);
    view.setUint32(FanoutConsumer.statuses, statuses, true);
    view.setUint32(FanoutConsumer.backlogBytes, options.backlogBytes, true);
    view.setUint32(FanoutConsumer.poolBytes, options.poolBytes, true);
    const id = ok(native.fanoutAdd(this.#fanout, ring, bytes), "fanoutAdd");
    const memory = native.memory(native.ringAddress(end), 2 * capacity + poolBytes);
    this.peers.set(id, {
      ring,
      end,
      options,
      memory,
      bytes: new Uint8Array(memory),
      view: new DataView(memory),
      page,
      isHostile: false,
      isPlausible: false,
      lastSequence: 0,
      delivered: 0,
      saidLost: 0,
      deliveredOfSlot: new Map(),
    });
    this.model.add(id, options);
    return id;
  }

  /** It is gone, with all that it has not read. */
  kill(id: number, isGone: boolean): void {
    Rig.saw("kill");
    ok(native.fanoutRemove(this.#fanout, id, isGone ? 1 : 0), "fanoutRemove");
    if (this.model.consumers.has(id)) this.model.remove(id);
    this.#close(id);
  }

  #close(id: number): void {
    const peer = this.peers.get(id)!;
    this.peers.delete(id);
    native.fanoutRemove(this.#fanout, id, 1); // nothing, if it was removed
    (peer.memory as ArrayBuffer & { transfer(length: number): ArrayBuffer }).transfer(0);
    peer.page?.[Symbol.dispose]();
    native.close(peer.end);
    native.close(peer.ring);
  }

  edit(id: number, edit: Edit): void {
    if (this.model.consumers.get(id)?.isLive !== true) return;
    const bytes = encodeEdit(edit);
    assert.equal(native.fanoutEdit(this.#fanout, id, bytes, bytes.length), 0, "edit");
    this.model.edit(id, edit);
  }

  // Publishing

  readonly #witness = (id: number) => {
    const { lost, conflated } = this.consumerInfo(id);
    return { lost: lost - this.model.consumers.get(id)!.skippedUpdates, conflated };
  };

  /** @returns Whether it was published. */
  publish(update: ModelUpdate, isBatch: boolean): boolean {
    const { head, headLength, tail } = encode(update);
    const code = native.fanoutPublish(this.#fanout, head, headLength, tail, tail.length, isBatch ? 1 : 0);
    const expected = this.model.publish(update, isBatch, this.#witness);
    Rig.saw(expected === "blocked" ? "blocked" : update.kind);
    if (expected === "blocked") {
      assert.equal(stripped(code), Status.wouldBlock, "publish is blocked");
      return false;
    }
    this.#compareReached(stripped(code), expected, "publish");
    this.afterwards();
    return true;
  }

  /** Hostile ones count for the engine, too, while it has not found out. */
  #compareReached(code: number, expected: number, what: string, updates = 1): void {
    const hostile = updates * [...this.peers.values()].filter(({ isHostile }) => isHostile).length;
    if (hostile === 0) assert.equal(code, expected, `${what}: consumers reached`);
    else {assert.ok(
        code >= expected && code <= expected + hostile,
        `${what}: ${code}, not ${expected} and at most ${hostile}`,
      );}
  }

  /** As one buffer. Stops at the first that is blocked. */
  publishMany(updates: readonly ModelUpdate[], commits: boolean): void {
    // Where a backlog may refuse a frame or not, the engine has to be asked after each.
    const isUncertain = [...this.model.consumers.values()].some(({ backlogLimit }) =>
      backlogLimit > 0 && backlogLimit < BACKLOG_LARGE
    );
    if (isUncertain && updates.length > 1) {
      for (const [i, update] of updates.entries()) this.publishMany([update], commits && i === updates.length - 1);
      return;
    }
    const parts: Uint8Array[] = [];
    const ends: number[] = [];
    let size = 8;
    for (const update of updates) {
      const { head, headLength, tail } = encode(update);
      const headSize = Math.ceil(headLength / 8) * 8;
      const item = new Uint8Array(8 + headSize + Math.ceil(tail.length / 8) * 8);
      const view = new DataView(item.buffer);
      view.setUint32(0, headLength, true);
      view.setUint32(4, tail.length, true);
      item.set(head.subarray(0, headLength), 8);
      item.set(tail, 8 + headSize);
      parts.push(item);
      size += item.length;
      ends.push(size - 8);
    }
    const bytes = new Uint8Array(size);
    let at = 8;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const code = native.fanoutPublishMany(this.#fanout, bytes, bytes.length, commits ? 1 : 0);
    const done = Number(new DataView(bytes.buffer).getBigUint64(0, true));

    let reached = 0;
    let published = 0;
    let isBlocked = false;
    for (const update of updates) {
      const outcome = this.model.publish(update, true, this.#witness);
      isBlocked = outcome === "blocked";
      if (outcome === "blocked") break;
      reached += outcome;
      published += 1;
    }
    if (commits) this.model.commit();
    Rig.saw("many");
    assert.equal(done, published === 0 ? 0 : ends[published - 1], "publishMany: bytes done");
    if (isBlocked) assert.equal(code, Status.wouldBlock, "publishMany is blocked");
    else this.#compareReached(stripped(code), reached, "publishMany", updates.length);
    this.afterwards();
  }

  commit(): void {
    native.fanoutCommit(this.#fanout);
    this.#takeDemand(1, 2);
    this.model.commit();
  }

  flush(id: number): void {
    const code = native.fanoutFlush(this.#fanout, id);
    if (this.peers.get(id)!.isHostile) {
      this.model.commit(); // as every flush does
      return this.afterwards();
    }
    const isEmpty = this.model.flushAwaited(id);
    this.model.commit();
    assert.equal(stripped(code), isEmpty ? 1 : 0, "flush");
    this.afterwards();
  }

  sweep(elapsedMs: number): void {
    ok(native.fanoutSweep(this.#fanout, elapsedMs), "fanoutSweep");
    this.model.sweep(elapsedMs);
    if (this.model.events.length > 0) Rig.saw("stalled");
    this.afterwards();
    this.compareDemand();
  }

  /** Takes some of what has changed. @returns False: there is no more. */
  #takeDemand(recordsMax: number, steps: number): boolean {
    const bytes = new Uint8Array(DemandHead.size + recordsMax * DemandRecord.size);
    const count = ok(native.fanoutDemand(this.#fanout, bytes, recordsMax, steps), "fanoutDemand");
    for (let i = 0; i < count; i++) {
      const record = bytes.subarray(DemandHead.size + i * DemandRecord.size);
      const key = keyName(record.slice(DemandRecord.key, DemandRecord.key + 32));
      const [was, now] = [record[DemandRecord.was]!, record[DemandRecord.now]!];
      assert.notEqual(was, now, "something has changed");
      for (const bit of [DEMAND_ACCOUNTS, DEMAND_TRANSACTIONS]) {
        const list = bit === DEMAND_TRANSACTIONS
          ? "transactions"
          : record[DemandRecord.kind] === 1
          ? "owners"
          : "accounts";
        assert.equal(this.#told.has(`${list} ${key}`), (was & bit) !== 0, "it was told before");
        if ((now & bit) !== 0) this.#told.add(`${list} ${key}`);
        else this.#told.delete(`${list} ${key}`);
      }
    }
    const head = new DataView(bytes.buffer);
    for (
      const [list, at] of [["accounts", DemandHead.allAccounts], ["transactions", DemandHead.allTransactions]] as const
    ) {
      if (head.getUint32(at, true) === 1) this.#told.add(`${list} *`);
      else this.#told.delete(`${list} *`);
    }
    return head.getUint32(DemandHead.isDone, true) === 0;
  }

  compareDemand(): void {
    while (this.#takeDemand(3, 10));
    if ([...this.peers.values()].some(({ isHostile }) => isHostile)) return;
    assert.deepEqual([...this.#told].sort(), this.model.demand(), "demand");
    Rig.saw(this.#told.size === 0 ? "no demand" : "demand");
  }

  mark(id: number, kind: "gap" | "filter"): void {
    if (this.model.consumers.get(id)?.isLive !== true) return;
    const head = new Uint8Array(FrameHeader.size + 8);
    const view = new DataView(head.buffer);
    view.setUint16(FrameHeader.kind, KINDS[kind], true);
    const generation = ++this.#generation;
    if (kind === "filter") view.setUint32(FrameHeader.size + FilterMarkBody.generation, generation, true);
    const code = native.fanoutMark(this.#fanout, id, head, head.length);
    const expected = this.model.mark(id, kind, generation);
    Rig.saw(`mark ${expected}`);
    assert.equal(code, expected === "taken" ? 0 : Status.full, "mark");
  }

  /** Events, and the figures of everybody. */
  afterwards(): void {
    const told: string[] = [];
    for (let event; (event = native.fanoutEvent(this.#fanout)) !== Status.wouldBlock;) {
      ok(event, "fanoutEvent");
      const [id, reason] = [event & 0xffff, event >> 16];
      const peer = this.peers.get(id);
      if (peer?.isHostile === true) {
        // A cursor that was set back is as good as one that stands still.
        assert.ok(
          reason === EndReason.peerCorrupt || (peer.isPlausible && reason === EndReason.slowConsumer),
          `${reason}`,
        );
        Rig.saw(reason === EndReason.peerCorrupt ? "peer-corrupt" : "hostile, slow");
        this.kill(id, true);
      } else told.push(`${id}: ${reason}`);
    }
    const expected = this.model.events.splice(0);
    assert.deepEqual(told.sort(), expected.map(({ id }) => `${id}: ${EndReason.slowConsumer}`).sort(), "events");
    for (const { id } of expected) {
      Rig.saw("slow-consumer");
      this.compareFigures(id);
      this.drain(id); // all that came before can be read
      this.kill(id, true);
    }
    for (const id of this.peers.keys()) this.compareFigures(id);
  }

  consumerInfo(id: number) {
    assert.equal(native.fanoutConsumerInfo(this.#fanout, id, consumerInfoBytes), 0, "fanoutConsumerInfo");
    const read = (at: number) => consumerInfoView.getFloat64(at, true);
    const losses = lossesOf((reason) => read(FanoutConsumerInfo.lostBy + 8 * reason));
    return {
      frames: read(FanoutConsumerInfo.frames),
      lost: totalOf(losses),
      conflated: losses.replaced,
      waiting: read(FanoutConsumerInfo.waitingFrames),
      waitingBytes: read(FanoutConsumerInfo.waitingBytes),
      gapDue: read(FanoutConsumerInfo.gapDue),
      editDue: read(FanoutConsumerInfo.editDue) !== 0,
      unread: read(FanoutConsumerInfo.unreadFrames),
      oldestUs: read(FanoutConsumerInfo.oldestUs),
    };
  }

  /** What its ring says of updates and slots, whether or not there was room for any. */
  #compareTold(id: number): void {
    assert.equal(native.ringInfo(this.peers.get(id)!.end, ringInfo), 0, "ringInfo");
    const model = this.model.consumers.get(id)!;
    const [ordinal, slot] = [ringInfo[RingInfo.producerOrdinal / 8]!, ringInfo[RingInfo.newestSlot / 8]!];
    const says = `the ring of consumer ${id} says`;
    assert.ok(
      model.toldOrdinal <= ordinal && ordinal <= model.numbered,
      `${says} ordinal ${ordinal}, not ${model.toldOrdinal}`,
    );
    assert.ok(
      model.toldSlot <= slot && slot <= this.model.newestSlot,
      `${says} slot ${slot}, not ${model.toldSlot}`,
    );
    if (model.backlog.length > 0 || model.pendingLost > 0) Rig.saw("told without room");
  }

  compareFigures(id: number): void {
    if (this.peers.get(id)!.isHostile) return;
    const { frames, lost, conflated, waiting, waitingBytes, gapDue, editDue, unread, oldestUs } = this.consumerInfo(id);
    const model = this.model.consumers.get(id)!;
    const bytes = model.backlogBytes;
    // What it has skipped by now was handed over, and is lost.
    const allLost = model.lost + model.skippedUpdates;
    if (
      frames !== model.frames || lost !== allLost || conflated !== model.conflated ||
      waiting !== model.backlog.length || waitingBytes !== bytes || (model.isGapDue && gapDue === 0) ||
      editDue !== model.isEditDue
    ) {
      assert.deepEqual(
        { frames, lost, conflated, waiting, waitingBytes, gapDue: gapDue !== 0, editDue },
        {
          frames: model.frames,
          lost: allLost,
          conflated: model.conflated,
          waiting: model.backlog.length,
          waitingBytes: bytes,
          gapDue: model.isGapDue,
          editDue: model.isEditDue,
        },
        `figures of consumer ${id}`,
      );
    }
    // Conservation: each matching update is or was in the ring, waits, or is lost.
    this.#compareTold(id);
    assert.equal(unread, model.numbered - model.ordinalReleased, `updates that consumer ${id} has not given back`);
    const hasOldest = model.committed > model.released || model.backlog.length > 0;
    assert.equal(oldestUs > 0, hasOldest, `consumer ${id} has something unread`);
    const waitingUpdates = model.backlog.filter(({ frame }) => frame.update !== undefined).length;
    assert.equal(frames + waitingUpdates + model.lost, model.matched, "delivered + waiting + lost == matching");
  }

  // Reading

  /** @returns Number of frames. */
  poll(id: number, count: number): number {
    const peer = this.peers.get(id)!;
    if (peer.isHostile) return 0;
    const found = ok(native.ringPoll(peer.end, records, Math.min(count, RECORDS_MAX)), "ringPoll");
    const expected = this.model.poll(id, Math.min(count, RECORDS_MAX));
    for (let i = 0; i < Math.min(found, expected.length); i++) {
      this.#compareFrame(id, peer, PollRecord.size * i, expected[i]!);
    }
    assert.equal(found, expected.length, `frames that consumer ${id} sees`);
    return found;
  }

  release(id: number, count: number): void {
    const peer = this.peers.get(id)!;
    if (peer.isHostile) return;
    assert.equal(native.ringRelease(peer.end, this.model.release(id, count)), 0, "ringRelease");
  }

  #compareFrame(id: number, peer: Peer, record: number, { frame, lost, ringBytes, skipped }: Polled): void {
    const { view } = peer;
    const u32 = (at: number) => recordsView.getUint32(record + at, true);
    const at = u32(PollRecord.frameOffset);
    const seen = {
      kind: view.getUint16(at + FrameHeader.kind, true),
      flags: view.getUint16(at + FrameHeader.flags, true),
      sequence: Number(view.getBigUint64(at + FrameHeader.sequence, true)),
      mask: view.getBigUint64(at + FrameHeader.filterMask, true),
      headerLost: view.getUint32(at + FrameHeader.lost, true),
      conflated: view.getUint32(at + FrameHeader.conflated, true),
      lost: u32(PollRecord.lost),
      ringBytes: u32(PollRecord.ringBytes),
      isPooled: view.getUint32(at + FrameHeader.poolGeneration, true) !== 0,
    };
    const wanted = {
      kind: KINDS[frame.kind],
      flags: flagsOf(frame),
      sequence: frame.sequence,
      mask: frame.mask,
      headerLost: frame.lost,
      conflated: frame.conflated,
      lost,
      ringBytes,
      isPooled: frame.isPooled,
    };
    if ((Object.keys(wanted) as (keyof typeof wanted)[]).some((name) => seen[name] !== wanted[name])) {
      assert.deepEqual(seen, wanted, `frame ${frame.kind} ${frame.sequence}`);
    }
    Rig.saw(`got ${frame.kind}${frame.isSliced ? " sliced" : ""}${frame.isPooled ? " pooled" : ""}`);
    if (lost > 0) Rig.saw("lost said");
    // One order: only what leaves repeats the sequence of the write that it left by, and marks that of the newest update.
    const repeats = frame.kind === "left" || frame.update === undefined;
    assert.ok(repeats ? seen.sequence >= peer.lastSequence : seen.sequence > peer.lastSequence, "ascending");
    peer.lastSequence = seen.sequence;
    peer.saidLost += seen.lost;
    if (frame.update !== undefined) peer.delivered += 1;
    assert.ok(view.getBigUint64(at + FrameHeader.publishNs, true) > 0n);
    const body = at + FrameHeader.size;
    const u64 = (offset: number) => view.getBigUint64(body + offset, true);
    const same = (offset: number, length: number, bytes: ReadonlyUint8Array, what: string) => {
      assert.ok(length === bytes.length, `${what}: ${length} bytes, not ${bytes.length}`);
      for (let i = 0; i < length; i++) if (peer.bytes[offset + i] !== bytes[i]) assert.fail(`${what} at ${i}`);
    };
    const payload = (bytes: ReadonlyUint8Array, what: string) =>
      same(u32(PollRecord.payloadOffset), u32(PollRecord.payloadLength), bytes, what);
    const extra = (bytes: ReadonlyUint8Array | undefined, what: string) =>
      same(u32(PollRecord.extraOffset), u32(PollRecord.extraLength), bytes ?? new Uint8Array(0), what);
    const { update } = frame;
    if (frame.kind === "filter") {
      assert.equal(view.getUint32(body + FilterMarkBody.generation, true), frame.generation, "generation");
    } else if (frame.kind === "account") {
      const account = update as ModelAccount;
      same(body + AccountBody.pubkey, 32, account.pubkey as Uint8Array, "pubkey");
      same(body + AccountBody.owner, 32, account.owner as Uint8Array, "owner");
      assert.equal(u64(AccountBody.lamports), account.lamports);
      assert.equal(u64(AccountBody.slot), account.slot);
      assert.equal(u64(AccountBody.writeVersion), account.writeVersion ?? 0n);
      assert.equal(view.getUint32(body + AccountBody.dataLength, true), frame.data.length);
      assert.equal(view.getUint32(body + AccountBody.fullLength, true), account.data.length);
      count(peer, u64(AccountBody.slot), "accounts");
      payload(frame.data, "data");
      extra(account.signature, "signature");
    } else if (frame.kind === "left") {
      const account = update as ModelAccount;
      same(body + LeftBody.pubkey, 32, account.pubkey as Uint8Array, "pubkey");
      same(body + LeftBody.owner, 32, account.owner as Uint8Array, "owner");
      assert.equal(u64(LeftBody.lamports), account.lamports);
      assert.equal(u64(LeftBody.slot), account.slot);
      assert.equal(u64(LeftBody.writeVersion), account.writeVersion ?? 0n);
    } else if (update?.kind === "transaction") {
      same(body + TransactionBody.signature, 64, update.signature, "signature");
      assert.equal(u64(TransactionBody.slot), update.slot);
      assert.equal(view.getUint32(body + TransactionBody.index, true), update.index);
      count(peer, u64(TransactionBody.slot), "transactions");
      payload(update.message, "message");
      const { writable, readonly } = update.loadedAddresses ?? { writable: [], readonly: [] };
      const counts = [TransactionBody.loadedWritableCount, TransactionBody.loadedReadonlyCount];
      assert.deepEqual(counts.map((at) => view.getUint16(body + at, true)), [writable.length, readonly.length]);
      const loadedAt = u32(PollRecord.extraOffset) - 32 * (writable.length + readonly.length);
      [...writable, ...readonly].forEach((key, i) => same(loadedAt + 32 * i, 32, key as Uint8Array, "loaded"));
      extra(update.meta, "meta");
    } else if (update?.kind === "slot") {
      // What it says is missing is what matched before it in the order and has not come: no more, no less.
      const matched = countBefore(this.model.consumers.get(id)!.matchedOfSlot.get(update.slot), frame.sequence);
      const delivered = peer.deliveredOfSlot.get(update.slot);
      for (
        const [kind, at] of [["accounts", SlotBody.accountsLost], [
          "transactions",
          SlotBody.transactionsLost,
        ]] as const
      ) {
        const missing = matched[kind] - (delivered?.[kind] ?? 0);
        const said = Number(u64(at)) + u32(kind === "accounts" ? PollRecord.payloadLength : PollRecord.extraLength);
        assert.equal(said, missing, `slot ${update.slot}: ${kind} lost`);
      }
      assert.deepEqual([
        u64(SlotBody.slot),
        u64(SlotBody.parent),
        view.getUint32(body + SlotBody.status, true),
        Number(u64(SlotBody.accountsPublished)),
        Number(u64(SlotBody.transactionsPublished)),
        Number(u64(SlotBody.accountsLost)),
        Number(u64(SlotBody.transactionsLost)),
        u32(PollRecord.payloadLength),
        u32(PollRecord.extraLength),
      ], [
        update.slot,
        update.parent,
        SLOT_STATUSES.indexOf(update.status),
        frame.published.accounts,
        frame.published.transactions,
        frame.slotLost.accounts,
        frame.slotLost.transactions,
        skipped.accounts,
        skipped.transactions,
      ], "slot");
      if (skipped.accounts + skipped.transactions > 0) Rig.saw("slot with skipped");
    }
  }

  /** Reads all that is in the ring. */
  drain(id: number): void {
    if (this.peers.get(id)!.isHostile) return;
    while (this.poll(id, RECORDS_MAX) > 0) this.release(id, RECORDS_MAX);
    this.release(id, Infinity);
    this.poll(id, 1); // what was skipped, with nothing behind it, goes back now
  }

  /** Whether somebody told the sender that there is room. */
  wasWoken(): boolean {
    let was = false;
    while (drainSocket(this.#wake.fd)) was = true;
    return was;
  }

  /** All read on, the sender moves only when it is woken: in the end nothing waits, and the books balance. */
  finish(): void {
    this.commit();
    for (let rounds = 0;; rounds++) {
      assert.ok(rounds < 100_000, "comes to an end");
      let moved = 0;
      for (const id of [...this.peers.keys()]) {
        moved += this.poll(id, 1);
        this.release(id, 1);
      }
      if (this.wasWoken()) {
        for (const id of [...this.peers.keys()]) this.flush(id);
        continue;
      }
      if (moved === 0) break;
    }
    for (const [id, peer] of this.peers) {
      if (peer.isHostile) continue;
      this.compareFigures(id);
      assert.equal(this.model.consumers.get(id)!.backlog.length, 0, "the last wake-up came");
    }
    this.#balance();
    this.compareDemand();
    ok(native.fanoutInfo(this.#fanout, infoBytes), "fanoutInfo");
    const read = (at: number) => infoView.getFloat64(at, true);
    assert.deepEqual({
      accounts: read(FanoutInfo.accounts),
      transactions: read(FanoutInfo.transactions),
      slots: read(FanoutInfo.slots),
      stale: read(FanoutInfo.stale),
      sequence: read(FanoutInfo.sequence),
    }, {
      accounts: this.model.counts.accounts,
      transactions: this.model.counts.transactions,
      slots: this.model.counts.slots,
      stale: this.model.counts.stale,
      sequence: this.model.sequence,
    }, "figures of the sender");
  }

  /** By the frames alone: what came and what they said was lost is what matched, of each slot and in all. */
  #balance(): void {
    for (const slot of this.model.slots()) {
      this.publish({ kind: "slot", slot, parent: 0n, status: "processed" }, false);
      for (const id of [...this.peers.keys()]) this.drain(id);
    }
    for (const [id, peer] of this.peers) {
      if (peer.isHostile) continue;
      this.mark(id, "gap");
      this.drain(id);
      const { matched } = this.model.consumers.get(id)!;
      assert.equal(peer.delivered + peer.saidLost, matched, "delivered + lost, by the frames, == matching");
      assert.equal(peer.saidLost, this.consumerInfo(id).lost, "lost, by the frames == by the sender");
    }
  }

  /** Figures that a hostile consumer makes uncertain. */
  compareTotals(): void {
    ok(native.fanoutInfo(this.#fanout, infoBytes), "fanoutInfo");
    const read = (at: number) => infoView.getFloat64(at, true);
    const losses = lossesOf((reason) => read(FanoutInfo.lostBy + 8 * reason));
    assert.deepEqual(
      [totalOf(losses), losses.replaced, read(FanoutInfo.unchanged)],
      [this.model.lostInAll, this.model.counts.conflated, this.model.counts.unchanged],
      "totals: lost, conflated, unchanged",
    );
  }

  /** Asks for what may be no edit at all. Nothing is known of that consumer any more. @returns The answer. */
  fuzzEdit(id: number, bytes: Uint8Array): number {
    const peer = this.peers.get(id)!;
    if (!peer.isHostile) this.model.remove(id);
    peer.isHostile = true;
    peer.isPlausible = true;
    const code = stripped(native.fanoutEdit(this.#fanout, id, bytes, bytes.length));
    Rig.saw(code === 0 ? "fuzzed edit taken" : `fuzzed edit refused ${code}`);
    return code;
  }

  /** Writes that number where the consumer's cursor belongs. */
  forgeCursor(id: number, change: (cursor: bigint) => bigint, isPlausible: boolean): void {
    const peer = this.peers.get(id)!;
    Rig.saw("forged");
    if (!peer.isHostile) this.model.remove(id);
    peer.isHostile = true;
    peer.isPlausible = isPlausible;
    const { view } = peer.page!;
    const cursor = view.getBigUint64(64, true);
    view.setBigUint64(64, BigInt.asUintN(64, change(cursor)), true);
  }
}

function count(peer: Peer, slot: bigint, kind: "accounts" | "transactions"): void {
  let counts = peer.deliveredOfSlot.get(slot);
  if (counts === undefined) peer.deliveredOfSlot.set(slot, counts = { accounts: 0, transactions: 0 });
  counts[kind] += 1;
}

/** The result of a call without what says that there are events. */
function stripped(code: number): number {
  return code >= 0 ? code & ~(FANOUT_EVENT_FLAG | FANOUT_WORK_FLAG) : code;
}

function flagsOf({ kind, update, isSliced, isClipped }: Frame): number {
  if (kind === "left" || update === undefined) return 0;
  let flags = update.lossy === true ? FRAME_FLAG_LOSSY : 0;
  if (update.kind === "account") {
    if (update.signature !== undefined) flags |= FRAME_FLAG_SIGNATURE;
    if (update.executable === true) flags |= FRAME_FLAG_EXECUTABLE;
    if (update.startup === true) flags |= FRAME_FLAG_STARTUP;
    if (isSliced) flags |= FRAME_FLAG_SLICED;
    if (isClipped) flags |= FRAME_FLAG_CLIPPED;
  }
  if (update.kind === "transaction") {
    if (update.vote === true) flags |= FRAME_FLAG_VOTE;
    if (update.failed === true) flags |= FRAME_FLAG_FAILED;
    if (update.meta !== undefined) flags |= FRAME_FLAG_META;
  }
  return flags;
}
