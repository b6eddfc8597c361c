/**
 * A sender's stat page, seen from outside: found by the sender's lock file, read by the kernel, without asking the sender.
 * May touch: the lock file, `/proc`. May not touch: sockets, the native library: it works beside a sender that is stuck.
 * Everything in it is another process's word: read into private memory first, bounded, text cleaned. ADR 0024.
 *
 * @module
 */

import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import process from "node:process";
import {
  LATENCY_BUCKETS,
  NAME_BYTES_MAX,
  ReadReport,
  STAT_HEADER_SIZE,
  STAT_VERSION,
  StatDropped,
  StatEnd,
  StatEntry,
  StatHeader,
} from "../native/abi.generated.ts";
import { QlasterError } from "../errors.ts";
import { ENDS, lossesOf, totalOf } from "../stream/losses.ts";
import { OVERFLOW_POLICIES } from "../types.ts";
import type { ConsumerStat, DroppedStat, SenderStat } from "./figures.ts";
import { Histogram } from "./histogram.ts";

/** How a stat page is opened. */
export interface StatOptions {
  /** Other users whose senders are believed, by uid. Default: our own only. */
  readonly uids?: readonly number[];
}

/** More entries than any version of the library has: beyond, the page is nonsense. */
const ENTRIES_MAX = 8192;
const ENTRY_SIZE_MAX = 65_536;
const STUCK_BEATS = 3;
/** Looks at an entry that changes while it is read. */
const LOOKS_MAX = 4;

function unavailable(path: string, text: string, cause?: unknown): QlasterError {
  return new QlasterError("STAT_UNAVAILABLE", `Cannot look at the sender at "${path}": ${text}`, { cause });
}

interface Announcement {
  readonly pid: number;
  readonly fd: number;
  readonly id: string;
}

/**
 * Opens what stands there if it is a file of one of these users. Looked at first: opening a pipe that nobody writes to would
 * wait for ever, and opening a device can do something. Who could put something else there in between could harm us anyway.
 * @param otherUser What to say of another user's.
 */
