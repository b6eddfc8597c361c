/**
 * Cases over `Native`: handles that are closed, stale or another kind's, descriptors, and buffers that are none.
 * May touch: the native library through `load()`, libc for descriptors.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  FilterKind,
  FilterOutcome,
  FilterVerdict,
  RESERVED_BYTES_MIN,
  RingInfo,
  Status,
} from "../../../src/native/abi.generated.ts";
import { guarded } from "../../support/guarded.ts";
import * as libc from "../../support/libc.ts";
import { Temporary } from "../../support/temporary.ts";
import {
  CAPACITY,
  EBADF,
  linkPair,
  listen,
  native,
  offer,
  ringPair,
  SLOT_SIZE,
  slotFrame,
} from "../support/native_cases.ts";
import { NONSENSE } from "../support/noted_library.ts";

guarded("Native.close() closes each handle once; stale and foreign ones are refused everywhere", async (held) => {
  const library = await native();
  const [link] = linkPair(held, library);
  const { producer, consumer } = ringPair(held, library);
  const passed = new Int32Array(2);
  library.wakeCreate(passed);
  const wake = library.wakeOpen(passed[1]!);
  library.fdClose(passed[0]!);
  const temporary = held.use(new Temporary());
  const listener = listen(library, temporary.at("l.sock"));
  const out = new Uint8Array(64);
  const words = new Uint32Array(64);
  const ints = new Int32Array(64);
  const doubles = new Float64Array(RingInfo.size / 8);

  const byKind: Record<string, Record<string, (handle: number) => number>> = {
    listener: {
      listenerFd: (handle) => library.listenerFd(handle),
      listenerAccept: (handle) => library.listenerAccept(handle),
      listenerPass: (handle) => library.listenerPass(handle, ints),
    },
    link: {
      linkPeer: (handle) => library.linkPeer(handle, ints),
      linkSend: (handle) => library.linkSend(handle, out, 1, ints, 0),
      linkReceive: (handle) => library.linkReceive(handle, out, 1, words, 0),
    },
    wake: { wakeNotify: (handle) => library.wakeNotify(handle) },
    producer: {
      ringEnd: (handle) => library.ringEnd(handle, 1),
      "ringOffer's target": (handle) => offer(library, handle, slotFrame())[1],
    },
    consumer: {
      ringPoll: (handle) => library.ringPoll(handle, words, 1),
      ringRelease: (handle) => library.ringRelease(handle, 0),
      ringPark: (handle) => library.ringPark(handle),
      ringUnpark: (handle) => library.ringUnpark(handle),
      ringSpin: (handle) => library.ringSpin(handle, 0),
      // 0 is its answer for none.
      ringAddress: (handle) => library.ringAddress(handle) === 0 ? Status.badHandle : 0,
    },
    "producer or consumer": {
      ringInfo: (handle) => library.ringInfo(handle, doubles),
      ringAttach: (handle) => library.ringAttach(handle, wake),
    },
  };
  const handles: Record<string, number> = { listener, link, wake, producer, consumer };
  const refusedBy = (fits: (kind: string) => boolean, handle: number, what: string) => {
    for (const [kind, functions] of Object.entries(byKind)) {
      if (!fits(kind)) continue;
      for (const [name, call] of Object.entries(functions)) {
        assert.equal(call(handle), Status.badHandle, `${name} of ${what}`);
      }
    }
  };
  for (const [kind, handle] of Object.entries(handles)) {
    refusedBy((one) => !one.split(" or ").includes(kind), handle, kind);
  }
  assert.equal(library.ringAttach(producer, link), Status.badHandle);
  for (const handle of NONSENSE) {
    refusedBy(() => true, handle, `${handle}`);
    assert.equal(library.close(handle), Status.badHandle);
  }
  for (const [kind, handle] of Object.entries(handles)) {
    assert.equal(library.close(handle), 0, kind);
    assert.equal(library.close(handle), Status.badHandle, kind);
    refusedBy(() => true, handle, `a closed ${kind}`);
  }
});

guarded("Native.close() makes room: a handle's number is not given out again soon", async (held) => {
  const library = await native();
  const [link] = linkPair(held, library);
  const passed = new Int32Array(2);
  const seen = new Set<number>();
  for (let i = 0; i < 10_000; i++) { // more often than the table has entries
    assert.equal(library.wakeCreate(passed), 0);
    const wake = library.wakeOpen(passed[1]!);
    assert.ok(wake >= 0 && !seen.has(wake), `${wake}`);
    seen.add(wake);
    library.fdClose(passed[0]!);
    assert.equal(library.close(wake), 0);
  }
  assert.equal(library.linkPeer(link, new Int32Array(3)), 0);
});

guarded("Native.fdClose() closes a descriptor, and says so if there is none", async () => {
  const library = await native();
  const fd = libc.eventfd();
  assert.equal(library.fdClose(fd), 0);
  assert.equal(library.fdClose(-1), EBADF);
  assert.equal(library.fdClose(1_000_000), EBADF);
});

guarded("Native: null where a buffer belongs is refused, not followed", async (held) => {
  const library = await native();
  const [link] = linkPair(held, library);
  const { producer, consumer } = ringPair(held, library);
  // A detached buffer is what both runtimes pass on as NULL.
  const gone = new Uint8Array(new ArrayBuffer(64));
  gone.buffer.transfer(0);
  const words = gone as unknown as Uint32Array;
  const ints = gone as unknown as Int32Array;
  const doubles = gone as unknown as Float64Array;
  const passed = new Int32Array(2);
  const head = slotFrame();
  const bytes = new Uint8Array(8);
  const program = Uint8Array.of(FilterKind.slots, 0, 0, 0, 8, 0, 0, 0);
  const evaluate = (a: Uint8Array, b: Uint8Array, c: Uint8Array, d: Uint8Array) =>
    library.filterEvaluate(a, 8, b, SLOT_SIZE, c, 8, -1, d);
  const verdict = new Uint8Array(FilterVerdict.size);
  assert.equal(evaluate(program, head, bytes, verdict), FilterOutcome.yes);
  const calls: Record<string, () => number> = {
    "filterEvaluate's program": () => evaluate(gone, head, bytes, verdict),
    "filterEvaluate's head": () => evaluate(program, gone, bytes, verdict),
    "filterEvaluate's tail": () => evaluate(program, head, gone, verdict),
    "filterEvaluate's verdict": () => evaluate(program, head, bytes, gone),
    listen: () => library.listen(gone, 8, 0),
    linkConnect: () => library.linkConnect(gone, 8),
    linkPeer: () => library.linkPeer(link, ints),
    linkSend: () => library.linkSend(link, gone, 8, passed, 0),
    "linkSend's descriptors": () => library.linkSend(link, bytes, 8, ints, 1),
    linkReceive: () => library.linkReceive(link, gone, 8, new Uint32Array(5), 0),
    "linkReceive's descriptors": () => library.linkReceive(link, bytes, 8, words, 0),
    wakeCreate: () => library.wakeCreate(ints),
    "ringCreate's id": () => library.ringCreate(CAPACITY, RESERVED_BYTES_MIN, 1, gone, passed),
    "ringCreate's descriptors": () => library.ringCreate(CAPACITY, RESERVED_BYTES_MIN, 1, new Uint8Array(16), ints),
    ringInfo: () => library.ringInfo(consumer, doubles),
    "ringOffer's head": () => library.ringOffer(gone, SLOT_SIZE, bytes, 0, Uint32Array.of(producer, 0), 1, 1),
    "ringOffer's tail": () => library.ringOffer(head, SLOT_SIZE, gone, 8, Uint32Array.of(producer, 0), 1, 1),
    "ringOffer's targets": () => library.ringOffer(head, SLOT_SIZE, bytes, 0, words, 1, 1),
    ringCommit: () => library.ringCommit(words, 1),
    ringPoll: () => library.ringPoll(consumer, words, 1),
  };
  for (const [name, call] of Object.entries(calls)) assert.equal(call(), Status.badArgument, name);
});
