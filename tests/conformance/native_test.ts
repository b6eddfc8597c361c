/**
 * One list of cases over `Native`: each symbol does what it says and refuses what it must, whichever adapter is under it.
 * Run by both runtimes, so for both adapters.
 * May touch: the native library through `load()`, libc for descriptors of other types, the temporary directory.
 */

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { load } from "../../mod.ts";
import {
  ABI_HASH,
  AccountBody,
  CAPACITY_BYTES_MIN,
  EndReason,
  FilterKind,
  FilterOpcode,
  FilterOutcome,
  FilterVerdict,
  FrameHeader,
  FrameKind,
  LAYOUT_VERSION,
  LINK_DESCRIPTORS_MAX,
  PollRecord,
  RESERVED_BYTES_MIN,
  RingInfo,
  SlotBody,
  Status,
  SYMBOLS,
} from "../../src/native/abi.generated.ts";
import type { Native, Watch } from "../../src/native/native.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import { OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const CAPACITY = CAPACITY_BYTES_MIN;
const EBADF = -9;
const ENOENT = -2;
/** Handles that nobody has: index and generation out of range, or never given out. */
const NONSENSE = [0, 1, 4095, 4096, 0x7fffffff, 0xffffffff];

const called = new Set<string>();
let proxied: Native | undefined;

/** The library; notes which symbols were called. */
async function native(): Promise<Native> {
  const library = await load();
  proxied ??= new Proxy(library, {
    get(target, name: string) {
      called.add(name);
      return target[name as keyof Native];
    },
  });
  return proxied;
}

const utf8 = (text: string) => new TextEncoder().encode(text);

function listen(library: Native, path: string): number {
  const bytes = utf8(path);
  return library.listen(bytes, bytes.length, 0);
}

function connect(library: Native, path: string): number {
  const bytes = utf8(path);
  return library.linkConnect(bytes, bytes.length);
}

/** Two connected links. */
function linkPair(held: Held, library: Native): [number, number] {
  const temporary = held.use(new Temporary());
  const listener = listen(library, temporary.at("s.sock"));
  const one = connect(library, temporary.at("s.sock"));
  const other = library.listenerAccept(listener);
  assert.ok(listener >= 0 && one >= 0 && other >= 0);
  library.close(listener);
  held.defer(() => void [one, other].forEach((link) => library.close(link)));
  return [one, other];
}

interface Ring {
  readonly producer: number;
  readonly consumer: number;
}

function ringPair(held: Held, library: Native, capacity = CAPACITY): Ring {
  const passed = new Int32Array(2);
  const producer = library.ringCreate(capacity, RESERVED_BYTES_MIN, 42, new Uint8Array(16).fill(7), passed);
  assert.ok(producer >= 0);
  const consumer = library.ringJoin(passed[0]!, passed[1]!, -1, capacity, 0, library.uid());
  assert.ok(consumer >= 0, `${consumer}`);
  held.defer(() => void [producer, consumer].forEach((handle) => library.close(handle)));
  return { producer, consumer };
}

function frame(kind: number, bodyLength: number): Uint8Array {
  const bytes = new Uint8Array(FrameHeader.size + bodyLength);
  new DataView(bytes.buffer).setUint16(FrameHeader.kind, kind, true);
  return bytes;
}

/** An account frame's head for `length` bytes of data, which are the tail. */
function accountHead(length: number): Uint8Array {
  const head = frame(FrameKind.account, AccountBody.size);
  new DataView(head.buffer).setUint32(FrameHeader.size + AccountBody.dataLength, length, true);
  return head;
}

const slotFrame = () => frame(FrameKind.slot, SlotBody.size);
const SLOT_SIZE = FrameHeader.size + SlotBody.size;

/** Offers to one ring: what the call returned, and the target's status. */
function offer(
  library: Native,
  ring: number,
  head: Uint8Array,
  tail = new Uint8Array(0),
  commit = 1,
): [number, number] {
  const targets = new Uint32Array([ring, 99]);
  const taken = library.ringOffer(head, head.length, tail, tail.length, targets, 1, commit);
  return [taken, new Int32Array(targets.buffer)[1]!];
}

