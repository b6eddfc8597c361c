/**
 * State, forks and resuming against a plain model: random schedules of writes, slots, dead banks, finality, requests, edits,
 * slow readers, lost connections. What a consumer keeps of its stream must be, once all is read, what holds.
 * May touch: the native library, a reader for each ring. May not touch: senders, links.
 * fast-check prints the seed of a failure and shrinks it. QLASTER_MODEL_RUNS multiplies the number of schedules.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import fc from "fast-check";
import {
  FANOUT_EVENT_FLAG,
  FANOUT_WORK_FLAG,
  FanoutConsumer,
  FanoutConsumerInfo,
  FanoutOptions,
  LinkHeader,
  PART_SIZE,
  Policy,
} from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import { lossesOf, totalOf } from "../../src/stream/losses.ts";
import { RingReader } from "../../src/stream/reader.ts";
import type { SlotStatus } from "../../src/types.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import { encodeFilter } from "../../src/wire/filters.ts";
import { encodeFilterEdit } from "../../src/wire/messages.ts";
import { close } from "../support/libc.ts";
import { keyOf, patternBytes } from "../unit/support/updates.ts";

const native = await load();
const scale = Number(process.env.QLASTER_MODEL_RUNS ?? 1);
const KEYS = 12;
const OWNERS = 3;
const CAPACITY = 65_536;
const RESERVED = 16_384;
const BACKLOG = 16 << 20;
const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };
const encoder = new FrameEncoder();
const ownerOf = (n: number) => keyOf(100 + n);

interface Version {
  readonly slot: number;
  readonly bank: number;
  readonly write: number;
}

interface Write extends Version {
  readonly key: number;
  readonly owner: number;
  readonly lamports: number;
}

const isOlder = (a: Version, b: Version) =>
  a.slot !== b.slot ? a.slot < b.slot : a.bank !== b.bank ? a.bank < b.bank : a.write < b.write;

/** All writes that were ever made, less those that never were. */
class World {
  writes: Write[] = [];
  readonly parents = new Map<number, number>();
  readonly #dead = new Set<string>();
  root = 0;
  /** Banks that writes go to. */
  banks: { slot: number; bank: number }[] = [{ slot: 100, bank: 1 }];
  tip = 100;
  last = 100;
  #bankCount = 1;

  isInChain(slot: number, tip: number): boolean {
    let at = tip;
    while (at > slot) {
      const parent = this.parents.get(at);
      if (parent === undefined) return true;
      at = parent;
    }
    return at === slot;
  }

