/**
 * The fan-out's calls into the native library: what each returns, and that no handle, number or buffer that is not what
 * it must be does more than give a status. What a fan-out does is said by tests/model and by the Zig tests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { guarded, type Held } from "../support/guarded.ts";
import { accountUpdate, slotUpdate } from "../unit/support/updates.ts";
import {
  DemandHead,
  DemandRecord,
  EndReason,
  FanoutConsumer,
  FanoutConsumerInfo,
  FanoutInfo,
  FanoutOptions,
  FilterBody,
  FilterOp,
  POOL_BYTES_MIN,
  RESERVED_BYTES_MIN,
  StatBeat,
  StatIdentity,
  Status,
  SYMBOLS,
} from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import type { AccountUpdate } from "../../src/types.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import { NONSENSE, notedLibrary } from "./support/noted_library.ts";

const CAPACITY = 65_536;
const { native, called } = notedLibrary();

function fanoutOptions(poolBytes = 0): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(FanoutOptions.size));
  view.setUint32(FanoutOptions.keysMax, 1000, true);
  view.setUint32(FanoutOptions.keysPerConsumerMax, 100, true);
  view.setUint32(FanoutOptions.poolBytes, poolBytes, true);
  view.setUint32(FanoutOptions.poolThreshold, 4096, true);
  view.setUint32(FanoutOptions.trackedMax, 100, true);
  return new Uint8Array(view.buffer);
}

function consumerOptions(fields: Partial<Record<"policy" | "backlogBytes", number>> = {}): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(FanoutConsumer.size));
  view.setUint32(FanoutConsumer.policy, fields.policy ?? 0, true);
  view.setUint32(FanoutConsumer.statuses, 0xffffffff, true);
  view.setUint32(FanoutConsumer.backlogBytes, fields.backlogBytes ?? 0, true);
  return new Uint8Array(view.buffer);
}

interface Scene {
  readonly library: Native;
  readonly fanout: number;
  readonly producer: number;
  readonly id: number;
}

/** A fan-out with one consumer, whose ring nobody reads. */
async function scene(held: Held, poolBytes = 0): Promise<Scene> {
  const library = await native();
  const fanout = library.fanoutCreate(fanoutOptions(poolBytes));
  assert.ok(fanout >= 0, `fanoutCreate gave ${fanout}`);
  held.defer(() => void library.close(fanout));
  const passed = new Int32Array(2);
  const producer = library.ringCreate(CAPACITY, RESERVED_BYTES_MIN, 1, new Uint8Array(16), passed);
  assert.ok(producer >= 0, `ringCreate gave ${producer}`);
  held.defer(() => void library.close(producer));
  for (const fd of passed) library.fdClose(fd);
  const id = library.fanoutAdd(fanout, producer, consumerOptions());
  assert.equal(id, 0);
  return { library, fanout, producer, id };
}

interface Frame {
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

const encoder = new FrameEncoder();

function frame(): Frame {
  return { head: encoder.head.slice(0, encoder.headLength), tail: encoder.tail.slice() };
}

function account(fields: Partial<AccountUpdate> = {}): Frame {
  encoder.account(accountUpdate(fields));
  return frame();
}

function slot(): Frame {
  const none = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };
  encoder.slot(slotUpdate(), none);
  return frame();
}

function publish({ library, fanout }: Scene, { head, tail }: Frame): number {
  return library.fanoutPublish(fanout, head, head.length, tail, tail.length, 0);
}

