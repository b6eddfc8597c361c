/**
 * What a cache keeps, against a plain model: versions, filters that match and those in doubt, room.
 * May touch: src/cache, frames without a ring.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AccountStore, type RemovalReason } from "../../src/cache/account_store.ts";
import { Arena, type Block, blockSize } from "../../src/cache/arena.ts";
import type { AccountPlace, AccountView } from "../../src/stream/view.ts";
import type { AccountUpdate } from "../../src/types.ts";
import { type FrameFields, FrameMemory } from "./support/account_frames.ts";
import { accountUpdate, keyOf, patternBytes } from "./support/updates.ts";

const MIB = 1024 * 1024;

function write(store: AccountStore, view: AccountView): boolean {
  const place = {} as AccountPlace;
  view.locate(place);
  return store.write(place) !== undefined;
}

function storeOf(bytesMax = MIB, removed: [key: number, reason: RemovalReason][] = []): AccountStore {
  return new AccountStore(bytesMax, undefined, () => 0, {
    onRemoved: (_entry, key, reason) => void removed.push([key[31]!, reason]),
  });
}

test("Arena: blocks never overlap, and what is given back is given out again, within its bytes", () => {
  fc.assert(fc.property(
    fc.array(
      fc.oneof(
        fc.record({ take: fc.oneof(fc.nat({ max: 1200 }), fc.nat({ max: 300_000 })) }),
        fc.record({ give: fc.nat() }),
      ),
      { maxLength: 300, size: "max" },
    ),
    (steps) => {
      const arena = new Arena(MIB);
      const blocks: (Block & { readonly fill: number; readonly bytes: number })[] = [];
      let fill = 0;
      for (const step of steps) {
        if ("take" in step) {
          const bytes = step.take + 1;
          const block = arena.allocate(bytes);
          if (block === undefined) continue;
          assert.ok(arena.fits(block.chunk, bytes) && block.at % 64 === 0);
          fill = (fill + 1) % 251;
          block.chunk.bytes.fill(fill, block.at, block.at + bytes);
          blocks.push({ ...block, fill, bytes });
        } else if (blocks.length > 0) {
          const [block] = blocks.splice(step.give % blocks.length, 1);
          arena.release(block!.chunk, block!.at);
        }
        assert.ok(arena.bytes <= MIB);
      }
      for (const { chunk, at, fill, bytes } of blocks) {
        assert.ok(chunk.bytes.subarray(at, at + bytes).every((byte) => byte === fill));
      }
      for (const { chunk, at } of blocks) arena.release(chunk, at);
      assert.ok(arena.allocate(MIB / 2) !== undefined, "what is kept for small ones is there for large ones");
    },
  ));
});

test("Arena: a block's size is at most an eighth more than what is asked for, or a step of 64", () => {
  for (let bytes = 1; bytes < 20 * MIB; bytes += 1 + Math.floor(bytes / 7)) {
    const size = blockSize(bytes);
    assert.ok(size >= bytes && size <= Math.max(bytes + 64, bytes * 1.126), `${size} for ${bytes}`);
    assert.equal(blockSize(size), size);
  }
});

test("AccountStore: an account as it was written, with all its fields; a copy lasts, a peek does not", () => {
  const store = storeOf();
  const memory = new FrameMemory();
  const update = accountUpdate({
    pubkey: keyOf(3),
    data: patternBytes(165, 1),
    writeVersion: 7n,
    bankId: 8n,
    rentEpoch: 9n,
    executable: true,
    startup: true,
    signature: patternBytes(64, 2),
    sourceEpoch: 3,
    sourceNs: 5n,
  });
  const view = memory.account(update, { mask: 5n, sequence: 12n });
  assert.ok(write(store, view));
  const entry = store.find(keyOf(3))!;
  const copy = store.copyOf(entry)!;
  assert.deepEqual(copy.copy(), view.copy());
  assert.deepEqual(store.peek(entry)!.copy(), view.copy());
  assert.equal(store.copyOf(entry), copy, "the same object until the next write");
  assert.equal(copy.filterMask, 5n);
  const before = copy.copy();
  const second = memory.account({
    ...update,
    signature: undefined,
    data: patternBytes(3, 9),
    lamports: 1n,
    writeVersion: 8n,
  });
  assert.ok(write(store, second));
  assert.deepEqual(copy.copy(), before);
  assert.notEqual(store.copyOf(entry), copy);
  assert.deepEqual(store.copyOf(entry)!.copy(), second.copy());
});

test("AccountStore: data of every length up to 1,100 bytes, wherever they stand", () => {
  const store = storeOf(8 * MIB);
  const memory = new FrameMemory();
  for (let length = 0; length < 1100; length++) {
    const view = memory.account(accountUpdate({ data: patternBytes(length, length) }));
    assert.ok(write(store, view));
    assert.deepEqual(store.peek(store.find(keyOf(1))!)!.copy(), view.copy());
  }
});

test("AccountStore: keys that begin alike are told apart", () => {
  const store = storeOf();
  const memory = new FrameMemory();
  const keys = Array.from({ length: 5 }, (_, i) => {
    const key = keyOf(1);
    key[31] = i;
    return key;
  });
  keys.forEach((pubkey, i) => write(store, memory.account(accountUpdate({ pubkey, lamports: BigInt(i) }))));
  assert.equal(store.size, 5);
  store.withdraw(keys[2]!);
  assert.equal(store.find(keys[2]!), undefined);
  store.withdraw(keys[0]!);
  store.withdraw(keys[4]!);
  assert.deepEqual(keys.map((key) => store.find(key) !== undefined), [false, true, false, true, false]);
  assert.deepEqual([...store.known()].map((entry) => store.peek(entry)!.lamports).sort(), [1n, 3n]);
});

interface ModelEntry {
  update: AccountUpdate;
  mask: bigint;
  doubt: bigint;
  epoch: number;
  generation: number;
  /** Of what came as state, or was said by an earlier write, by bit. */
  states: Map<bigint, number>;
}

