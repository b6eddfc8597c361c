/**
 * What a sender does for peers of wire version 9: slots with tokens, who may use which, when they end.
 * May touch: rings of version 9 through the native library, one timer. May not touch: sockets; the fan-out; they are the
 * peers' and the sender's.
 * Better than the original: a closed socket frees its slots at once (unless tokens are shared), a token belongs to the connection that got it, an
 * answer that never reached anybody is taken back, and silence ends a slot also when nothing is published.
 *
 * @module
 */

import process from "node:process";
import { ShaqHeader, Status, V9_SLOT_NONE, V9Created } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { describeStatus, errorFromStatus, QlasterError } from "../errors.ts";
import { CLOSING } from "../stream/admission.ts";
import type { Link } from "../stream/link.ts";
import type { EndReason, RefusedEvent, SlotStatus, SlotToken } from "../types.ts";
import type { SubscribeRequest } from "../wire/messages.ts";
import type { HalfSent } from "./half_sent.ts";
import { IdleClock } from "./idle_clock.ts";
import type { FrameCutter, SubscribeV9 } from "./messages.ts";
import { type OpenedSlot, V9Peer, type V9PeerEvents } from "./peer.ts";
import { V9Slot } from "./slot.ts";

/** Connections without a slot. One more ends the oldest, so that they can't use up our descriptors. */
const PEERS_WITHOUT_SLOT_MAX = 256;
/** How often silence is looked for: four times in its limit, within these bounds, in milliseconds. */
const SWEEP_MS_MIN = 10;
const SWEEP_MS_MAX = 1000;

const OTHER_DIRECTORY = "name another directory in the option v9.ringDirectory";
/** What to do where a ring can't be made. The numbers below -1 are the kernel's, Linux's. */
const RING_CURES: Readonly<Record<number, string>> = {
  [-12]: "free memory, or lower ringCapacityBytes",
  [-13]: `let this user write there, or ${OTHER_DIRECTORY}`,
  [-20]: `something that is no directory is in the way; ${OTHER_DIRECTORY}`,
  [-24]: "raise the limit of open files (ulimit -n)",
  [-28]: `free space there, lower ringCapacityBytes, or ${OTHER_DIRECTORY}`,
  [-30]: OTHER_DIRECTORY,
  [-36]: `the path has too many bytes; ${OTHER_DIRECTORY}`,
  [-95]: `its file system can't reserve space; ${OTHER_DIRECTORY}, such as one below /dev/shm`,
  [Status.directoryUnsafe]:
    `others may write to it or to a directory above, or another user owns one; ${OTHER_DIRECTORY}`,
  [Status.pathTooLong]: `the path has too many bytes; ${OTHER_DIRECTORY}`,
  [Status.pathInUse]: `files that are none of our rings stand there; remove them, or ${OTHER_DIRECTORY}`,
};

/** Names tried for one file: another sender of this process, or of an equal pid elsewhere, may have taken some. */
const NAMES_MAX = 64;

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** How peers of version 9 are served. */
export interface V9ServerOptions {
  readonly slotsMax: number;
  readonly ring: "memfd" | "file";
  /** Undefined for the default place. */
  readonly ringDirectory: string | undefined;
  readonly idleTimeoutMs: number;
  readonly sharedTokens: boolean;
  readonly slotStatuses: ReadonlySet<SlotStatus>;
  readonly ringCapacityBytes: number;
  readonly handshakeTimeoutMs: number;
}

/** A ring just made. */
interface CreatedRing {
  readonly ring: number;
  readonly path: string;
  readonly wakeFd: number;
  /** What its name and its token say. */
  readonly generation: number;
}

/** What the server asks and tells its sender. */
export interface V9ServerEvents {
  nextId(): number;
  /** Why there is no memory for a ring of that many bytes; undefined if there is. */
  refusalOfMemory(bytes: number): string | undefined;
  /** A slot that is to get frames from here on, though its consumer does not know of it yet. */
  onOpen(slot: V9Slot): void;
  /** Adds to a slot's filter. Throws if there are too many keys. */
  subscribe(slot: V9Slot, request: SubscribeRequest): void;
  /** A slot's consumer was told of it. */
  onGranted(slot: V9Slot): void;
  onSubscribed(slot: V9Slot, request: SubscribeV9, receivedAt: number): void;
  onRefused(event: RefusedEvent): void;
  /** A slot has to end: its `close` is the sender's to call. */
  onEnd(slot: V9Slot, reason: EndReason): void;
}