function openFile(path: string, at: string, uids: readonly number[], otherUser: (uid: number) => string): number {
  const check = (found: { uid: number; isFile(): boolean }) => {
    if (!uids.includes(found.uid)) throw unavailable(path, otherUser(found.uid));
    if (!found.isFile()) throw unavailable(path, "what is there is no file");
  };
  check(statSync(at));
  const fd = openSync(at, "r");
  try {
    check(fstatSync(fd));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** What stands in the lock file. Its owner's word: followed only to a page that has the same id. */
function readAnnouncement(path: string, uids: readonly number[]): Announcement & { readonly inode: number } {
  const lockPath = `${path}.lock`;
  let text: string;
  let inode: number;
  let fd = -1;
  try {
    fd = openFile(path, lockPath, uids, (uid) => `it is of the user ${uid}, and not ours (option uids)`);
    const { ino, size } = fstatSync(fd);
    const bytes = new Uint8Array(Math.min(size, 256));
    text = new TextDecoder().decode(bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)));
    inode = ino;
  } catch (error) {
    if (error instanceof QlasterError) throw error;
    if ((error as { code?: string }).code === "ENOENT") {
      const isThere = statSync(path, { throwIfNoEntry: false }) !== undefined;
      throw isThere
        ? unavailable(path, "it is no sender of this library", error)
        : new QlasterError("CONNECT_NO_SENDER", `Cannot look at the sender at "${path}"`, { cause: error });
    }
    throw unavailable(path, (error as Error).message, error);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
  const match = /^(\d{1,10}) (\d{1,10}) ([0-9a-f]{32})\n/.exec(text);
  if (match === null) throw unavailable(path, "it shows no stat page (its option stats, or its version)");
  return { pid: Number(match[1]), fd: Number(match[2]), id: match[3]!, inode };
}

/** Who holds the lock, as this process would name it: in another pid namespace the sender names itself otherwise. */
function holdersOf(inode: number): number[] {
  try {
    return readFileSync("/proc/locks", "utf8").split("\n").flatMap((line) => {
      const match = /^\d+: FLOCK +ADVISORY +WRITE +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
      return match !== null && Number(match[2]) === inode ? [Number(match[1])] : [];
    });
  } catch {
    return [];
  }
}

/** Text of another process: for a terminal it must be no more than text. */
function plain(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�");
}

/** An open stat page. Get one by {@linkcode openStat}. */
export class StatPage implements Disposable {
  /** The socket's path. */
  readonly path: string;
  readonly #fd: number;
  readonly #proc: string;
  readonly #inode: number;
  readonly #pid: number;
  readonly #entrySize: number;
  readonly #entryCount: number;
  readonly #header = new DataView(new ArrayBuffer(STAT_HEADER_SIZE));
  #isClosed = false;

  /** @internal */
  constructor(path: string, fd: number, proc: string, pid: number, id: string) {
    this.path = path;
    this.#fd = fd;
    this.#proc = proc;
    this.#pid = pid;
    this.#inode = fstatSync(fd).ino;
    this.#readAt(this.#header, 0);
    const header = this.#header;
    const text = (at: number, size: number) => new Uint8Array(header.buffer, at, size);
    if (new TextDecoder().decode(text(StatHeader.magic, 8)) !== "QLASSTAT") {
      throw unavailable(path, "no stat page is there");
    }
    const version = header.getUint32(StatHeader.version, true);
    if (version !== STAT_VERSION) {
      throw unavailable(path, `its stat page is of version ${version}, expected ${STAT_VERSION}: use the same version`);
    }
    const own = Array.from(text(StatHeader.id, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (own !== id) throw unavailable(path, "what it announced is gone");
    this.#entrySize = header.getUint32(StatHeader.entrySize, true);
    this.#entryCount = header.getUint32(StatHeader.entryCount, true);
    const isSane = header.getUint32(StatHeader.headerSize, true) === STAT_HEADER_SIZE &&
      this.#entrySize >= StatEntry.size && this.#entrySize <= ENTRY_SIZE_MAX && this.#entryCount <= ENTRIES_MAX;
    if (!isSane) throw unavailable(path, "its stat page contradicts itself");
  }

  #readAt(into: DataView, position: number): void {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
    if (readSync(this.#fd, bytes, 0, bytes.length, position) !== bytes.length) {
      throw unavailable(this.path, "its stat page is too short");
    }
  }

  /**
   * What the sender shows now. Works while its event loop stands still, and after its end.
   * @throws {QlasterError} `STAT_UNAVAILABLE` if the page contradicts itself.
   */
  read(): SenderStat {
    if (this.#isClosed) throw new TypeError("The stat page is closed");
    const isGone = !this.#isAlive();
    const header = this.#header;
    this.#readAt(header, 0);
    const readAt = performance.timeOrigin + performance.now();
    const at = (offset: number) => wordAt(header, offset);
    const sinceMs = (ns: number) => Math.max(0, readAt - ns / 1e6);
    const sinceBeatMs = sinceMs(at(StatHeader.beatNs));
    const beatMs = Math.max(100, at(StatHeader.beatIntervalNs) / 1e6 || 1000);
    const publishNs = at(StatHeader.publishNs);
    const count = Math.min(at(StatHeader.entriesUsed), this.#entryCount);
    const losses = lossesOf((reason) => at(StatHeader.lostBy + 8 * reason));
    const ended = (how: number) => at(StatHeader.ended + 8 * how);
    const consumers: ConsumerStat[] = [];
    for (let i = 0; i < count; i++) {
      const consumer = this.#consumer(i);
      if (consumer !== undefined) consumers.push(consumer);
    }
    return {
      path: this.path,
      pid: this.#pid,
      startedAt: at(StatHeader.startedNs) / 1e6,
      readAt,
      isGone,
      isStuck: !isGone && sinceBeatMs > STUCK_BEATS * beatMs,
      sinceBeatMs,
      sincePublishMs: publishNs === 0 ? undefined : sinceMs(publishNs),
      stalls: histogramAt(header, StatHeader.stalls),
      stallMaxMs: at(StatHeader.stallMaxNs) / 1e6,
      stallTotalMs: at(StatHeader.stallTotalNs) / 1e6,
      sequence: at(StatHeader.sequence),
      accounts: at(StatHeader.accounts),
      transactions: at(StatHeader.transactions),
      slots: at(StatHeader.slots),
      deliveries: at(StatHeader.deliveries),
      lost: totalOf(losses),
      conflated: losses.replaced,
      losses,
      unchanged: at(StatHeader.unchanged),
      olderVersions: at(StatHeader.olderVersions),
      newestSlot: at(StatHeader.newestSlot),
      accountKeys: at(StatHeader.accountKeys),
      ownerKeys: at(StatHeader.ownerKeys),
      trackedAccounts: at(StatHeader.tracked),
      indexBytes: at(StatHeader.indexBytes),
      pool: { capacityBytes: at(StatHeader.poolBytes), usedBytes: at(StatHeader.poolUsedBytes) },
      ended: {
        consumerClosed: ended(StatEnd.consumerClosed),
        consumerGone: ended(StatEnd.consumerGone),
        slowConsumer: ended(StatEnd.slowConsumer),
        peerCorrupt: ended(StatEnd.peerCorrupt),
        idle: ended(StatEnd.idle),
      },
      dropped: this.#dropped(),
      connections: at(StatHeader.connections),
      refused: at(StatHeader.refused),
      memoryBytes: at(StatHeader.memoryBytes),
      consumers: consumers.sort((a, b) => a.id - b.id),
    };
  }

  /** Whom the sender has ended last, as far as it does not change just now: the next look will find it then. */
  #dropped(): DroppedStat | undefined {
    const header = this.#header;
    const version = header.getUint32(StatHeader.droppedVersion, true);
    const again = new DataView(new ArrayBuffer(4));
    this.#readAt(again, StatHeader.droppedVersion);
    if (version === 0 || version % 2 === 1 || again.getUint32(0, true) !== version) return undefined;
    const place = StatHeader.dropped;
    const nameLength = Math.min(header.getUint32(place + StatDropped.nameLength, true), NAME_BYTES_MAX);
    return {
      id: header.getFloat64(place + StatDropped.id, true),
      name: plain(new Uint8Array(header.buffer, place + StatDropped.name, nameLength)),
      pid: header.getUint32(place + StatDropped.pid, true),
      reason: ENDS[header.getUint32(StatHeader.droppedReason, true)] ?? "slow-consumer",
      at: header.getFloat64(place + StatDropped.atMs, true),
    };
  }

  /** One entry, whose identity did not change while it was read. */
  #consumer(index: number): ConsumerStat | undefined {
    const position = STAT_HEADER_SIZE + index * this.#entrySize;
    const entry = new DataView(new ArrayBuffer(StatEntry.size));
    const again = new DataView(new ArrayBuffer(StatEntry.name)); // the identity's fixed part
    for (let look = 0; look < LOOKS_MAX; look++) {
      this.#readAt(entry, position);
      const version = entry.getUint32(StatEntry.version, true);
      if (version % 2 === 1) continue;
      if (entry.getUint32(StatEntry.state, true) !== 1) return undefined;
      this.#readAt(again, position);
      if (again.getUint32(StatEntry.version, true) === version) return decodeEntry(entry);
    }
    return undefined; // it changes all the time: the next look will find it
  }

  /** Whether the page is still somebody's: with its process it goes from there. */
  #isAlive(): boolean {
    try {
      return statSync(this.#proc).ino === this.#inode;
    } catch {
      return false;
    }
  }

  /** Lets the page go. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#fd);
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A count: what is beyond 2^53 is no count, but it is a number. */
function wordAt(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 4294967296 + view.getUint32(offset, true);
}

function histogramAt(view: DataView, offset: number): Histogram {
  return new Histogram(Array.from({ length: LATENCY_BUCKETS }, (_, i) => wordAt(view, offset + 8 * i)));
}

function decodeEntry(entry: DataView): ConsumerStat {
  const at = (offset: number) => wordAt(entry, offset);
  const short = (offset: number) => entry.getUint32(offset, true);
  const policy = (offset: number) => OVERFLOW_POLICIES[short(offset)] ?? "disconnect";
  const nameLength = Math.min(short(StatEntry.nameLength), NAME_BYTES_MAX);
  const losses = lossesOf((reason) => at(StatEntry.lostBy + 8 * reason));
  const capacityBytes = at(StatEntry.ringBytes);
  const usedBytes = Math.max(0, at(StatEntry.producerCursor) - at(StatEntry.consumerCursor));
  return {
    id: at(StatEntry.id),
    name: plain(new Uint8Array(entry.buffer, StatEntry.name, nameLength)),
    pid: short(StatEntry.pid),
    uid: short(StatEntry.uid),
    protocol: short(StatEntry.protocol) === 1 ? "v9" : "native",
    policy: policy(StatEntry.policy),
    transactionPolicy: policy(StatEntry.transactionPolicy),
    connectedAt: at(StatEntry.connectedMs),
    frames: at(StatEntry.frames),
    bytes: at(StatEntry.bytes),
    lost: totalOf(losses),
    conflated: losses.replaced,
    losses,
    ring: { capacityBytes, usedBytes: Math.min(usedBytes, capacityBytes) },
    waiting: { frames: at(StatEntry.waitingFrames), bytes: at(StatEntry.waitingBytes) },
    poolBytes: at(StatEntry.poolBytes),
    accounts: at(StatEntry.accountKeys),
    owners: at(StatEntry.ownerKeys),
    transactions: at(StatEntry.takesTransactions) === 1,
    filters: at(StatEntry.filters),
    parked: at(StatEntry.parked) === 1,
    wakes: at(StatEntry.wakes),
    parks: at(StatEntry.read + ReadReport.parks),
    spins: at(StatEntry.read + ReadReport.spins),
    read: at(StatEntry.read + ReadReport.frames),
    lagMs: at(StatEntry.behindNs) / 1e6,
    latency: histogramAt(entry, StatEntry.read + ReadReport.latency),
  };
}

/**
 * Opens the stat page of the sender at `path`. Asks nothing of it: a sender that is stuck is seen as well.
 * @returns The page: `read()` it as often as you like.
 * @throws {QlasterError} `CONNECT_NO_SENDER` if none is there, `STAT_UNAVAILABLE` if it can't be seen from here.
 *
 * @example
 * ```ts
 * import { setupSender } from "@qlaster/core";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-stat.sock" });
 * sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * // elsewhere: using page = openStat("/tmp/qlaster-doc-stat.sock"); page.read().slots is 1
 * ```
 */
export function openStat(path: string, options: StatOptions = {}): StatPage {
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a non-empty string");
  if (process.platform !== "linux") throw unavailable(path, "there is no /proc on this system to find it by");
  const uids = [process.geteuid!(), ...options.uids ?? []];
  const { pid, fd, id, inode } = readAnnouncement(path, uids);
  const holders = holdersOf(inode);
  let denied: unknown;
  for (const candidate of new Set([...holders, pid])) {
    const proc = `/proc/${candidate}/fd/${fd}`;
    let page = -1;
    try {
      page = openFile(path, proc, uids, () => "its stat page is another user's (option uids)");
      return new StatPage(path, page, proc, candidate, id);
    } catch (error) {
      if (page >= 0) closeSync(page);
      denied = error;
    }
  }
  const code = (denied as { code?: string }).code;
  if (code === "EACCES" || code === "EPERM") {
    throw unavailable(
      path,
      "its process may not be looked into from here: run as its user, or as root with uids",
      denied,
    );
  }
  if (code === "ENOENT" && holders.length === 0) {
    throw new QlasterError("CONNECT_NO_SENDER", `Cannot look at the sender at "${path}": it is gone`, {
      cause: denied,
    });
  }
  if (denied instanceof QlasterError) throw denied;
  throw unavailable(path, "its process can't be seen from here (another pid namespace?)", denied);
}