function poll(library: Native, ring: number, count = 16): number | number[][] {
  const words = PollRecord.size / 4;
  const records = new Uint32Array(count * words);
  const found = library.ringPoll(ring, records, count);
  return found < 0 ? found : Array.from({ length: found }, (_, i) => [...records.subarray(i * words, (i + 1) * words)]);
}

function infoOf(library: Native, ring: number): (offset: number) => number {
  const info = new Float64Array(RingInfo.size / 8);
  assert.equal(library.ringInfo(ring, info), 0);
  return (offset) => info[offset / 8]!;
}

guarded("Native.abiHash() and layoutVersion() are those of the generated table", async () => {
  const library = await native();
  assert.equal(library.abiHash(), ABI_HASH);
  assert.equal(library.layoutVersion(), LAYOUT_VERSION);
  assert.equal(library.name, OWN_RUNTIME);
});

guarded("Native.instance() keeps the first candidate that can be one", async () => {
  const library = await native();
  for (const nonsense of [0, -1, 0.5, NaN, Infinity, 2 ** 54]) assert.equal(library.instance(nonsense), 0);
  const own = library.instance(11);
  assert.ok(Number.isSafeInteger(own) && own > 0);
  assert.equal(library.instance(22), own);
});

guarded("Native.clockUs() is the wall clock, uid() the effective user, limitsRaise() may be repeated", async () => {
  const library = await native();
  const before = Date.now();
  const clock = library.clockUs() / 1000;
  const after = Date.now();
  assert.ok(clock >= before - 1 && clock <= after + 1, `${before} <= ${clock} <= ${after}`);
  assert.equal(library.uid(), process.geteuid!());
  assert.equal(library.limitsRaise(), 0);
  assert.equal(library.limitsRaise(), 0);
});

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

guarded("Native.listen() binds a path; listenerFd() and listenerAccept() give its connections out", async (held) => {
  const library = await native();
  const temporary = held.use(new Temporary());
  const path = temporary.at("s.sock");
  assert.equal(library.listen(utf8(path), 0, 0), Status.badArgument);
  assert.equal(listen(library, ""), Status.badArgument);
  assert.equal(listen(library, "/tmp/a\0b"), Status.badArgument);
  assert.equal(listen(library, `/tmp/${"a".repeat(100)}`), Status.pathTooLong);
  assert.equal(listen(library, temporary.at("no/such/s.sock")), ENOENT);
  writeFileSync(temporary.at("file"), "");
  assert.equal(listen(library, temporary.at("file")), Status.pathNotSocket);

  const listener = listen(library, path);
  assert.ok(listener >= 0);
  assert.equal(listen(library, path), Status.pathInUse);
  assert.equal(library.listenerAccept(listener), Status.wouldBlock);
  const link = connect(library, path);
  assert.ok(link >= 0);
  const accepted = library.listenerAccept(listener);
  assert.ok(accepted >= 0);
  const fd = library.listenerFd(listener);
  assert.ok(fd >= 0);
  assert.equal(library.linkAdopt(fd), Status.badDescriptor, "a listening socket is no connection");
  library.fdClose(fd);
  assert.equal(library.close(listener), 0);
  assert.equal(existsSync(path), false);
  assert.equal(existsSync(`${path}.lock`), false);
  for (const handle of [link, accepted]) library.close(handle);
});