/** Bytes of one slot's ring and its header. */
export function slotBytes(ringCapacityBytes: number): number {
  return ringCapacityBytes + ShaqHeader.size;
}

/** Where ring files are made unless an option says otherwise. */
function defaultDirectory(): string {
  // Elsewhere not TMPDIR: reading it takes a permission.
  return `${process.platform === "linux" ? "/dev/shm" : "/tmp"}/qlaster-${process.pid}`;
}

/** All of one sender's peers and slots. */
export class V9Server implements V9PeerEvents {
  /** Connections that were closed for want of a slot. */
  refused = 0;
  /** Slots granted. */
  granted = 0;

  readonly #native: Native;
  readonly #options: V9ServerOptions;
  readonly #halfSent: HalfSent;
  readonly #events: V9ServerEvents;
  readonly #peers = new Set<V9Peer>();
  /** By index. */
  readonly #slots: (V9Slot | undefined)[];
  readonly #sweepMs: number;
  readonly #clock: IdleClock;
  #slotCount = 0;
  #lastGeneration = 0;
  #sweep: ReturnType<typeof setInterval> | undefined;
  #isRef = true;
  #isClosed = false;

  constructor(native: Native, options: V9ServerOptions, halfSent: HalfSent, events: V9ServerEvents) {
    this.#native = native;
    this.#options = options;
    this.#halfSent = halfSent;
    this.#events = events;
    this.#slots = Array(options.slotsMax).fill(undefined);
    this.#sweepMs = Math.min(SWEEP_MS_MAX, Math.max(SWEEP_MS_MIN, options.idleTimeoutMs / 4));
    this.#clock = new IdleClock(this.#sweepMs, performance.now());
  }

  /**
   * Removes ring files of senders that were killed; where files are asked for, looks whether one can be made.
   * @throws {QlasterError} `SENDER_…`, `SYSTEM`, `MEMORY_LIMIT`, or {RangeError}, for what stands in the way of a file.
   */
  prepare(): void {
    this.#native.v9Clean(new Uint8Array(1), 0);
    const { ring, ringDirectory } = this.#options;
    if (ringDirectory !== undefined) {
      const bytes = utf8.encode(ringDirectory);
      this.#native.v9Clean(bytes, bytes.length);
    }
    if (ring === "memfd" && ringDirectory === undefined) return;
    const probe = this.#createFile(0, 0);
    this.#native.fdClose(probe.wakeFd);
    this.#native.close(probe.ring);
  }