function* bitsOf(mask: bigint): Generator<bigint> {
  for (let bit = 1n; bit <= mask; bit <<= 1n) if ((mask & bit) !== 0n) yield bit;
}

/** The same rules, plainly. */
class Model {
  readonly accounts = new Map<number, ModelEntry>();
  readonly removed: [number, RemovalReason][] = [];
  epoch = 0;
  generation = 0;
  /** Filters that take changes only. */
  changes = 0n;

  write(key: number, update: AccountUpdate, { mask = 1n, isState = false, isRestored = false }: FrameFields): void {
    const found = this.accounts.get(key);
    const isSame = found !== undefined && found.epoch === this.epoch;
    const isOlder = isSame && !isRestored && compare(update, found.update) < 0;
    if (isOlder && !isState) return;
    const entry: ModelEntry = found ??
      { update, mask: 0n, doubt: 0n, epoch: 0, generation: 0, states: new Map() };
    if (!isOlder) entry.update = update;
    // What a write does not say holds as it was said.
    const kept = entry.mask & this.changes & ~mask;
    const before = new Map([...bitsOf(kept)].map((bit) => [bit, entry.states.get(bit) ?? entry.generation]));
    entry.mask = isState ? entry.mask | mask : mask | kept;
    entry.epoch = this.epoch;
    entry.doubt &= ~mask;
    if (isState) {
      for (const bit of bitsOf(mask)) entry.states.set(bit, this.generation);
    } else {
      entry.states = before;
      entry.generation = this.generation;
    }
    this.accounts.set(key, entry);
  }

