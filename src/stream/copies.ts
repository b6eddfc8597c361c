/**
 * What `copy()` of a view returns: plain objects that last.
 * May touch: nothing; types only.
 *
 * @module
 */

import type { AccountUpdate, LoadedAddresses, SlotCounts, SlotUpdate, TransactionUpdate } from "../types.ts";

/** What most transactions have loaded. */
export const NO_ADDRESSES: LoadedAddresses<Uint8Array> = Object.freeze({
  writable: Object.freeze([]),
  readonly: Object.freeze([]),
});

/**
 * What a connection adds to every update: its place in the order, its times, what is missing before it. From a sender of
 * wire version 9, which numbers nothing and tells of no loss, some of it is another thing or unknown.
 */
export interface Delivery {
  /**
   * Place in the sender's one order of updates; the first is 1, filters make holes. Wire version 9: bytes of the ring up to
   * the end of this frame, which only grow.
   */
  readonly sequence: bigint;
  /** When the sender published it: nanoseconds since the Unix epoch. */
  readonly publishNs: bigint;
  /** When its source saw it, likewise; 0n if unknown, as always from wire version 9. */
  readonly sourceNs: bigint;
  /** Matching updates that this connection did not get since its previous frame. Wire version 9: 0, it can't tell. */
  readonly lost: number;
  /** Those of them that a newer value of the same account replaced. Wire version 9: 0. */
  readonly conflated: number;
}

/** What a connection adds to updates that filters are asked for. */
export interface Matched {
  /** Names of this consumer's filters that it matches; "" is the one of `subscribe`. */
  readonly filters: readonly string[];
}

/** A copy that lasts. A sender takes it as it is: mind `fullLength`, if filters asked for slices. */
export interface AccountCopy extends AccountUpdate, Delivery, Matched {
  /** 32 bytes: the account's address. */
  readonly pubkey: Uint8Array;
  /** 32 bytes: the program that owns it. */
  readonly owner: Uint8Array;
  /** The account's data. */
  readonly data: Uint8Array;
  /** 64 bytes: the transaction that wrote it, where the source knows it. */
  readonly signature: Uint8Array | undefined;
  /** The validator's write counter. */
  readonly writeVersion: bigint;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The epoch at which it owes rent next. */
  readonly rentEpoch: bigint;
  /** Whether the account is a program. */
  readonly executable: boolean;
  /** Sent while the source was starting up, not because of a write. */
  readonly startup: boolean;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
  /** When its source saw it: nanoseconds since the Unix epoch; 0n if unknown. */
  readonly sourceNs: bigint;
  /** Counts the sources of the sender: versions of a later one are newer. */
  readonly sourceEpoch: number;
  /** Bytes of data that the account has; `data` has fewer if filters asked for slices. */
  readonly fullLength: number;
  /** Not a write: what the sender knew of it when it was asked for state. */
  readonly isState: boolean;
  /** Not a write: this version holds again, since a newer one was a dead bank's. */
  readonly isRestored: boolean;
}

/** A copy that lasts. A sender takes it as it is. */
export interface TransactionCopy extends TransactionUpdate, Delivery, Matched {
  /** 64 bytes: the first signature. */
  readonly signature: Uint8Array;
  /** The message bytes: legacy, v0 or v1. */
  readonly message: Uint8Array;
  /** What the source added, if anything. */
  readonly meta: Uint8Array | undefined;
  /** What it loaded from lookup tables, 32 bytes each; empty where the source did not say. */
  readonly loadedAddresses: LoadedAddresses<Uint8Array>;
  /** Whether it is a vote. */
  readonly vote: boolean;
  /** Whether it failed. */
  readonly failed: boolean;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
  /** When its source saw it: nanoseconds since the Unix epoch; 0n if unknown. */
  readonly sourceNs: bigint;
}

/** A copy that lasts. A sender takes it as it is (and counts for itself). */
export interface SlotCopy extends SlotUpdate, SlotCounts, Delivery {
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
  /** When its source saw it: nanoseconds since the Unix epoch; 0n if unknown. */
  readonly sourceNs: bigint;
}

/** A copy that lasts: an account has left filters. Which of them the sender knows: see `LeftView`. */
export interface LeftCopy extends Delivery, Matched {
  /** Tells the copies apart. */
  readonly kind: "left";
  /** 32 bytes: the account's address. */
  readonly pubkey: Uint8Array;
  /** 32 bytes: its owner by now. */
  readonly owner: Uint8Array;
  /** Balance in lamports. */
  readonly lamports: bigint;
  /** The slot of the write by which it left. */
  readonly slot: bigint;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The validator's write counter. */
  readonly writeVersion: bigint;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
}

/** A copy that lasts: of an account the sender knows nothing any longer. */
export interface WithdrawnCopy extends Omit<LeftCopy, "kind"> {
  /** Tells the copies apart. */
  readonly kind: "withdrawn";
}

/** A copy that lasts: a bank is dead. */
export interface RollbackCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "rollback";
  /** The slot whose bank it was. */
  readonly slot: bigint;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** Accounts that are taken back, whatever the filters. */
  readonly accounts: number;
  /** 0: what follows says all. Else accounts that the sender has forgotten, of which it can't be said what holds. */
  readonly evicted: number;
  /** Never true. */
  readonly lossy: boolean;
}

/** A copy that lasts: all that a request for state asked for has come. */
export interface SnapshotCompleteCopy extends Delivery, Matched {
  /** Tells the copies apart. */
  readonly kind: "snapshot-complete";
  /** Counts the edits of this consumer's filters: which of them asked. */
  readonly generation: number;
  /** What the sender knew by then came as state, what it got later came live. */
  readonly asOfSequence: bigint;
  /** Accounts that matched: as state, or live meanwhile. */
  readonly known: number;
  /** Keys of the request that the sender knows nothing of. */
  readonly unknownKeys: number;
  /** Accounts that the sender has forgotten for want of memory since it began. */
  readonly evicted: number;
  /** The filter was replaced or removed before all was sent. */
  readonly isCut: boolean;
  /** Never true. */
  readonly lossy: boolean;
}

/** A copy that lasts: a resumed connection has caught up. */
export interface ResumedCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "resumed";
  /** The sequence that had been handled last. */
  readonly after: bigint;
  /** Updates up to this one were replayed. */
  readonly replayedTo: bigint;
  /** Updates from behind this one are live; what lies between the two is lost. */
  readonly liveAfter: bigint;
  /** Accounts that senders before this one, whose order it has taken over, had forgotten by then for want of memory. */
  readonly evicted: number;
  /** Never true. */
  readonly lossy: boolean;
}

/** A copy that lasts: an edit of the filters took effect. */
export interface FilterMarkCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "filter";
  /** Counts the edits of this connection's filters. */
  readonly generation: number;
  /** Never true. */
  readonly lossy: boolean;
}

/** A copy that lasts: updates were lost. */
export interface GapCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "gap";
  /** Updates lost on this connection since it began. */
  readonly lostTotal: number;
  /** Never true. */
  readonly lossy: boolean;
}
