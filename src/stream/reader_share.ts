/**
 * A consumer's reading, lent to a Worker: what both threads know. Here from the side of the thread that connects.
 * May touch: a few words of memory. May not touch: rings; whoever has them reads.
 *
 * The connecting thread keeps link, wake and the ring's handle, since a Worker's `terminate()` runs no code of its own, and
 * Deno leaks what its event loop had adopted. It wakes the Worker by `Atomics.notify`, which takes no descriptor, and the
 * Worker it in the same way. Why it is safe, and what a terminated Worker leaves: ADR 0020.
 *
 * @module
 */

import type { Native } from "../native/native.ts";
import type { EndReason } from "../types.ts";
import type { OverflowPolicies } from "./consumer_options.ts";
import type { FilterNames } from "./filter_names.ts";
import { instanceOf } from "./share.ts";
import { createSharedNames, writeSharedNames } from "./shared_names.ts";

/** What a Worker needs to read: see `Consumer.share`. To be posted as it is; its fields are the library's own business. */
export interface ConsumerShare {
  /** Which loaded copy of the native library, of which process, the handle belongs to. */
  readonly instance: number;
  /** The path of the sender's socket, for messages. */
  readonly path: string;
  /** Handle of the consumer's end of the ring. */
  readonly ring: number;
  /** Bytes of the ring, and of all that is mapped. */
  readonly capacityBytes: number;
  /** Both mappings of the ring, and the pool. */
  readonly memoryBytes: number;
  /** What holds when the ring is full. */
  readonly policy: OverflowPolicies;
  /** 32 hexadecimal digits. */
  readonly senderId: string | undefined;
  /** What the bits of masks stand for. */
  readonly names: SharedArrayBuffer;
  /** Whether marks of filter edits are handed out. */
  readonly marks: boolean;
  /** Words that both threads see. */
  readonly signals: SharedArrayBuffer;
}

/** Indexes of the words of `ConsumerShare.signals`, each an i32. */
export const ReaderSignal = {
  /** Counted up, and notified, when there may be something to read or to know. */
  wake: 0,
  /** 1 and the index of the reason, once nothing more comes than what is in the ring. */
  over: 1,
  /** 1 once the consumer is closed: the Worker is to let go. */
  closed: 2,
  /** 1 once a Worker has taken the reading. */
  taken: 3,
  /** 1, and notified, once the Worker reads no longer, and sees nothing of the ring. */
  gone: 4,
} as const;
const SIGNAL_COUNT = 5;

/** Every reason, at the index that stands for it in a word. */
export const END_REASONS: readonly EndReason[] = [
  "closed",
  "sender-closed",
  "sender-gone",
  "consumer-closed",
  "consumer-gone",
  "slow-consumer",
  "idle",
  "evicted",
  "peer-corrupt",
  "handed-over",
];

/** What its consumer says of itself. */
type Lent = Omit<ConsumerShare, "names" | "instance" | "signals">;

/** The connecting thread's side. */
export class ReaderDesk {
  readonly share: ConsumerShare;
  readonly #signals: Int32Array<SharedArrayBuffer>;

  /** @param names What the bits of masks stand for, now and later. @param onGone The Worker reads no longer. */
  constructor(native: Native, lent: Lent, names: FilterNames, onGone: () => void) {
    const signals = new SharedArrayBuffer(4 * SIGNAL_COUNT);
    this.#signals = new Int32Array(signals);
    const shared = createSharedNames();
    writeSharedNames(shared, names.state);
    names.onChange = (state) => writeSharedNames(shared, state);
    this.share = { ...lent, names: shared, instance: instanceOf(native), signals };
    const { value } = Atomics.waitAsync(this.#signals, ReaderSignal.gone, 0);
    void Promise.resolve(value).then(onGone);
  }

  /** There may be something to read. */
  wake(): void {
    Atomics.add(this.#signals, ReaderSignal.wake, 1);
    Atomics.notify(this.#signals, ReaderSignal.wake);
  }

  /** Nothing more comes than what is in the ring. */
  tellOver(reason: EndReason): void {
    Atomics.store(this.#signals, ReaderSignal.over, 1 + END_REASONS.indexOf(reason));
    this.wake();
  }

  /** The consumer is closed. */
  tellClosed(): void {
    Atomics.store(this.#signals, ReaderSignal.closed, 1);
    this.wake();
  }

  /** Whether a Worker may still look at the ring's memory. */
  get isHeld(): boolean {
    return Atomics.load(this.#signals, ReaderSignal.taken) === 1 &&
      Atomics.load(this.#signals, ReaderSignal.gone) === 0;
  }
}