guarded("Native.listenerTake() goes on with a path that listenerPass() and listenerYield() gave up", async (held) => {
  const library = await native();
  const path = held.use(new Temporary()).at("s.sock");
  const old = listen(library, path);
  const passed = new Int32Array(2);
  assert.equal(library.listenerPass(old, passed), 0);
  assert.equal(library.listenerYield(old), 0);
  assert.equal(library.close(old), 0);
  assert.equal(listen(library, path), Status.pathInUse);
  const bytes = utf8(path);
  const taken = library.listenerTake(bytes, bytes.length, 0, passed[0]!, passed[1]!);
  assert.ok(taken >= 0, `${taken}`);
  assert.equal(library.listenerTake(bytes, bytes.length, 0, -1, -1), Status.badDescriptor);
  assert.equal(library.listenerPass(old, passed), Status.badHandle);
  assert.equal(library.listenerYield(old), Status.badHandle);
  const link = connect(library, path);
  assert.ok(link >= 0);
  const accepted = library.listenerAccept(taken);
  assert.ok(accepted >= 0);
  assert.equal(library.close(taken), 0);
  assert.equal(existsSync(path), false);
  assert.equal(existsSync(`${path}.lock`), false);
  for (const handle of [link, accepted]) library.close(handle);
});

guarded("Native.linkConnect() says why it can't", async (held) => {
  const library = await native();
  const temporary = held.use(new Temporary());
  assert.equal(connect(library, temporary.at("nothing")), ENOENT);
  assert.equal(connect(library, "x".repeat(128)), Status.pathTooLong);
  assert.ok(connect(library, "x".repeat(120)) < 0);
  writeFileSync(temporary.at("file"), "");
  assert.equal(connect(library, temporary.at("file")), -111); // ECONNREFUSED
  assert.equal(connect(library, `${temporary.at("file")}/s.sock`), -20); // ENOTDIR
});

guarded("Native.linkConnect() never blocks when the listener's queue is full", async (held) => {
  const library = await native();
  const temporary = held.use(new Temporary());
  const listener = listen(library, temporary.at("s.sock"));
  held.defer(() => void library.close(listener));
  const links: number[] = [];
  held.defer(() => links.forEach((link) => library.close(link)));
  let status = 0;
  while (links.length < 3000) { // its queue has 1,024, and the handles 4,096
    status = connect(library, temporary.at("s.sock"));
    if (status < 0) break;
    links.push(status);
  }
  assert.equal(status, -11); // EAGAIN
});

guarded("Native.linkPeer() names the process on the other side", async (held) => {
  const library = await native();
  const [one, other] = linkPair(held, library);
  for (const link of [one, other]) {
    const peer = new Int32Array(3);
    assert.equal(library.linkPeer(link, peer), 0);
    assert.deepEqual([...peer], [process.pid, process.geteuid!(), process.getegid!()]);
  }
});

guarded(
  "Native.linkSend() and linkReceive() carry bytes, in parts if need be, up to the end of the stream",
  async (held) => {
    const library = await native();
    const [one, other] = linkPair(held, library);
    const none = new Int32Array(1);
    const brought = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
    const buffer = new Uint8Array(3);
    assert.equal(library.linkReceive(other, buffer, 3, brought, 0), Status.wouldBlock);
    assert.equal(library.linkSend(one, utf8("hello"), 5, none, 0), 5);
    assert.equal(library.linkReceive(other, buffer, 3, brought, 0), 3);
    assert.deepEqual([...buffer], [...utf8("hel")]);
    assert.equal(brought[0], 0);
    assert.equal(library.linkReceive(other, buffer, 3, brought, 0), 2);
    assert.equal(library.linkSend(one, buffer, 0, none, 0), Status.badArgument);
    assert.equal(library.linkReceive(other, buffer, 0, brought, 0), Status.badArgument);

    const chunk = new Uint8Array(65536);
    let sent = 0;
    let status = 0;
    while ((status = library.linkSend(one, chunk, chunk.length, none, 0)) > 0) sent += status;
    assert.equal(status, Status.wouldBlock);
    library.close(one);
    let received = 0;
    while ((status = library.linkReceive(other, chunk, chunk.length, brought, 0)) > 0) received += status;
    assert.equal(status, Status.endOfStream);
    assert.equal(received, sent);
    assert.equal(library.linkSend(other, chunk, 1, none, 0), Status.endOfStream); // and no SIGPIPE
  },
);