  isDead({ slot, bank }: Version): boolean {
    if (this.#dead.has(`${slot} ${bank}`)) return true;
    return slot <= this.root && !this.isInChain(slot, this.root);
  }

  write(write: Write): void {
    if (this.isDead(write)) return;
    const at = this.writes.findIndex((one) =>
      one.key === write.key && one.slot === write.slot && one.bank === write.bank
    );
    if (at < 0) this.writes.push(write);
    else if (write.write >= this.writes[at]!.write) this.writes[at] = write;
  }

  current(key: number): Write | undefined {
    let best: Write | undefined;
    for (const one of this.writes) if (one.key === key && (best === undefined || isOlder(best, one))) best = one;
    return best;
  }

  addSlot(isMain: boolean, pick: number): { slot: number; parent: number; bank: number } {
    this.last += 1 + pick % 2;
    const parent = isMain ? this.tip : this.banks[pick % this.banks.length]!.slot;
    this.parents.set(this.last, parent);
    if (isMain) this.tip = this.last;
    this.banks = [...this.banks, { slot: this.last, bank: ++this.#bankCount }].slice(-16);
    return { slot: this.last, parent, bank: this.#bankCount };
  }

  kill(bank: { slot: number; bank: number }): void {
    this.#dead.add(`${bank.slot} ${bank.bank}`);
    this.#clean();
  }

  finalize(slot: number): void {
    this.root = slot;
    this.#clean();
    // What a newer final version has made worthless can't come back.
    this.writes = this.writes.filter((one) =>
      !this.writes.some((other) => other.key === one.key && other.slot <= slot && isOlder(one, other))
    );
  }

  #clean(): void {
    this.writes = this.writes.filter((write) => !this.isDead(write));
  }
}

interface Filter {
  readonly bit: number;
  readonly keys: Set<number>;
  readonly owner: number | undefined;
  readonly isRichOnly: boolean;
  /** What the stream says of it. */
  cache: Map<number, Write>;
  pending: number;
}

const matches = (filter: Filter, write: Write) =>
  (filter.keys.has(write.key) || filter.owner === write.owner) && (!filter.isRichOnly || write.lamports > 1);

/** One connection after the other. */
class Peer {
  ring = -1;
  end = -1;
  id = -1;
  reader!: RingReader;
  readonly filters = new Map<number, Filter>();
  nextBit = 1;
  sequence = 0;
  /** Banks that it was told of: what they wrote may be followed by something older. */
  readonly rolledBack = new Set<string>();
}

class Rig implements Disposable {
  readonly world = new World();
  readonly peers: Peer[] = [];
  readonly #fanout: number;
  readonly #wake: { readonly handle: number; readonly fd: number };
  readonly seen = { state: 0, live: 0, restored: 0, withdrawn: 0, left: 0, resumed: 0 };
  readonly #dataSize: number;
  #write = 0;

  constructor(dataSize: number) {
    this.#dataSize = dataSize;
    const bytes = new Uint8Array(FanoutOptions.size);
    const view = new DataView(bytes.buffer);
    bytes.set(patternBytes(16, 3), FanoutOptions.seed);
    view.setUint32(FanoutOptions.keysMax, 1000, true);
    view.setUint32(FanoutOptions.keysPerConsumerMax, 1000, true);
    view.setUint32(FanoutOptions.poolThreshold, 0xffffffff, true);
    view.setUint32(FanoutOptions.trackedMax, 1000, true);
    view.setUint32(FanoutOptions.guard, 2, true);
    view.setUint32(FanoutOptions.stateParts, (64 << 20) / PART_SIZE, true);
    view.setUint32(FanoutOptions.stateKeep, 1, true);
    view.setUint32(FanoutOptions.historyParts, (32 << 20) / PART_SIZE, true);
    this.#fanout = ok(native.fanoutCreate(bytes));
    const pair = new Int32Array(2);
    ok(native.wakeCreate(pair));
    this.#wake = { fd: pair[0]!, handle: ok(native.wakeOpen(pair[1]!)) };
  }

  [Symbol.dispose](): void {
    for (const peer of this.peers) this.#disconnect(peer);
    native.close(this.#fanout);
    native.close(this.#wake.handle);
    close(this.#wake.fd);
  }

  connect(peer: Peer, resumeAfter?: number): void {
    const passed = new Int32Array(2);
    peer.ring = ok(native.ringCreate(CAPACITY, RESERVED, 1, patternBytes(16, 3), passed));
    peer.end = ok(native.ringJoin(passed[0]!, passed[1]!, -1, CAPACITY, 0, 0xffffffff));
    ok(native.ringAttach(peer.end, this.#wake.handle));
    const bytes = new Uint8Array(FanoutConsumer.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(FanoutConsumer.policy, Policy.conflate, true);
    view.setUint32(FanoutConsumer.transactionPolicy, Policy.conflate, true);
    view.setUint32(FanoutConsumer.backlogBytes, BACKLOG, true);
    view.setUint32(FanoutConsumer.isHeld, resumeAfter === undefined ? 0 : 1, true);
    view.setFloat64(FanoutConsumer.resumeAfter, resumeAfter ?? 0, true);
    peer.id = ok(native.fanoutAdd(this.#fanout, peer.ring, bytes));
    peer.reader = new RingReader(native, peer.end, CAPACITY);
  }

  #disconnect(peer: Peer): void {
    native.fanoutRemove(this.#fanout, peer.id, 1);
    peer.reader.close();
    native.close(peer.ring);
  }

  /** Its connection is lost with all that it has not read; it goes on where it was. */
  reconnect(peer: Peer): void {
    peer.sequence = Math.max(peer.sequence, peer.reader.lastSequence);
    this.#disconnect(peer);
    this.connect(peer, peer.sequence);
    for (const filter of peer.filters.values()) {
      // What leaves a filter meanwhile is not replayed, and an answer that was on its way is gone.
      const isAnew = filter.owner !== undefined || filter.isRichOnly || filter.pending > 0;
      if (isAnew) filter.cache.clear();
      filter.pending = 0;
      this.#send(peer, filter, "replace", [...filter.keys], isAnew);
    }
    ok(native.fanoutStart(this.#fanout, peer.id));
    this.seen.resumed++;
  }

  // Filters

  #send(peer: Peer, filter: Filter, op: "replace" | "add" | "remove" | "drop", keys: number[], state: boolean): void {
    const { program } = encodeFilter({ accounts: filter.isRichOnly ? { lamports: { gt: 1n } } : {} }, "model");
    const message = encodeFilterEdit(1, {
      ...{ op, bit: filter.bit, transactions: false, isLast: op !== "replace", state },
      accounts: keys.map((key) => keyOf(key)),
      owners: op === "replace" && filter.owner !== undefined ? [ownerOf(filter.owner)] : [],
      program: op === "replace" ? program : new Uint8Array(0),
    });
    const body = message.slice(LinkHeader.size);
    ok(native.fanoutEdit(this.#fanout, peer.id, body, body.length));
    if (op === "replace") this.#send(peer, filter, "add", [], state); // with nothing more to come
    else if (state) filter.pending++;
  }

  addFilter(peer: Peer, keys: number[], owner: number | undefined, isRichOnly: boolean): void {
    if (peer.filters.size >= 3 || peer.nextBit > 60) return;
    const filter: Filter = {
      ...{ bit: peer.nextBit++, keys: new Set(keys), owner, isRichOnly, cache: new Map(), pending: 0 },
    };
    peer.filters.set(filter.bit, filter);
    this.#send(peer, filter, "replace", keys, true);
  }

  dropFilter(peer: Peer, pick: number): void {
    const filter = [...peer.filters.values()][pick % Math.max(1, peer.filters.size)];
    if (filter === undefined) return;
    this.#send(peer, filter, "drop", [], false);
    peer.filters.delete(filter.bit);
  }

  addKeys(peer: Peer, pick: number, keys: number[]): void {
    const filter = [...peer.filters.values()][pick % Math.max(1, peer.filters.size)];
    const fresh = keys.filter((key) => filter?.keys.has(key) === false && !filter.cache.has(key));
    // By its owner it may be there already, and what is asked for twice comes twice.
    if (filter === undefined || fresh.length === 0 || filter.owner !== undefined) return;
    for (const key of fresh) filter.keys.add(key);
    this.#send(peer, filter, "add", fresh, true);
  }

  // Publishing

  publish(key: number, owner: number, lamports: number, pick: number): void {
    const { slot, bank } = this.world.banks[pick % this.world.banks.length]!;
    const write: Write = { key, owner, lamports, slot, bank, write: ++this.#write };
    encoder.account({
      pubkey: keyOf(key),
      owner: ownerOf(owner),
      lamports: BigInt(lamports),
      data: patternBytes(this.#dataSize, 1),
      slot: BigInt(slot),
      bankId: BigInt(bank),
      writeVersion: BigInt(write.write),
    });
    this.#publish();
    this.world.write(write);
  }

  slot(isMain: boolean, pick: number): void {
    const { slot, parent, bank } = this.world.addSlot(isMain, pick);
    this.#slot(slot, parent, bank, "createdBank");
  }

  kill(pick: number): void {
    const bank = this.world.banks[pick % this.world.banks.length]!;
    if (bank.slot <= this.world.root || this.world.isInChain(bank.slot, this.world.tip)) return;
    this.#slot(bank.slot, this.world.parents.get(bank.slot) ?? 0, bank.bank, "dead");
    this.world.kill(bank);
  }

  finalize(back: number): void {
    let slot = this.world.tip;
    for (let i = 0; i < back; i++) slot = this.world.parents.get(slot) ?? slot;
    const parent = this.world.parents.get(slot);
    if (slot <= this.world.root || parent === undefined) return;
    this.#slot(slot, parent, 0, "finalized");
    this.world.finalize(slot);
  }

  #slot(slot: number, parent: number, bank: number, status: SlotStatus): void {
    encoder.slot({ slot: BigInt(slot), parent: BigInt(parent), bankId: BigInt(bank), status }, NO_COUNTS);
    this.#publish();
  }

  #publish(): void {
    const { head, headLength, tail } = encoder;
    ok(native.fanoutPublish(this.#fanout, head, headLength, tail, tail.length, 0) & ~FANOUT_WORK_FLAG);
  }

  pump(): boolean {
    const result = ok(native.fanoutPump(this.#fanout));
    assert.equal(result & FANOUT_EVENT_FLAG, 0, "nobody is ended");
    return (result & FANOUT_WORK_FLAG) !== 0;
  }

  // Reading

  read(peer: Peer, count: number): number {
    let read = 0;
    while (read < count) {
      const update = peer.reader.advance();
      if (update === undefined) break;
      read++;
      if (update.kind === "rollback") peer.rolledBack.add(`${update.slot} ${update.bankId}`);
      const has = (bit: number) => (update.filterMask >> BigInt(bit)) & 1n;
      for (const filter of peer.filters.values()) {
        if (has(filter.bit) === 0n) continue;
        if (update.kind === "snapshot-complete") {
          assert.equal(update.isCut, false);
          filter.pending--;
        }
        if (update.kind === "withdrawn" || update.kind === "left") filter.cache.delete(keyIn(update.pubkey));
        if (update.kind !== "account") continue;
        const write: Write = {
          ...{ key: keyIn(update.pubkey), owner: keyIn(update.owner) - 100, lamports: Number(update.lamports) },
          ...{ slot: Number(update.slot), bank: Number(update.bankId), write: Number(update.writeVersion) },
        };
        const before = filter.cache.get(write.key);
        const isVoid = before !== undefined && peer.rolledBack.has(`${before.slot} ${before.bank}`);
        if (before !== undefined && !isVoid && !update.isRestored) {
          assert.ok(isOlder(before, write), `${JSON.stringify(before)}, then ${JSON.stringify(write)}`);
        }
        filter.cache.set(write.key, write);
      }
      if (update.kind === "account") this.seen[update.isState ? "state" : update.isRestored ? "restored" : "live"]++;
      else if (update.kind === "withdrawn" || update.kind === "left") this.seen[update.kind]++;
    }
    peer.reader.release();
    ok(native.fanoutFlush(this.#fanout, peer.id));
    return read;
  }

  /** Everything is read, and nothing waits. */
  settle(): void {
    for (let round = 0; round < 10_000; round++) {
      const isBusy = this.pump();
      const counts = this.peers.map((peer) => this.read(peer, 1000));
      if (!isBusy && counts.every((count) => count === 0) && !this.peers.some((peer) => this.#isWaiting(peer))) return;
    }
    assert.fail("it never comes to rest");
  }

  #isWaiting({ id }: Peer): boolean {
    const info = new Float64Array(FanoutConsumerInfo.size / 8);
    ok(native.fanoutConsumerInfo(this.#fanout, id, info));
    const at = (offset: number) => info[offset / 8]!;
    const { replaced, ...others } = lossesOf((reason) => at(FanoutConsumerInfo.lostBy + 8 * reason));
    assert.equal(totalOf({ replaced: 0, ...others }), 0, `nothing is lost: ${replaced} were replaced`);
    return at(FanoutConsumerInfo.snapshots) + at(FanoutConsumerInfo.isBehind) + at(FanoutConsumerInfo.waitingFrames) >
      0;
  }

  /** What each filter's stream amounts to is what holds. */
  check(): void {
    this.settle();
    for (const [n, peer] of this.peers.entries()) {
      for (const filter of peer.filters.values()) {
        assert.equal(filter.pending, 0, "every request is answered");
        const expected: string[] = [];
        for (let key = 0; key < KEYS; key++) {
          const write = this.world.current(key);
          if (write !== undefined && matches(filter, write)) expected.push(JSON.stringify(write));
        }
        const actual = [...filter.cache.values()].sort((a, b) => a.key - b.key)
          .map(({ key, owner, lamports, slot, bank, write }) =>
            JSON.stringify({ key, owner, lamports, slot, bank, write })
          );
        assert.deepEqual(actual, expected, `consumer ${n}, filter ${filter.bit}`);
      }
    }
  }
}

function ok(code: number): number {
  assert.ok(code >= 0, `refused: ${code}`);
  return code;
}

const keyNumbers = new Map<string, number>();
for (let n = 0; n < 200; n++) keyNumbers.set(keyOf(n).join(), n);
const keyIn = (bytes: ArrayLike<number>): number => keyNumbers.get(Array.from(bytes).join())!;

type Step =
  | {
    readonly do: "publish";
    readonly key: number;
    readonly owner: number;
    readonly lamports: number;
    readonly pick: number;
  }
  | { readonly do: "slot"; readonly isMain: boolean; readonly pick: number }
  | { readonly do: "kill" | "finalize" | "drop" | "reconnect" | "read"; readonly who: number; readonly pick: number }
  | {
    readonly do: "filter";
    readonly who: number;
    readonly keys: number[];
    readonly owner: number | undefined;
    readonly rich: boolean;
  }
  | { readonly do: "keys"; readonly who: number; readonly pick: number; readonly keys: number[] }
  | { readonly do: "pump" | "check" };

const pick = fc.nat({ max: 1000 });
const who = fc.nat({ max: 1 });
const keys = fc.uniqueArray(fc.nat({ max: KEYS - 1 }), { maxLength: 5 });
const one = <Name extends Step["do"]>(name: Name) => fc.constant(name);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 30,
    arbitrary: fc.record({
      do: one("publish"),
      key: fc.nat({ max: KEYS - 1 }),
      owner: fc.nat({ max: OWNERS - 1 }),
      lamports: fc.nat({ max: 3 }),
      pick,
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: one("slot"), isMain: fc.constantFrom(true, true, true, false), pick }) },
  { weight: 2, arbitrary: fc.record({ do: one("kill"), who, pick }) },
  { weight: 2, arbitrary: fc.record({ do: one("finalize"), who, pick: fc.nat({ max: 12 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: one("filter"),
      who,
      keys,
      owner: fc.option(fc.nat({ max: OWNERS - 1 }), { nil: undefined }),
      rich: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: one("keys"), who, pick, keys }) },
  { weight: 1, arbitrary: fc.record({ do: one("drop"), who, pick }) },
  { weight: 2, arbitrary: fc.record({ do: one("reconnect"), who, pick }) },
  { weight: 8, arbitrary: fc.record({ do: one("read"), who, pick: fc.constantFrom(1, 3, 10, 100) }) },
  { weight: 3, arbitrary: fc.record({ do: one("pump") }) },
  { weight: 1, arbitrary: fc.record({ do: one("check") }) },
);

const totals: Record<string, number> = {};

function run(steps: readonly Step[], dataSize: number): void {
  using rig = new Rig(dataSize);
  for (let i = 0; i < 2; i++) {
    const peer = new Peer();
    rig.connect(peer);
    rig.peers.push(peer);
  }
  for (const step of steps) {
    const peer = "who" in step ? rig.peers[step.who]! : rig.peers[0]!;
    switch (step.do) {
      case "publish":
        rig.publish(step.key, step.owner, step.lamports, step.pick);
        break;
      case "slot":
        rig.slot(step.isMain, step.pick);
        break;
      case "kill":
        rig.kill(step.pick);
        break;
      case "finalize":
        rig.finalize(step.pick);
        break;
      case "filter":
        rig.addFilter(peer, step.keys, step.owner, step.rich);
        break;
      case "keys":
        rig.addKeys(peer, step.pick, step.keys);
        break;
      case "drop":
        rig.dropFilter(peer, step.pick);
        break;
      case "reconnect":
        rig.reconnect(peer);
        break;
      case "read":
        rig.read(peer, step.pick);
        break;
      case "pump":
        rig.pump();
        break;
      case "check":
        rig.check();
    }
  }
  rig.check();
  for (const [what, count] of Object.entries(rig.seen)) totals[what] = (totals[what] ?? 0) + count;
}

function check(runs: number, dataSize: number): void {
  const { QLASTER_MODEL_SEED } = process.env;
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 20, maxLength: 150, size: "max" }),
      (steps) => run(steps, dataSize),
    ),
    {
      numRuns: Math.ceil(runs * scale),
      ...QLASTER_MODEL_SEED === undefined ? {} : { seed: Number(QLASTER_MODEL_SEED) },
    },
  );
  if (process.env.QLASTER_MODEL_VERBOSE !== undefined) console.log(totals);
}

test("State: once all is read, a consumer has what holds; no account steps back, none comes twice", () => {
  check(600, 100);
});

test("State: the same with rings that are full most of the time", () => {
  check(150, 9_000);
});

test("State: what a dead bank wrote, and is replayed, keeps no older version out that holds", () => {
  const main = { do: "slot", isMain: true, pick: 0 } as const;
  const write = { do: "publish", key: 4, owner: 0, lamports: 0 } as const;
  run([
    ...[main, main, main, { ...main, isMain: false }],
    { ...write, pick: 4 }, // in the bank of the fork, which dies
    { do: "kill", who: 0, pick: 4 },
    { do: "filter", who: 1, keys: [], owner: 0, rich: false },
    { do: "reconnect", who: 1, pick: 0 },
    main,
    { ...write, pick: 0 }, // in the first slot, which is the older one
  ], 100);
});
