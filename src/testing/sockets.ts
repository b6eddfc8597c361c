/**
 * What a host's kernel does between processes, in memory: paths to listen at and connect to, streams that carry bytes and
 * descriptors, wakes.
 * May touch: descriptors of regions that travel, to close them. May not touch: sockets, timers.
 *
 * Descriptors of streams and wakes, and handles of them, are numbers beyond all that are the kernel's or the library's.
 *
 * @module
 */

import { Status } from "../native/abi.generated.ts";
import type { Watch } from "../native/native.ts";

/** Descriptors have to fit into 31 bits. */
const FIRST_DESCRIPTOR = 2 ** 30;
const FIRST_HANDLE = 2 ** 40;
/** errno values, negative as the library has them. */
const ENOENT = -2;
const ECONNREFUSED = -111;

interface Chunk {
  bytes: Uint8Array;
  descriptors: readonly number[];
}

/** One end of a stream. */
class End {
  readonly received: Chunk[] = [];
  peer!: End;
  isClosed = false;
}

interface Wake {
  onWake: (() => void) | undefined;
  onClose: (() => void) | undefined;
  /** The end that notifies is gone. */
  isCut: boolean;
  isWatched: boolean;
  isDue: boolean;
  /** Notified before anybody watched. */
  isEarly: boolean;
}

interface Listener {
  readonly path: string;
  onLink: ((link: number) => void) | undefined;
}

/** Runs what is due, when all that runs now is done. */
function soon(call: () => void): void {
  queueMicrotask(call);
}

/** The sockets of one host. */
export class VirtualSockets {
  readonly #closeReal: (fd: number) => void;
  readonly #listeners = new Map<string, Listener>();
  readonly #handles = new Map<number, End | Listener | Wake>();
  /** Watching ends of wakes by descriptor, and the notifying ends. */
  readonly #watching = new Map<number, Wake>();
  readonly #notifying = new Map<number, Wake>();
  /** How many own a descriptor: who sent it, and streams that it is on. Not in here: one. */
  readonly #owners = new Map<number, number>();
  #lastDescriptor = FIRST_DESCRIPTOR;
  #lastHandle = FIRST_HANDLE;

  constructor(closeReal: (fd: number) => void) {
    this.#closeReal = closeReal;
  }

  /** Whether a descriptor is one of ours. */
  static ownsDescriptor(fd: number): boolean {
    return fd >= FIRST_DESCRIPTOR;
  }

  /** Whether a handle is one of ours. */
  static ownsHandle(handle: number): boolean {
    return handle >= FIRST_HANDLE;
  }