guarded(
  "Native.linkSend() passes up to 4 descriptors; linkReceive() takes no more than were asked for",
  async (held) => {
    const library = await native();
    const [one, other] = linkPair(held, library);
    const before = footprintOf("self");
    const fd = libc.eventfd();
    const bytes = utf8("x");
    const brought = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
    const list = (count: number) => new Int32Array(count).fill(fd);
    const receive = (count: number) => library.linkReceive(other, new Uint8Array(8), 8, brought, count);

    for (let count = 1; count <= LINK_DESCRIPTORS_MAX; count++) {
      assert.equal(library.linkSend(one, bytes, 1, list(count), count), 1);
      assert.equal(receive(4), 1);
      assert.equal(brought[0], count);
      for (const got of brought.subarray(1, 1 + count)) assert.equal(library.fdClose(got), 0);
    }
    assert.equal(library.linkSend(one, bytes, 1, list(5), 5), Status.tooManyDescriptors);
    assert.equal(receive(5), Status.tooManyDescriptors);
    assert.equal(library.linkSend(one, bytes, 1, Int32Array.of(-1), 1), EBADF);
    for (const [count, wanted] of [[1, 0], [3, 2], [4, 1]] as const) {
      assert.equal(library.linkSend(one, bytes, 1, list(count), count), 1);
      assert.equal(receive(wanted), Status.tooManyDescriptors);
      assert.equal(brought[0], 0);
    }
    assert.equal(receive(4), Status.wouldBlock);
    libc.close(fd);
    await settlesAt("self", before); // those that were refused are closed
  },
);

guarded(
  "Native.linkAdopt() keeps a duplicate of a connected Unix stream socket, and refuses all else",
  async (held) => {
    const library = await native();
    const temporary = held.use(new Temporary());
    for (const fd of [libc.eventfd(), libc.datagramSocket(), libc.memfd(4096), libc.openFile(temporary.at("file"))]) {
      assert.equal(library.linkAdopt(fd), Status.badDescriptor);
      assert.equal(library.fdClose(fd), 0, "it is still the caller's");
    }
    assert.equal(library.linkAdopt(-1), Status.badDescriptor);
    const pair = new Int32Array(2);
    library.wakeCreate(pair);
    const links = [library.linkAdopt(pair[0]!), library.linkAdopt(pair[1]!)];
    for (const fd of pair) assert.equal(library.fdClose(fd), 0);
    assert.equal(library.linkSend(links[0]!, utf8("ab"), 2, new Int32Array(1), 0), 2);
    assert.equal(library.linkReceive(links[1]!, new Uint8Array(8), 8, new Uint32Array(1), 0), 2);
    for (const link of links) library.close(link);
  },
);

guarded(
  "Native.wakeOpen() takes a descriptor over whatever it is, and wants a connected Unix stream socket",
  async (held) => {
    const library = await native();
    const temporary = held.use(new Temporary());
    for (const fd of [libc.eventfd(), libc.datagramSocket(), libc.memfd(4096), libc.openFile(temporary.at("file"))]) {
      assert.equal(library.wakeOpen(fd), Status.badDescriptor);
      assert.equal(library.fdClose(fd), EBADF, "it is closed");
    }
    assert.equal(library.wakeOpen(-1), Status.badDescriptor);
  },
);

guarded(
  "Native.watch() tells of each wake and of the other end's close, and stops when it is told to",
  async (held) => {
    const library = await native();
    const before = footprintOf("self");
    const pair = new Int32Array(2);
    assert.equal(library.wakeCreate(pair), 0);
    let wakes = 0;
    let closes = 0;
    const watch: Watch = await library.watch(pair[0]!, () => wakes++, () => closes++);
    const wake = library.wakeOpen(pair[1]!);
    assert.equal(library.wakeNotify(wake), 0);
    await eventually("the first wake", () => wakes === 1);
    watch.unref();
    watch.ref();
    for (let i = 0; i < 100_000; i++) assert.equal(library.wakeNotify(wake), 0); // full is "signalled"
    await eventually("another wake", () => wakes > 1);
    assert.equal(closes, 0);
    library.close(wake);
    await eventually("the close", () => closes === 1);
    watch.close();

    library.wakeCreate(pair);
    const second = await library.watch(pair[0]!, () => {}, () => closes++);
    const kept = library.wakeOpen(pair[1]!);
    second.close();
    await eventually("nobody listens", () => library.wakeNotify(kept) < 0);
    assert.equal(closes, 1, "no close for one's own close");
    library.close(kept);
    held.defer(() => settlesAt("self", before));
  },
);

