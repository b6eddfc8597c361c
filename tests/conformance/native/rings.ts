/**
 * Cases over `Native`: both ends of a ring, made and joined, written and read, slept over and taken away.
 * May touch: the native library through `load()`, libc for descriptors of other types.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  AccountBody,
  EndReason,
  FrameHeader,
  FrameKind,
  RESERVED_BYTES_MIN,
  RingInfo,
  Status,
  SYMBOLS,
} from "../../../src/native/abi.generated.ts";
import { eventually, footprintOf, settlesAt } from "../../support/footprint.ts";
import { guarded } from "../../support/guarded.ts";
import * as libc from "../../support/libc.ts";
import {
  accountHead,
  CAPACITY,
  infoOf,
  native,
  offer,
  poll,
  ringPair,
  SLOT_SIZE,
  slotFrame,
} from "../support/native_cases.ts";
import { NONSENSE } from "../support/noted_library.ts";

guarded("Native.ringCreate() refuses sizes that are none", async () => {
  const library = await native();
  const id = new Uint8Array(16);
  const passed = new Int32Array(2);
  for (const capacity of [0, 1, 32768, 65535, 65537, 100_000, 0x80000000, 0xffffffff]) {
    assert.equal(library.ringCreate(capacity, RESERVED_BYTES_MIN, 1, id, passed), Status.badArgument, `${capacity}`);
  }
  for (const reserved of [0, 8, RESERVED_BYTES_MIN - 8, RESERVED_BYTES_MIN + 1, CAPACITY / 2 + 8, 0xffffffff]) {
    assert.equal(library.ringCreate(CAPACITY, reserved, 1, id, passed), Status.badArgument, `${reserved}`);
  }
  for (const connection of [-1, NaN, Infinity, 2 ** 54]) {
    assert.equal(
      library.ringCreate(CAPACITY, RESERVED_BYTES_MIN, connection, id, passed),
      Status.badArgument,
      `${connection}`,
    );
  }
});

guarded("Native.ringJoin() takes both descriptors over, whatever the outcome, and checks what they are", async () => {
  const library = await native();
  const uid = library.uid();
  const create = () => {
    const passed = new Int32Array(2);
    const ring = library.ringCreate(CAPACITY, RESERVED_BYTES_MIN, 1, new Uint8Array(16), passed);
    return { ring, ringFd: passed[0]!, pageFd: passed[1]! };
  };
  const before = footprintOf("self");
  const cases: [name: string, status: number, join: (fds: { ringFd: number; pageFd: number }) => number][] = [
    [
      "another capacity",
      Status.badSize,
      ({ ringFd, pageFd }) => library.ringJoin(ringFd, pageFd, -1, 2 * CAPACITY, 0, uid),
    ],
    ["no capacity", Status.badArgument, ({ ringFd, pageFd }) => library.ringJoin(ringFd, pageFd, -1, 0, 0, uid)],
    ["swapped", Status.sealMissing, ({ ringFd, pageFd }) => library.ringJoin(pageFd, ringFd, -1, CAPACITY, 0, uid)],
    [
      "another user's",
      Status.wrongUid,
      ({ ringFd, pageFd }) => library.ringJoin(ringFd, pageFd, -1, CAPACITY, 0, uid + 1),
    ],
    ["no ring", Status.badDescriptor, ({ ringFd, pageFd }) => {
      library.fdClose(ringFd);
      return library.ringJoin(-1, pageFd, -1, CAPACITY, 0, uid);
    }],
    ["no page", Status.badDescriptor, ({ ringFd, pageFd }) => {
      library.fdClose(pageFd);
      return library.ringJoin(ringFd, -1, -1, CAPACITY, 0, uid);
    }],
    ["a ring that is no memory", Status.badDescriptor, ({ ringFd, pageFd }) => {
      library.fdClose(ringFd);
      return library.ringJoin(libc.eventfd(), pageFd, -1, CAPACITY, 0, uid);
    }],
    ["an unsealed page", Status.sealMissing, ({ ringFd, pageFd }) => {
      library.fdClose(pageFd);
      return library.ringJoin(ringFd, libc.memfd(65536), -1, CAPACITY, 0, uid);
    }],
    ["a page without magic", Status.badMagic, ({ ringFd, pageFd }) => {
      library.fdClose(pageFd);
      const page = libc.memfd(65536);
      libc.seal(page, libc.SEALS_SIZE);
      return library.ringJoin(ringFd, page, -1, CAPACITY, 0, uid);
    }],
    ["a ring without magic", Status.badMagic, ({ ringFd, pageFd }) => {
      library.fdClose(ringFd);
      const ring = libc.memfd(CAPACITY + 65536);
      libc.seal(ring, libc.SEALS_RING);
      return library.ringJoin(ring, pageFd, -1, CAPACITY, 0, uid);
    }],
  ];
  for (const [name, status, join] of cases) {
    const fds = create();
    assert.equal(join(fds), status, name);
    library.close(fds.ring);
  }
  await settlesAt("self", before);
});

guarded("Native.ringCreate() passes memory that nobody can resize, nor map writable", async () => {
  const library = await native();
  const passed = new Int32Array(2);
  const ring = library.ringCreate(CAPACITY, RESERVED_BYTES_MIN, 1, new Uint8Array(16), passed);
  for (const fd of passed) {
    assert.ok(libc.libc().ftruncate(fd, 0n) < 0);
    assert.ok(libc.libc().ftruncate(fd, 1n << 20n) < 0);
    assert.throws(() => libc.seal(fd, 8), /failed/);
  }
  assert.throws(() => new libc.Mapping(passed[0]!, CAPACITY), "the ring");
  new libc.Mapping(passed[1]!, 65536)[Symbol.dispose](); // the page is the consumer's to write
  for (const fd of passed) library.fdClose(fd);
  library.close(ring);
});

guarded("Native.ringOffer(), ringPoll() and ringRelease() pass frames in order, in place", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  assert.deepEqual(poll(library, consumer), []);
  const data = Uint8Array.from({ length: 13 }, (_, i) => i + 1);
  assert.deepEqual(offer(library, producer, accountHead(13), data), [1, 0]);
  assert.deepEqual(offer(library, producer, slotFrame()), [1, 0]);
  const records = poll(library, consumer) as number[][];
  const first = FrameHeader.size + AccountBody.size;
  const size = first + 16; // 13 bytes, padded
  assert.deepEqual(records, [
    [0, FrameKind.account, size, 0, first, 13, first, 0],
    [size, FrameKind.slot, SLOT_SIZE, 0, size + SLOT_SIZE, 0, size + SLOT_SIZE, 0],
  ]);
  const memory = library.memory(library.ringAddress(consumer), 2 * CAPACITY);
  assert.deepEqual(new Uint8Array(memory, first, 13), data);
  assert.deepEqual(new Uint8Array(memory, CAPACITY + first, 13), data, "mapped twice in a row");
  assert.ok(new DataView(memory).getBigUint64(FrameHeader.publishNs, true) > 1_700_000_000_000_000_000n);
  memory.transfer(0);

  assert.deepEqual(poll(library, consumer), [], "handed out once");
  assert.equal(library.ringRelease(consumer, size + SLOT_SIZE + 8), Status.badArgument);
  assert.equal(library.ringRelease(consumer, 4), Status.badArgument);
  assert.equal(library.ringRelease(consumer, size), 0);
  assert.equal(library.ringRelease(consumer, SLOT_SIZE), 0);
  assert.equal(library.ringRelease(consumer, 8), Status.badArgument);
  assert.equal(library.ringPoll(consumer, new Uint32Array(8), 0), 0);
});

guarded("Native.ringOffer() refuses what is no frame, and what can't fit", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  const targets = new Uint32Array([producer, 0]);
  const none = new Uint8Array(0);
  assert.equal(library.ringOffer(slotFrame(), FrameHeader.size - 1, none, 0, targets, 1, 1), Status.badArgument);
  assert.equal(
    library.ringOffer(slotFrame(), SLOT_SIZE, new Uint8Array(8), 0xffffffff, targets, 1, 1),
    Status.badArgument,
  );
  assert.equal(library.ringOffer(slotFrame(), SLOT_SIZE, none, 0, targets, 0, 1), 0, "no target is none refused");
  const limit = CAPACITY - RESERVED_BYTES_MIN - FrameHeader.size - AccountBody.size;
  assert.deepEqual(offer(library, producer, accountHead(limit + 1), new Uint8Array(limit + 1)), [0, Status.tooLarge]);
  assert.equal(infoOf(library, producer)(RingInfo.lostPending), 0, "whether it was lost is the fan-out's to say");
  assert.deepEqual(offer(library, producer, accountHead(limit), new Uint8Array(limit)), [1, 0]);
  assert.deepEqual(offer(library, producer, accountHead(0)), [0, Status.full]);
  // The reserved room is for slots and marks; it ends too.
  const slots = RESERVED_BYTES_MIN / SLOT_SIZE;
  for (let i = 0; i < slots; i++) assert.deepEqual(offer(library, producer, slotFrame()), [1, 0]);
  assert.deepEqual(offer(library, producer, slotFrame()), [0, Status.full]);
  const records = poll(library, consumer, 200) as number[][];
  assert.equal(records.length, 1 + slots);
  assert.equal(library.ringRelease(consumer, CAPACITY), 0);
  assert.deepEqual(offer(library, producer, accountHead(0)), [1, 0], "room is back");
});

guarded("Native.ringOffer() gives each of many targets its own status", async (held) => {
  const library = await native();
  const rings = Array.from({ length: 5 }, () => ringPair(held, library));
  const limit = CAPACITY - RESERVED_BYTES_MIN - FrameHeader.size - AccountBody.size;
  offer(library, rings[1]!.producer, accountHead(limit), new Uint8Array(limit)); // full
  library.close(rings[3]!.producer);
  const targets = new Uint32Array(rings.flatMap(({ producer }) => [producer, 99]));
  const head = accountHead(1);
  assert.equal(library.ringOffer(head, head.length, Uint8Array.of(1), 1, targets, 5, 1), 3);
  const statuses = new Int32Array(targets.buffer).filter((_, i) => i % 2 === 1);
  assert.deepEqual([...statuses], [0, Status.full, 0, Status.badHandle, 0]);
  for (const i of [0, 2, 4]) assert.equal((poll(library, rings[i]!.consumer) as number[][]).length, 1);
});

guarded("Native.ringCommit() shows what was offered, and nothing twice", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  const target = new Uint32Array([producer, 0]);
  for (let i = 0; i < 3; i++) assert.deepEqual(offer(library, producer, slotFrame(), undefined, 0), [1, 0]);
  assert.deepEqual(poll(library, consumer), []);
  assert.equal(library.ringCommit(target, 1), 0);
  assert.equal((poll(library, consumer) as number[][]).length, 3);
  assert.equal(library.ringCommit(target, 1), 0);
  assert.equal(library.ringCommit(Uint32Array.of(0xffffffff, 0), 1), 0, "who is gone is passed over");
  assert.deepEqual(poll(library, consumer), []);
  assert.equal(infoOf(library, producer)(RingInfo.producerCursor), 3 * SLOT_SIZE);
});

guarded("Native.ringInfo() says the same on both ends", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  offer(library, producer, slotFrame());
  offer(library, producer, slotFrame());
  poll(library, consumer);
  library.ringRelease(consumer, SLOT_SIZE);
  for (const handle of [producer, consumer]) {
    const at = infoOf(library, handle);
    assert.equal(at(RingInfo.capacityBytes), CAPACITY);
    assert.equal(at(RingInfo.reservedBytes), RESERVED_BYTES_MIN);
    assert.equal(at(RingInfo.connectionId), 42);
    assert.equal(at(RingInfo.producerCursor), 2 * SLOT_SIZE);
    assert.equal(at(RingInfo.consumerCursor), SLOT_SIZE);
    assert.equal(at(RingInfo.closing), 0);
    assert.equal(at(RingInfo.parked), 0);
  }
});

guarded("Native.ringEnd() ends the stream after what is in it, with the reason", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  offer(library, producer, slotFrame());
  assert.equal(library.ringEnd(producer, EndReason.slowConsumer), 0);
  assert.equal(library.ringPark(consumer), 0, "nobody sleeps over an end");
  assert.equal(library.ringSpin(consumer, 1000), 1);
  assert.equal((poll(library, consumer) as number[][]).length, 1);
  assert.equal(poll(library, consumer), Status.endOfStream);
  assert.equal(poll(library, consumer), Status.endOfStream);
  assert.equal(infoOf(library, consumer)(RingInfo.closing), EndReason.slowConsumer);
});

guarded("Native.ringPark() and ringUnpark(): one byte for each sleep, none while awake", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  const pair = new Int32Array(2);
  library.wakeCreate(pair);
  let wakes = 0;
  const watch = await library.watch(pair[0]!, () => wakes++, () => {});
  held.defer(() => watch.close());
  const wake = library.wakeOpen(pair[1]!);
  assert.equal(library.ringAttach(producer, wake), 0);
  assert.equal(library.ringAttach(producer, wake), Status.badArgument, "it has one");
  library.close(wake); // the ring has its own duplicate

  offer(library, producer, slotFrame());
  assert.equal(library.ringPark(consumer), 0, "there is something");
  poll(library, consumer);
  assert.equal(library.ringPark(consumer), 1);
  assert.equal(library.ringPark(consumer), 1, "still asleep");
  assert.equal(infoOf(library, producer)(RingInfo.parked), 1);
  for (let i = 0; i < 5; i++) offer(library, producer, slotFrame());
  await eventually("the wake", () => wakes > 0);
  assert.equal(infoOf(library, producer)(RingInfo.wakes), 1);
  assert.equal(library.ringUnpark(consumer), 0);
  assert.equal(library.ringUnpark(consumer), 0);
  assert.equal(infoOf(library, producer)(RingInfo.parked), 0);
  offer(library, producer, slotFrame());
  assert.equal(infoOf(library, producer)(RingInfo.wakes), 1);
  poll(library, consumer);
  assert.equal(library.ringPark(consumer), 1);
  library.ringEnd(producer, EndReason.senderClosed);
  assert.equal(infoOf(library, producer)(RingInfo.wakes), 2, "the end wakes too");
});

guarded("Native.ringSpin() looks for at most its budget, and at once sees what is there", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  assert.equal(library.ringSpin(consumer, 0), 0);
  assert.equal(library.ringSpin(consumer, 10), 0);
  assert.equal(library.ringSpin(consumer, 0xffffffff), 0, "bounded, whatever is asked");
  offer(library, producer, slotFrame());
  assert.equal(library.ringSpin(consumer, 0xffffffff), 1);
});

guarded("Native.memory() is void for every view once it is detached, before the ring is unmapped", async (held) => {
  const library = await native();
  const { producer, consumer } = ringPair(held, library);
  offer(library, producer, accountHead(8), new Uint8Array(8).fill(5));
  const memory = library.memory(library.ringAddress(consumer), 2 * CAPACITY);
  const bytes = new Uint8Array(memory);
  const view = new DataView(memory);
  assert.equal(bytes.length, 2 * CAPACITY);
  assert.equal(bytes[FrameHeader.size + AccountBody.size], 5);
  memory.transfer(0);
  assert.equal(memory.byteLength, 0);
  assert.equal(bytes.length, 0);
  assert.equal(bytes[0], undefined);
  assert.throws(() => view.getUint8(0), TypeError);
  library.close(consumer);
  assert.equal(bytes[0], undefined);
  assert.equal(library.ringAddress(consumer), 0);
});

guarded("Native.ringRetire() leaves zeros that nobody shares where the ring was", async (held) => {
  const library = await native();
  if (!("ringRetire" in SYMBOLS)) return;
  const retire = (library as unknown as { ringRetire(handle: number): number }).ringRetire;
  const { producer, consumer } = ringPair(held, library);
  assert.equal(retire(producer), Status.badHandle);
  for (const handle of NONSENSE) assert.equal(retire(handle), Status.badHandle);
  offer(library, producer, accountHead(8), new Uint8Array(8).fill(5));
  const memory = library.memory(library.ringAddress(consumer), 2 * CAPACITY);
  const bytes = new Uint8Array(memory);
  assert.equal(bytes[FrameHeader.size + AccountBody.size], 5);
  assert.equal(retire(consumer), 0);
  assert.ok(bytes.every((byte) => byte === 0));
  assert.deepEqual(offer(library, producer, slotFrame()), [1, 0], "the producer keeps its own");
  memory.transfer(0);
});

guarded("Native.ringRetire() closes the wake that was attached", async (held) => {
  const library = await native();
  const { consumer } = ringPair(held, library);
  const pair = new Int32Array(2);
  library.wakeCreate(pair);
  held.defer(() => void library.fdClose(pair[0]!));
  const wake = library.wakeOpen(pair[1]!);
  held.defer(() => void library.close(wake));
  const before = footprintOf("self");
  assert.equal(library.ringAttach(consumer, wake), 0);
  assert.equal(footprintOf("self").descriptors.length, before.descriptors.length + 1);
  assert.equal(library.ringRetire(consumer), 0);
  assert.equal(footprintOf("self").descriptors.length, before.descriptors.length);
  assert.equal(library.ringRelease(consumer, 0), 0, "and nobody is told of room");
});