  #check(key: number, entry: ModelEntry, reason: RemovalReason): void {
    if ((entry.mask | entry.doubt) !== 0n) return;
    this.accounts.delete(key);
    this.removed.push([key, reason]);
  }

  leave(key: number, mask: bigint): void {
    const entry = this.accounts.get(key);
    if (entry === undefined) return;
    entry.mask &= ~mask;
    entry.doubt &= ~mask;
    this.#check(key, entry, "left");
  }

  withdraw(key: number): void {
    if (this.accounts.delete(key)) this.removed.push([key, "withdrawn"]);
  }

  #isBefore(entry: ModelEntry, bit: bigint, generation: number): boolean {
    return (entry.states.get(bit) ?? entry.generation) < generation;
  }

  forgetVersions(): void {
    this.epoch++;
  }

  doubtAll(): void {
    this.epoch++;
    for (const entry of this.accounts.values()) {
      entry.doubt |= entry.mask;
      entry.mask = 0n;
    }
  }

  doubtFilter(bit: bigint, generation: number): void {
    for (const entry of this.accounts.values()) {
      if (!this.#isBefore(entry, bit, generation)) continue;
      entry.doubt |= entry.mask & bit;
      entry.mask &= ~bit;
    }
  }

  settle(bit: bigint, reason: RemovalReason): void {
    for (const [key, entry] of [...this.accounts]) {
      if ((entry.doubt & bit) === 0n) continue;
      entry.doubt &= ~bit;
      this.#check(key, entry, reason);
    }
  }

  drop(bit: bigint, generation: number, isGone: (key: number) => boolean): void {
    for (const [key, entry] of [...this.accounts]) {
      const isBefore = (entry.mask & bit) !== 0n && this.#isBefore(entry, bit, generation);
      if (((entry.doubt & bit) === 0n && !isBefore) || !isGone(key)) continue;
      this.leave(key, bit);
    }
  }
}