/** A filter's edit that adds keys of owners. */
function edit(owners: readonly Uint8Array[], fields: Partial<Record<"bit" | "ownerCount", number>> = {}): Uint8Array {
  const bytes = new Uint8Array(FilterBody.size + 32 * owners.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(FilterBody.op, FilterOp.add);
  view.setUint8(FilterBody.bit, fields.bit ?? 0);
  view.setUint8(FilterBody.isLast, 1);
  view.setUint32(FilterBody.ownerCount, fields.ownerCount ?? owners.length, true);
  owners.forEach((owner, i) => bytes.set(owner, FilterBody.size + 32 * i));
  return bytes;
}

guarded("Native.fanoutPublish() gives an update to who asked for it, and says to how many", async (held) => {
  const place = await scene(held);
  const { library, fanout, id } = place;
  assert.equal(publish(place, account()), 0, "nobody asked");
  const wanted = edit([accountUpdate().owner as Uint8Array]);
  assert.equal(library.fanoutEdit(fanout, id, wanted, wanted.length), 0);
  assert.equal(publish(place, account()), 1);
  assert.equal(publish(place, slot()), 1, "slots are everybody's");
  encoder.filterMark(1);
  const mark = frame().head;
  assert.equal(library.fanoutMark(fanout, id, mark, mark.length), 0);
  assert.equal(library.fanoutCommit(fanout), 0);
  assert.equal(library.fanoutFlush(fanout, id), 1, "nothing waits");
  assert.equal(library.fanoutSweep(fanout, 0), 1, "nothing is left to do");

  const info = new Float64Array(FanoutInfo.size / 8);
  assert.equal(library.fanoutInfo(fanout, info), 0);
  assert.deepEqual([info[FanoutInfo.accounts / 8], info[FanoutInfo.slots / 8], info[FanoutInfo.sequence / 8]], [
    2,
    1,
    3,
  ]);
  const of = new Float64Array(FanoutConsumerInfo.size / 8);
  assert.equal(library.fanoutConsumerInfo(fanout, id, of), 0);
  assert.equal(of[FanoutConsumerInfo.frames / 8], 2);
});

guarded("Native.fanoutPublishMany() says how far it came; the rest is untouched by a faulty frame", async (held) => {
  const place = await scene(held);
  const { library, fanout } = place;
  const item = ({ head, tail }: Frame) => {
    const padded = (length: number) => (length + 7) & ~7;
    const bytes = new Uint8Array(8 + padded(head.length) + padded(tail.length));
    new DataView(bytes.buffer).setUint32(0, head.length, true);
    new DataView(bytes.buffer).setUint32(4, tail.length, true);
    bytes.set(head, 8);
    bytes.set(tail, 8 + padded(head.length));
    return bytes;
  };
  const many = (...items: Uint8Array[]) => {
    const bytes = new Uint8Array(8 + items.reduce((sum, { length }) => sum + length, 0));
    let at = 8;
    for (const each of items) {
      bytes.set(each, at);
      at += each.length;
    }
    return bytes;
  };
  const done = (bytes: Uint8Array) => Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const two = many(item(slot()), item(slot()));
  assert.equal(library.fanoutPublishMany(fanout, two, two.length, 1), 2);
  assert.equal(done(two), two.length - 8);
  const broken = item(slot());
  new DataView(broken.buffer).setUint32(0, 0xfffffff0, true);
  const half = many(item(slot()), broken);
  assert.equal(library.fanoutPublishMany(fanout, half, half.length, 1), Status.badArgument);
  assert.equal(done(half), broken.length, "the first was published");
  assert.equal(library.fanoutPublishMany(fanout, two, 7, 1), Status.badArgument);
});

guarded("Native.fanoutEvent() names who has to be ended, once, and why", async (held) => {
  const place = await scene(held);
  const { library, fanout, id } = place;
  assert.equal(library.fanoutEvent(fanout), Status.wouldBlock);
  const wanted = edit([accountUpdate().owner as Uint8Array]);
  assert.equal(library.fanoutEdit(fanout, id, wanted, wanted.length), 0);
  const large = account({ data: new Uint8Array(20_000) });
  for (let i = 0; i < 4; i++) publish(place, large);
  const event = library.fanoutEvent(fanout);
  assert.deepEqual([event & 0xffff, event >>> 16], [id, EndReason.slowConsumer]);
  assert.equal(library.fanoutEvent(fanout), Status.wouldBlock);
  assert.equal(library.fanoutRemove(fanout, id, 1), 0);
  assert.equal(
    library.fanoutConsumerInfo(fanout, id, new Float64Array(FanoutConsumerInfo.size / 8)),
    Status.badArgument,
  );
});

guarded("Native.fanoutPoolFd() is a new descriptor each time, or unsupported", async (held) => {
  const without = await scene(held);
  assert.equal(without.library.fanoutPoolFd(without.fanout), Status.unsupported);
  const { library, fanout } = await scene(held, POOL_BYTES_MIN);
  const fds = [library.fanoutPoolFd(fanout), library.fanoutPoolFd(fanout)];
  assert.ok(fds.every((fd) => fd > 2) && fds[0] !== fds[1], `${fds}`);
  for (const fd of fds) library.fdClose(fd);
});

guarded("Native.fanoutDemand() tells what has changed since it told last, as far as there is room", async (held) => {
  const { library, fanout, id } = await scene(held);
  const out = new Uint8Array(DemandHead.size + 2 * DemandRecord.size);
  const head = new DataView(out.buffer);
  assert.equal(library.fanoutDemand(fanout, out, 2, 100), Status.badArgument, "it was not started");
  const owners = [1, 2, 3].map((byte) => new Uint8Array(32).fill(byte));
  const wanted = edit(owners);
  assert.equal(library.fanoutEdit(fanout, id, wanted, wanted.length), 0);
  assert.equal(library.fanoutDemandStart(fanout), 0);
  assert.equal(library.fanoutDemandStart(fanout), 0, "twice is once");
  assert.equal(library.fanoutDemand(fanout, out, 2, 0), 0, "without a step");
  assert.equal(head.getUint32(DemandHead.isDone, true), 0);
  assert.equal(library.fanoutDemand(fanout, out, 2, 100), 2);
  assert.equal(head.getUint32(DemandHead.isDone, true), 0);
  assert.equal(library.fanoutDemand(fanout, out, 2, 100), 1);
  assert.equal(head.getUint32(DemandHead.isDone, true), 1);
  const record = out.subarray(DemandHead.size);
  assert.deepEqual([record[DemandRecord.kind], record[DemandRecord.was], record[DemandRecord.now]], [1, 0, 1]);
  assert.equal(library.fanoutDemand(fanout, out, 2, 100), 0, "nothing has changed");
  assert.equal(library.fanoutDemand(fanout, out, 2 ** 20 + 1, 100), Status.badArgument);
});

guarded("Native.fanoutClock() takes any time of this era, and no nonsense", async (held) => {
  const { library, fanout } = await scene(held); // what updates are stamped with then: tests/testing
  for (const us of [1_000_000.5, 2 ** 53, 0]) assert.equal(library.fanoutClock(fanout, us), 0);
  for (const nonsense of [-1, NaN, Infinity, 2 ** 53 + 2]) {
    assert.equal(library.fanoutClock(fanout, nonsense), Status.badArgument);
  }
});

guarded("Native.fanout…() refuse handles and numbers that are not theirs", async (held) => {
  const { library, fanout, producer, id } = await scene(held);
  const info = new Float64Array(Math.max(FanoutInfo.size, FanoutConsumerInfo.size) / 8);
  const { head, tail } = account();
  const body = edit([]);
  const many = new Uint8Array(8);
  const calls: Record<string, (handle: number) => number> = {
    fanoutPoolFd: (handle) => library.fanoutPoolFd(handle),
    fanoutAdd: (handle) => library.fanoutAdd(handle, producer, consumerOptions()),
    fanoutRemove: (handle) => library.fanoutRemove(handle, 9, 0),
    fanoutSweep: (handle) => library.fanoutSweep(handle, 0),
    fanoutClock: (handle) => library.fanoutClock(handle, 1),
    fanoutPump: (handle) => library.fanoutPump(handle),
    fanoutEdit: (handle) => library.fanoutEdit(handle, id, body, body.length),
    fanoutPublish: (handle) => library.fanoutPublish(handle, head, head.length, tail, tail.length, 0),
    fanoutPublishMany: (handle) => library.fanoutPublishMany(handle, many, many.length, 1),
    fanoutCommit: (handle) => library.fanoutCommit(handle),
    fanoutFlush: (handle) => library.fanoutFlush(handle, id),
    fanoutMark: (handle) => library.fanoutMark(handle, id, head, head.length),
    fanoutEvent: (handle) => library.fanoutEvent(handle),
    fanoutDemandStart: (handle) => library.fanoutDemandStart(handle),
    fanoutDemand: (handle) => library.fanoutDemand(handle, many, 0, 1),
    fanoutStatAnnounce: (handle) => library.fanoutStatAnnounce(handle, 0),
    fanoutStatIdentify: (handle) => library.fanoutStatIdentify(handle, id, new Uint8Array(StatIdentity.size)),
    fanoutStatBeat: (handle) => library.fanoutStatBeat(handle, new Float64Array(StatBeat.size / 8)),
    fanoutInfo: (handle) => library.fanoutInfo(handle, info),
    fanoutConsumerInfo: (handle) => library.fanoutConsumerInfo(handle, id, info),
  };
  const closed = library.fanoutCreate(fanoutOptions());
  assert.equal(library.close(closed), 0);
  for (const [name, call] of Object.entries(calls)) {
    for (const handle of [...NONSENSE, closed, producer]) {
      assert.equal(call(handle), Status.badHandle, `${name} of ${handle}`);
    }
  }
  for (const ring of NONSENSE) assert.equal(library.fanoutAdd(fanout, ring, consumerOptions()), Status.badHandle);
  for (const nobody of [1, 4095, 65_535, 65_536, 0xffffffff]) {
    assert.equal(library.fanoutRemove(fanout, nobody, 0), 0, "as after a second removal");
    assert.equal(library.fanoutEdit(fanout, nobody, body, body.length), Status.badArgument);
    assert.equal(library.fanoutMark(fanout, nobody, head, head.length), Status.badArgument);
    assert.equal(library.fanoutConsumerInfo(fanout, nobody, info), Status.badArgument);
    assert.ok(library.fanoutFlush(fanout, nobody) >= 0);
  }
});

guarded("Native.fanout…() refuse buffers that are gone, and bytes that make no sense", async (held) => {
  const { library, fanout, producer, id } = await scene(held);
  const gone = new Uint8Array(64);
  gone.buffer.transfer();
  const goneDoubles = new Float64Array(8);
  goneDoubles.buffer.transfer();
  const { head } = account();
  const long = edit([], { ownerCount: 0x7ffffff });
  const far = edit([], { bit: 64 });
  const calls: Record<string, () => number> = {
    fanoutCreate: () => library.fanoutCreate(gone),
    fanoutAdd: () => library.fanoutAdd(fanout, producer, gone),
    "fanoutEdit's body": () => library.fanoutEdit(fanout, id, gone, 64),
    "fanoutEdit's length": () => library.fanoutEdit(fanout, id, long, 3),
    "fanoutEdit's keys": () => library.fanoutEdit(fanout, id, long, long.length),
    "fanoutEdit's bit": () => library.fanoutEdit(fanout, id, far, far.length),
    "fanoutPublish's head": () => library.fanoutPublish(fanout, gone, 64, gone, 0, 0),
    "fanoutPublish's tail": () => library.fanoutPublish(fanout, head, head.length, gone, 64, 0),
    "fanoutPublish's lengths": () => library.fanoutPublish(fanout, head, 8, head, 0, 0),
    fanoutPublishMany: () => library.fanoutPublishMany(fanout, gone, 64, 0),
    fanoutSeed: () => library.fanoutSeed(fanout, gone, 64, gone, 0),
    "fanoutAdopt's sequence": () => library.fanoutAdopt(fanout, -1, 0, 0),
    "fanoutAdopt's slot": () => library.fanoutAdopt(fanout, 0, 2 ** 54, 0),
    "fanoutAdopt's accounts": () => library.fanoutAdopt(fanout, 0, 0, NaN),
    fanoutStart: () => library.fanoutStart(fanout, 4000),
    fanoutMark: () => library.fanoutMark(fanout, id, gone, 64),
    fanoutDemand: () => library.fanoutDemand(fanout, gone, 1, 1),
    fanoutStatIdentify: () => library.fanoutStatIdentify(fanout, id, gone),
    fanoutStatBeat: () => library.fanoutStatBeat(fanout, goneDoubles),
    fanoutInfo: () => library.fanoutInfo(fanout, goneDoubles),
    fanoutConsumerInfo: () => library.fanoutConsumerInfo(fanout, id, goneDoubles),
  };
  for (const [name, call] of Object.entries(calls)) assert.equal(call(), Status.badArgument, name);
});

guarded("Native.fanoutFreeze() keeps everybody from publishing until it is taken back", async (held) => {
  const { library, fanout } = await scene(held);
  const { head } = account();
  const publish = () => library.fanoutPublish(fanout, head, head.length, new Uint8Array(0), 0, 0);
  assert.equal(library.fanoutFreeze(fanout, 1), 0);
  assert.equal(publish(), Status.badHandle);
  assert.equal(library.fanoutPublishMany(fanout, new Uint8Array(64), 64, 1), Status.badHandle);
  assert.equal(library.fanoutFreeze(fanout, 0), 0);
  assert.notEqual(publish(), Status.badHandle);
  assert.equal(library.fanoutFreeze(2 ** 20 - 1, 1), Status.badHandle);
});

guarded("Native: every symbol of the fan-out was called by these cases", () => {
  const missing = Object.keys(SYMBOLS).filter((name) => name.startsWith("fanout") && !called.has(name));
  assert.deepEqual(missing, []);
  return Promise.resolve();
});