  /** Takes over a connection. @param bodies Its first messages. @param cutter Holds what came behind them. */
  accept(link: Link, bodies: readonly Uint8Array[], cutter: FrameCutter): void {
    const peer = new V9Peer(this.#native, link, cutter, this.#halfSent, this.#options.handshakeTimeoutMs, this);
    this.#peers.add(peer);
    if (this.#isClosed) return peer.close("sender-closed", CLOSING);
    if (!this.#isRef) peer.unref();
    const idle = [...this.#peers].filter(({ slots }) => slots.size === 0);
    if (idle.length > PEERS_WITHOUT_SLOT_MAX) {
      const text = `${PEERS_WITHOUT_SLOT_MAX} connections had no slot, and this was the oldest of them`;
      idle[0]!.close("evicted", text);
    }
    void peer.start(bodies);
  }

  // For peers

  find(peer: V9Peer, token: SlotToken): V9Slot | undefined {
    const slot = this.#slots[token.slotIndex];
    if (slot === undefined || slot.token.generation !== token.generation) return undefined;
    if (slot.owner !== peer && !this.#options.sharedTokens) return undefined;
    const now = this.#clock.now(performance.now());
    if (this.#isStale(slot, now)) {
      this.#events.onEnd(slot, "idle");
      return undefined;
    }
    slot.touch(now);
    return slot;
  }

  hasRoom(peer: V9Peer): boolean {
    // A consumer that asks again has not understood the last answer, and will never use it.
    for (const slot of peer.slots) if (slot.isOrphan) this.#events.onEnd(slot, "idle");
    return this.#freeIndex() !== undefined;
  }

  open(peer: V9Peer, isClaimed: boolean): OpenedSlot | string {
    const { ringCapacityBytes: capacityBytes, slotStatuses, sharedTokens: isShared } = this.#options;
    this.#lastGeneration++; // counts attempts, as the original's does
    const slotIndex = this.#freeIndex();
    if (slotIndex === undefined) return `all ${this.#slots.length} slots are taken (option v9.slotsMax)`;
    const noMemory = this.#events.refusalOfMemory(slotBytes(capacityBytes));
    if (noMemory !== undefined) return noMemory;
    const { ring, path, wakeFd, generation } = this.#createRing(peer, slotIndex);
    this.#lastGeneration = generation;
    const slot = new V9Slot(this.#native, {
      id: this.#events.nextId(),
      name: "",
      peer: peer.identity,
      ring,
      capacityBytes,
      memoryBytes: slotBytes(capacityBytes),
      token: { slotIndex, generation: BigInt(generation) },
      owner: peer,
      slotStatuses,
      isShared,
      isUnclaimed: !isClaimed,
      seenAt: this.#clock.now(performance.now()),
    }, () => this.#onSlotClosed(slot));
    this.#slots[slotIndex] = slot;
    this.#slotCount++;
    peer.slots.add(slot);
    this.#startSweep();
    try {
      this.#events.onOpen(slot);
    } catch (error) {
      this.#native.fdClose(wakeFd); // the slot ends with its peer
      throw error;
    }
    return { slot, path, wakeFd };
  }

  subscribe(slot: V9Slot, request: SubscribeRequest): void {
    this.#events.subscribe(slot, request);
  }

  onGranted(slot: V9Slot): void {
    this.granted++;
    slot.isGranted = true;
    this.#events.onGranted(slot);
  }

  onSubscribed(slot: V9Slot, request: SubscribeV9, receivedAt: number): void {
    this.#events.onSubscribed(slot, request, receivedAt);
  }

  onClosed(peer: V9Peer, reason: EndReason, refusal: string | undefined): void {
    this.#peers.delete(peer);
    const text = refusal ?? (peer.wasGranted ? undefined : "it closed the connection before it had a slot");
    if (text !== undefined) {
      this.refused++;
      const { pid, uid } = peer.identity;
      this.#events.onRefused({ type: "refused", protocol: "v9", pid, uid, reason: text });
    }
    for (const slot of peer.slots) {
      // Others may have its token: it lives on until nobody has named it for long.
      if (this.#options.sharedTokens && slot.isGranted && !this.#isClosed) continue;
      this.#events.onEnd(slot, reason);
    }
  }

  // Slots

  #onSlotClosed(slot: V9Slot): void {
    this.#slots[slot.token.slotIndex] = undefined;
    this.#slotCount--;
    slot.owner.slots.delete(slot);
    if (this.#slotCount === 0) this.#stopSweep();
  }

  /** The lowest free place; slots whose time is over make room on the way. */
  #freeIndex(): number | undefined {
    const now = this.#clock.now(performance.now());
    for (let index = 0; index < this.#slots.length; index++) {
      const slot = this.#slots[index];
      if (slot !== undefined && this.#isStale(slot, now)) this.#events.onEnd(slot, "idle");
      if (this.#slots[index] === undefined) return index;
    }
    return undefined;
  }

  /** A ring where the peer can open it: in memory, else as a file. */
  #createRing(peer: V9Peer, slotIndex: number): CreatedRing {
    // The path of memory leads through our pid, which means something else in another namespace, and which the kernel
    // opens only to who may look into us.
    if (this.#options.ring === "memfd" && this.#native.v9Reaches(peer.identity.pid) === 1) {
      const created = this.#create("", slotIndex, this.#lastGeneration);
      if (typeof created !== "number") return created;
      if (created !== Status.unsupported) throw this.#ringError(created, "in memory");
    }
    return this.#createFile(slotIndex, this.#lastGeneration);
  }

  #createFile(slotIndex: number, generation: number): CreatedRing {
    const directory = this.#options.ringDirectory ?? defaultDirectory();
    let created = this.#create(directory, slotIndex, generation);
    for (let i = 1; i < NAMES_MAX && created === Status.pathInUse; i++) {
      created = this.#create(directory, slotIndex, generation + i);
    }
    if (typeof created === "number") throw this.#ringError(created, `in "${directory}"`);
    return created;
  }

  /** @returns A status if there is none. */
  #create(directory: string, slotIndex: number, generation: number): CreatedRing | number {
    const out = new Uint8Array(V9Created.size);
    const bytes = utf8.encode(directory);
    const room = bytes.length === 0 ? new Uint8Array(1) : bytes;
    const { ringCapacityBytes } = this.#options;
    const ring = this.#native.v9RingCreate(room, bytes.length, slotIndex, generation, ringCapacityBytes, out);
    if (ring < 0) return ring;
    const view = new DataView(out.buffer);
    const wakeFd = view.getInt32(V9Created.wakeFd, true);
    const pathLength = view.getUint32(V9Created.pathLength, true);
    try {
      const path = text.decode(out.subarray(V9Created.path, V9Created.path + pathLength));
      return { ring, path, wakeFd, generation };
    } catch {
      this.#native.fdClose(wakeFd);
      this.#native.close(ring);
      const where = `"${directory}", below a working directory whose path is not UTF-8`;
      throw new QlasterError("SYSTEM", `Cannot name a ring in ${where}: make v9.ringDirectory an absolute path`);
    }
  }

  /** Why there is no ring, and what helps. */
  #ringError(status: number, where: string): Error {
    const cure = RING_CURES[status];
    const action = `Cannot create a ring of ${this.#options.ringCapacityBytes} bytes ${where}`;
    if (cure === undefined) return errorFromStatus(status, action);
    const error = errorFromStatus(status, action);
    error.message = `${action} (${describeStatus(status)}): ${cure}`;
    return error;
  }

  // Silence

  #isStale(slot: V9Slot, now: number): boolean {
    return now - slot.seenAt > this.#options.idleTimeoutMs;
  }

  #startSweep(): void {
    if (this.#sweep !== undefined) return;
    this.#clock.tick(performance.now()); // time without slots counts for nobody
    this.#sweep = setInterval(() => this.#onSweep(), this.#sweepMs);
    (this.#sweep as unknown as { unref?: () => void }).unref?.();
  }

  #stopSweep(): void {
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  #onSweep(): void {
    const nowMs = performance.now();
    if (!this.#clock.tick(nowMs)) return;
    const now = this.#clock.now(nowMs);
    for (const slot of this.#slots) {
      if (slot !== undefined && this.#isStale(slot, now)) this.#events.onEnd(slot, "idle");
    }
  }

  // Life

  ref(): void {
    this.#isRef = true;
    for (const peer of this.#peers) peer.ref();
  }

  unref(): void {
    this.#isRef = false;
    for (const peer of this.#peers) peer.unref();
  }

  /** Ends all slots and connections. */
  close(): void {
    this.#isClosed = true;
    // A sentinel, then the socket's end soon behind: that is how a consumer of ours knows an end in order. With shared tokens
    // nobody knows whose socket tells whom.
    if (this.#options.sharedTokens) { for (const slot of this.#slots) slot?.finish(); }
    for (const peer of [...this.#peers]) {
      for (const slot of peer.slots) slot.finish();
      peer.close("sender-closed", peer.wasGranted ? undefined : CLOSING);
    }
    this.#stopSweep();
  }
}

/** Most slots that a sender can have: their index is a byte, whose greatest value means none. */
export const SLOTS_MAX: number = V9_SLOT_NONE;