function compare(a: AccountUpdate, b: AccountUpdate): number {
  for (const name of ["sourceEpoch", "slot", "bankId", "writeVersion"] as const) {
    const [x, y] = [BigInt(a[name] ?? 0), BigInt(b[name] ?? 0)];
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
}

test("AccountStore does what the model says, whatever happens", () => {
  const key = fc.nat({ max: 7 });
  const bit = fc.constantFrom(0, 1, 40);
  const mask = fc.uniqueArray(bit, { minLength: 1, maxLength: 3 }).map((bits) =>
    bits.reduce((all, one) => all | 1n << BigInt(one), 0n)
  );
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        op: fc.constant("write" as const),
        key,
        slot: fc.nat({ max: 3 }).map(BigInt),
        writeVersion: fc.constantFrom(0n, 1n, 2n ** 40n),
        bankId: fc.constantFrom(0n, 0n, 1n),
        sourceEpoch: fc.constantFrom(0, 0, 0, 1),
        length: fc.constantFrom(0, 8, 165, 166, 600, 3000),
        mask,
        isState: fc.constantFrom(false, false, true),
        isRestored: fc.constantFrom(false, false, false, true),
      }),
    },
    fc.record({ op: fc.constant("leave" as const), key, mask }),
    fc.record({ op: fc.constant("withdraw" as const), key }),
    fc.record({ op: fc.constantFrom("reconnect" as const, "loss" as const) }),
    fc.record({ op: fc.constant("mark" as const) }),
    fc.record({ op: fc.constant("changes" as const), bit, isSo: fc.boolean() }),
    fc.record({ op: fc.constantFrom("doubt" as const, "settle" as const), bit, ago: fc.nat({ max: 1 }) }),
    fc.record({ op: fc.constant("drop" as const), bit, ago: fc.nat({ max: 1 }), keys: fc.uniqueArray(key) }),
    fc.record({ op: fc.constant("get" as const), key }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
      const removed: [number, RemovalReason][] = [];
      const store = storeOf(8 * MIB, removed);
      const model = new Model();
      const memory = new FrameMemory();
      // The first six bytes of all keys are equal, of some the first eight.
      const keyBytes = (number: number) => {
        const bytes = new Uint8Array(32).fill(9);
        bytes[7] = number & 2;
        bytes[31] = number;
        return bytes;
      };
      const given: { readonly view: AccountView; readonly copy: unknown }[] = [];
      let lamports = 0n;
      for (const one of steps) {
        switch (one.op) {
          case "write": {
            const { slot, writeVersion, bankId, sourceEpoch, length } = one;
            lamports++;
            const pubkey = keyBytes(one.key);
            const data = patternBytes(length, Number(lamports));
            const update = accountUpdate({ pubkey, slot, writeVersion, bankId, sourceEpoch, data, lamports });
            store.generation = model.generation;
            write(store, memory.account(update, one));
            model.write(one.key, update, one);
            break;
          }
          case "leave":
            store.leave(keyBytes(one.key), Number(one.mask & 0xffffffffn), Number(one.mask >> 32n));
            model.leave(one.key, one.mask);
            break;
          case "withdraw":
            store.withdraw(keyBytes(one.key));
            model.withdraw(one.key);
            break;
          case "reconnect":
            store.doubtAll();
            model.doubtAll();
            break;
          case "loss":
            store.forgetVersions();
            model.forgetVersions();
            break;
          case "mark":
            model.generation++;
            break;
          case "changes":
            store.setChangesOnly(one.bit, one.isSo);
            if (one.isSo) model.changes |= 1n << BigInt(one.bit);
            else model.changes &= ~(1n << BigInt(one.bit));
            break;
          case "doubt":
            store.doubtFilter(one.bit, model.generation - one.ago);
            model.doubtFilter(1n << BigInt(one.bit), model.generation - one.ago);
            break;
          case "settle":
            store.settle(one.bit, "unconfirmed");
            model.settle(1n << BigInt(one.bit), "unconfirmed");
            break;
          case "drop":
            store.drop(one.bit, model.generation - one.ago, (key) => one.keys.includes(key[31]!));
            model.drop(1n << BigInt(one.bit), model.generation - one.ago, (key) => one.keys.includes(key));
            break;
          case "get": {
            const entry = store.find(keyBytes(one.key));
            const view = entry === undefined ? undefined : store.copyOf(entry);
            if (view !== undefined) given.push({ view, copy: view.copy() });
          }
        }
        assert.equal(store.size, model.accounts.size);
      }
      assert.deepEqual(removed.map(String).sort(), model.removed.map(String).sort());
      const known = new Map([...store.known()].map((entry) => [store.keyOf(entry)[31]!, store.peek(entry)!.copy()]));
      assert.deepEqual([...known.keys()].sort(), [...model.accounts.keys()].sort());
      for (const [number, { update, mask }] of model.accounts) {
        const entry = store.find(keyBytes(number))!;
        assert.equal(store.peek(entry)!.filterMask, mask);
        const view = store.copyOf(entry)!;
        assert.deepEqual([view.lamports, view.slot], [update.lamports, update.slot]);
        assert.deepEqual(view.data, update.data);
      }
      for (const { view, copy } of given) assert.deepEqual(view.copy(), copy, "what was given out has not changed");
      const all = [...model.accounts.keys()];
      for (const number of all) store.withdraw(keyBytes(number));
      assert.equal(store.size, 0);
    }),
    { numRuns: 400 },
  );
});

test("AccountStore: what finds no room is left out and counted; what is there stays right", () => {
  const removed: [number, RemovalReason][] = [];
  const store = storeOf(64 * 1024, removed);
  const memory = new FrameMemory();
  const keyNumber = (i: number) => {
    const key = keyOf(i);
    key[31] = i;
    return key;
  };
  for (let i = 0; i < 200; i++) {
    write(store, memory.account(accountUpdate({ pubkey: keyNumber(i), lamports: BigInt(i) })));
  }
  assert.ok(store.refused > 0 && store.size === 200 - store.refused && store.bytes <= 64 * 1024);
  const { size } = store;
  // One that grows beyond what there is goes: its old version would be a lie.
  write(store, memory.account(accountUpdate({ pubkey: keyNumber(1), data: new Uint8Array(100_000), slot: 78n })));
  assert.deepEqual(removed, [[1, "full"]]);
  assert.equal(store.size, size - 1);
  assert.equal(store.find(keyNumber(1)), undefined);
  assert.ok(write(store, memory.account(accountUpdate({ pubkey: keyNumber(250) }))), "its room is there for another");
});