  #add(object: End | Listener | Wake): number {
    this.#handles.set(++this.#lastHandle, object);
    return this.#lastHandle;
  }

  // Paths

  listen(path: string): number {
    if (this.#listeners.has(path)) return Status.pathInUse;
    const listener: Listener = { path, onLink: undefined };
    this.#listeners.set(path, listener);
    return this.#add(listener);
  }

  accept(handle: number, onLink: (link: number) => void): Watch {
    (this.#handles.get(handle) as Listener).onLink = onLink;
    return { close() {}, ref() {}, unref() {} };
  }

  connect(path: string): number {
    const listener = this.#listeners.get(path);
    if (listener === undefined) return ENOENT;
    if (listener.onLink === undefined) return ECONNREFUSED;
    const [ours, theirs] = [new End(), new End()];
    [ours.peer, theirs.peer] = [theirs, ours];
    const { onLink } = listener;
    // Accepted when it has said something: a sender looks at once, and has nothing to wait for.
    this.#onFirstWord.set(ours, () => {
      if (theirs.isClosed) return;
      onLink(this.#add(theirs));
    });
    return this.#add(ours);
  }

  readonly #onFirstWord = new WeakMap<End, () => void>();

  // Streams

  send(handle: number, bytes: Uint8Array, descriptors: readonly number[]): number {
    const end = this.#handles.get(handle) as End;
    if (end.peer.isClosed) return Status.endOfStream;
    for (const fd of descriptors) this.#owners.set(fd, (this.#owners.get(fd) ?? 1) + 1);
    end.peer.received.push({ bytes: bytes.slice(), descriptors });
    const first = this.#onFirstWord.get(end);
    this.#onFirstWord.delete(end);
    if (first !== undefined) soon(first);
    return bytes.length;
  }

  /** Writes what has come into `bytes`; descriptors as the library does: their number, and then they. */
  receive(handle: number, bytes: Uint8Array, descriptors: Uint32Array): number {
    const end = this.#handles.get(handle) as End;
    descriptors[0] = 0;
    const chunk = end.received[0];
    if (chunk === undefined) return end.peer.isClosed ? Status.endOfStream : Status.wouldBlock;
    for (const fd of chunk.descriptors) {
      descriptors[0]!++;
      descriptors[descriptors[0]!] = fd;
    }
    chunk.descriptors = [];
    const count = Math.min(bytes.length, chunk.bytes.length);
    bytes.set(chunk.bytes.subarray(0, count));
    chunk.bytes = chunk.bytes.subarray(count);
    if (chunk.bytes.length === 0) end.received.shift();
    return count;
  }

  // Wakes

  /** Two ends: who is woken, and who wakes. */
  createWake(): [own: number, others: number] {
    const wake: Wake = {
      onWake: undefined,
      onClose: undefined,
      isCut: false,
      isWatched: false,
      isDue: false,
      isEarly: false,
    };
    const [own, others] = [++this.#lastDescriptor, ++this.#lastDescriptor];
    this.#watching.set(own, wake);
    this.#notifying.set(others, wake);
    return [own, others];
  }

  openWake(fd: number): number {
    const wake = this.#notifying.get(fd);
    if (wake === undefined) return Status.badDescriptor;
    this.#notifying.delete(fd);
    this.release(fd);
    return this.#add(wake);
  }

  notify(handle: number): void {
    const wake = this.#handles.get(handle) as Wake | undefined;
    if (wake === undefined) return;
    if (!wake.isWatched) wake.isEarly = true;
    else if (!wake.isDue) {
      wake.isDue = true;
      soon(() => {
        wake.isDue = false;
        if (wake.isWatched) wake.onWake?.();
      });
    }
  }

  watch(fd: number, onWake: () => void, onClose: () => void): Watch {
    const wake = this.#watching.get(fd)!;
    [wake.onWake, wake.onClose, wake.isWatched] = [onWake, onClose, true];
    if (wake.isEarly) soon(() => wake.isWatched && onWake());
    if (wake.isCut) soon(() => wake.isWatched && onClose());
    const close = () => {
      wake.isWatched = false;
      this.#watching.delete(fd);
    };
    return { close, ref() {}, unref() {} };
  }

  #cut(wake: Wake): void {
    if (wake.isCut) return;
    wake.isCut = true;
    soon(() => wake.isWatched && wake.onClose?.());
  }

  // The end of things

  /** A descriptor: ours, or the kernel's, once nobody owns it any longer. */
  closeDescriptor(fd: number): void {
    if (!this.release(fd)) return;
    if (!VirtualSockets.ownsDescriptor(fd)) return this.#closeReal(fd);
    const wake = this.#notifying.get(fd);
    this.#notifying.delete(fd);
    if (wake !== undefined) this.#cut(wake);
  }

  /** One owner less. Whether it was the last. */
  release(fd: number): boolean {
    const owners = (this.#owners.get(fd) ?? 1) - 1;
    if (owners > 0) this.#owners.set(fd, owners);
    else this.#owners.delete(fd);
    return owners === 0;
  }

  closeHandle(handle: number): void {
    const object = this.#handles.get(handle);
    this.#handles.delete(handle);
    if (object instanceof End) this.#closeEnd(object);
    else if (object !== undefined && "path" in object) this.#listeners.delete(object.path);
    else if (object !== undefined) this.#cut(object);
  }

  #closeEnd(end: End): void {
    end.isClosed = true;
    for (const { descriptors } of end.received.splice(0)) for (const fd of descriptors) this.closeDescriptor(fd);
  }
}