guarded(
  "Native.stream() hands over what a duplicate of a link brings, in memory that stays, then the close; and stops when told to",
  async (held) => {
    const library = await native();
    const [one, other] = linkPair(held, library);
    const before = footprintOf("self");
    const chunks: Uint8Array[] = [];
    let closes = 0;
    let countAtClose = -1;
    const count = () => chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    for (const handle of NONSENSE) assert.equal(library.linkFd(handle), Status.badHandle);
    const fd = library.linkFd(other);
    assert.ok(fd >= 0);
    const watch = await library.stream(fd, (bytes) => chunks.push(bytes), () => {
      closes++;
      countAtClose = count();
    });
    watch.unref();
    watch.ref();
    const eventFd = libc.eventfd();
    let sent = 0;
    for (let i = 0; i < 200; i++) {
      const bytes = new Uint8Array(1000).fill(i);
      let at = 0;
      await eventually("room", () => {
        const rest = bytes.subarray(at);
        // A runtime's read drops descriptors.
        const status = library.linkSend(one, rest, rest.length, Int32Array.of(eventFd), i % 50 === 0 ? 1 : 0);
        if (status > 0) at += status;
        return at === bytes.length;
      });
      sent += at;
    }
    libc.close(eventFd);
    await eventually("all bytes", () => count() === sent);
    const whole = chunks.flatMap((chunk) => [...chunk]);
    assert.ok(whole.every((byte, i) => byte === Math.floor(i / 1000)), "no chunk's memory was written again");
    // The duplicate and the link are one socket: what one reads, the other does not.
    assert.equal(library.linkReceive(other, new Uint8Array(8), 8, new Uint32Array(1), 0), Status.wouldBlock);
    assert.equal(closes, 0);
    library.linkSend(one, utf8("end"), 3, new Int32Array(1), 0);
    library.close(one);
    await eventually("the close", () => closes === 1);
    assert.equal(countAtClose, sent + 3);
    watch.close();

    const [third, fourth] = linkPair(held, library);
    const second = await library.stream(library.linkFd(fourth), () => assert.fail("it was stopped"), () => closes++);
    second.close();
    library.linkSend(third, utf8("x"), 1, new Int32Array(1), 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(closes, 1, "no close for one's own close");
    for (const link of [third, fourth]) library.close(link);
    await settlesAt("self", before);
  },
);

guarded("Native.close() of a link is the end for the other side, although a duplicate stays open", async (held) => {
  const library = await native();
  const [one, other] = linkPair(held, library);
  const duplicate = library.linkFd(other); // as in the hands of a runtime, which closes it some turns later
  library.linkSend(other, utf8("end"), 3, new Int32Array(1), 0);
  library.close(other);
  const receive = () => library.linkReceive(one, new Uint8Array(8), 8, new Uint32Array(1), 0);
  assert.equal(receive(), 3);
  assert.equal(receive(), Status.endOfStream);
  library.fdClose(duplicate);
});

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

guarded("Native.filterEvaluate() says whether a frame matches, and what of its data travels", async () => {
  const library = await native();
  const verdict = new Uint8Array(FilterVerdict.size);
  const words = new Uint32Array(verdict.buffer);
  const [tail, nothing] = [new Uint8Array(8), new Uint8Array(0)];
  const head = accountHead(8);
  const evaluate = (program: Uint8Array) =>
    library.filterEvaluate(program, program.length, head, head.length, tail, tail.length, -1, verdict);
  assert.equal(evaluate(Uint8Array.of(FilterKind.accounts, 0, 0, 0, 8, 0, 0, 0)), FilterOutcome.yes);
  assert.deepEqual([...words.slice(0, 3)], [FilterOutcome.yes, 0, 0]);
  assert.equal(evaluate(Uint8Array.of(FilterKind.slots, 0, 0, 0, 8, 0, 0, 0)), FilterOutcome.no);
  const slices = [FilterOpcode.slices, 0, 1, 0, 8, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0];
  assert.equal(evaluate(Uint8Array.of(FilterKind.accounts, 0, 1, 0, 24, 0, 0, 0, ...slices)), FilterOutcome.yes);
  assert.deepEqual([...words.slice(0, 3)], [FilterOutcome.yes, 1, 1], "one slice, clipped");
  assert.deepEqual([...words.slice(FilterVerdict.slices / 4).slice(0, 2)], [6, 2]);
  assert.equal(evaluate(nothing), Status.peerCorrupt);
  assert.equal(evaluate(Uint8Array.of(FilterKind.accounts, 0, 1, 0, 8, 0, 0, 0)), Status.peerCorrupt);
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

guarded("Native: every symbol of the table was called by these cases", () => {
  // Those of wire version 9 have a file of their own, tests/interop/ring_test.ts; the fan-out's are in fanout_test.ts.
  const isElsewhere = (name: string) => name.startsWith("v9") || name.startsWith("fanout");
  const missing = Object.keys(SYMBOLS).filter((name) => !called.has(name) && !isElsewhere(name));
  assert.deepEqual(missing, []);
  return Promise.resolve();
});

// Loading. In processes of their own: the first call decides.

async function loadElsewhere(held: Held, path: string): Promise<{ code?: string; message: string }> {
  const agent = held.use(new Agent(OWN_RUNTIME));
  return await agent.run(async ({ qlaster }, path) => {
    const error = await qlaster.load({ path }).then(() => ({ message: "loaded" }), (error) => error);
    return { code: (error as { code?: string }).code!, message: error.message as string };
  }, path);
}

guarded("load() says NATIVE_NOT_FOUND for a file that is not there, and for one that is no library", async (held) => {
  const temporary = held.use(new Temporary());
  writeFileSync(temporary.at("text.so"), "not a library");
  for (const path of [temporary.at("nothing.so"), temporary.at("text.so")]) {
    const { code, message } = await loadElsewhere(held, path);
    assert.equal(code, "NATIVE_NOT_FOUND");
    assert.ok(message.includes(path), message);
  }
});

guarded("load() says NATIVE_NOT_FOUND for another library", async (held) => {
  assert.equal((await loadElsewhere(held, "libc.so.6")).code, "NATIVE_NOT_FOUND");
});

const LIBRARY = fileURLToPath(new URL("../../zig-out/lib/libqlaster.so", import.meta.url));

/** The library with another hash: the one number that `abiHash` returns stands in its code as it is, on x64. */
function withAnotherHash(): Uint8Array | undefined {
  if (!existsSync(LIBRARY)) return undefined;
  const bytes = Uint8Array.from(readFileSync(LIBRARY));
  const hash = new Uint8Array(Uint32Array.of(ABI_HASH).buffer);
  let count = 0;
  for (let at = 0; at + 4 <= bytes.length; at++) {
    if (!hash.every((byte, i) => bytes[at + i] === byte)) continue;
    bytes[at]! ^= 1;
    count++;
  }
  return count > 0 ? bytes : undefined;
}

const patched = withAnotherHash();
guarded("load() says NATIVE_LAYOUT_MISMATCH for a library of another layout", async (held) => {
  const temporary = held.use(new Temporary());
  writeFileSync(temporary.at("other.so"), patched!);
  const { code, message } = await loadElsewhere(held, temporary.at("other.so"));
  assert.equal(code, "NATIVE_LAYOUT_MISMATCH");
  assert.ok(message.includes(ABI_HASH.toString(16)), message);
}, { skip: patched === undefined ? "the hash does not stand in the library's code as one number" : undefined });
