/**
 * The vocabulary that senders and consumers share: updates, filters, metrics.
 * May touch: nothing; types only, plus the two tables of names.
 * May not touch: the native library, sockets, clocks.
 * Why these names: they are those of `@solana/kit`; its brands are ordinary string-named properties, so the
 * types declared here are assignable to and from kit's own without importing it (kit 7 and 8).
 *
 * @module
 */

/** kit's brand: an ordinary string-named property. */
export type Brand<T, Name extends string> = T & { readonly "__brand:@solana/kit": Name };
/** kit's mark of a string in a certain encoding. */
export type EncodedString<T extends string, Encoding extends string> = T & {
  readonly "__stringEncoding:@solana/kit": Encoding;
};

/** A base58 account address, 32 to 44 characters. The same type as `Address` of `@solana/kit`. */
export type Address<T extends string = string> = Brand<EncodedString<T, "base58">, "Address">;

/**
 * Bytes that may be looked at and not changed: the same type as kit's, so kit's decoders take it. Views over shared
 * memory have it, because that memory is mapped read-only and a write into it ends the process.
 */
export interface ReadonlyUint8Array extends Omit<Uint8Array, "copyWithin" | "fill" | "reverse" | "set" | "sort"> {
  /** The byte at `index`. */
  readonly [index: number]: number;
}

/** Where an update or a filter takes a key: kit's base58 `Address`, or its 32 bytes. */
export type AddressLike = Address | ReadonlyUint8Array;

/** A status of a slot. The numbers on the wire are those of Yellowstone's `SlotStatus`. */
export type SlotStatus =
  | "processed"
  | "confirmed"
  | "finalized"
  | "firstShredReceived"
  | "completed"
  | "createdBank"
  | "dead";

/** Every {@linkcode SlotStatus}, at the index that stands for it on the wire. */
export const SLOT_STATUSES: readonly SlotStatus[] = [
  "processed",
  "confirmed",
  "finalized",
  "firstShredReceived",
  "completed",
  "createdBank",
  "dead",
];

/** One write of an account, as a sender publishes it and as `AccountView.copy()` returns it. */
export interface AccountUpdate {
  /** Tells the updates apart. */
  readonly kind: "account";
  /** The account's address. */
  readonly pubkey: AddressLike;
  /** The program that owns it (kit's `programAddress`). */
  readonly owner: AddressLike;
  /** Balance in lamports. */
  readonly lamports: bigint;
  /** The account's data, 0 to 10,485,760 bytes. Copied before `publish…` returns. */
  readonly data: ReadonlyUint8Array;
  /** The slot in which it was written. */
  readonly slot: bigint;
  /** The validator's write counter. Default 0n. */
  readonly writeVersion?: bigint;
  /** Which bank of the slot, 0n if unknown (the default). */
  readonly bankId?: bigint;
  /** Default 2^64 - 1 (rent exempt). */
  readonly rentEpoch?: bigint;
  /** Whether the account is a program. Default false. */
  readonly executable?: boolean;
  /** 64 bytes: the transaction that wrote it, where the source knows it. */
  readonly signature?: ReadonlyUint8Array | undefined;
  /** Sent while the source was starting up, not because of a write. */
  readonly startup?: boolean;
  /** The source may have missed writes before this one. */
  readonly lossy?: boolean;
  /** When the source saw it: nanoseconds since the Unix epoch, 0n if unknown (the default). */
  readonly sourceNs?: bigint;
  /**
   * Counts the sources of a sender, 0 to 2^32 - 1: versions of a later one are newer, whatever their slots. Default 0.
   */
  readonly sourceEpoch?: number;
}

/**
 * The addresses that a transaction loads from lookup tables, in the order of its indices: behind the message's own keys
 * come the writable ones, then the others. The same shape as `meta.loadedAddresses` of the RPC, and of kit.
 */
export interface LoadedAddresses<Key extends AddressLike = AddressLike> {
  /** Those that it may write to. */
  readonly writable: readonly Key[];
  /** Those that it only reads. */
  readonly readonly: readonly Key[];
}

/** One executed transaction. */
export interface TransactionUpdate {
  /** Tells the updates apart. */
  readonly kind: "transaction";
  /** The slot that executed it. */
  readonly slot: bigint;
  /** Position in the block, 0 to 2^32 - 1. */
  readonly index: number;
  /** 64 bytes: the first signature. */
  readonly signature: ReadonlyUint8Array;
  /** The message bytes: legacy, v0, or v1 (up to 4,096 bytes). Copied before `publish…` returns. */
  readonly message: ReadonlyUint8Array;
  /** Anything the source adds (status, logs, …), opaque here. Copied before `publish…` returns. */
  readonly meta?: ReadonlyUint8Array | undefined;
  /**
   * What it loaded from lookup tables, at most 256 addresses, where the source knows it (`meta.loadedAddresses` of the
   * RPC). Filters of transactions find it by these as by the keys in its message. Default none.
   */
  readonly loadedAddresses?: LoadedAddresses | undefined;
  /** Whether it is a vote. Default false. */
  readonly vote?: boolean;
  /** Whether it failed. Default false. */
  readonly failed?: boolean;
  /** Which bank of the slot, 0n if unknown (the default). */
  readonly bankId?: bigint;
  /** The source may have missed updates before this one. Default false. */
  readonly lossy?: boolean;
  /** When the source saw it: nanoseconds since the Unix epoch, 0n if unknown (the default). */
  readonly sourceNs?: bigint;
}

/** A slot reached a status. Published after the updates of that slot, it closes them: see the counts of {@linkcode SlotCounts}. */
export interface SlotUpdate {
  /** Tells the updates apart. */
  readonly kind: "slot";
  /** The slot's number. */
  readonly slot: bigint;
  /** The slot that it builds on. */
  readonly parent: bigint;
  /** What it reached. */
  readonly status: SlotStatus;
  /** Which bank of the slot, 0n if unknown (the default). */
  readonly bankId?: bigint;
  /** The source may have missed updates before this one. Default false. */
  readonly lossy?: boolean;
  /** When the source saw it: nanoseconds since the Unix epoch, 0n if unknown (the default). */
  readonly sourceNs?: bigint;
}

/** What a sender takes. */
export type Update = AccountUpdate | TransactionUpdate | SlotUpdate;

/** What the sender adds to a slot frame, so that a barrier never lies. */
export interface SlotCounts {
  /** Accounts that this sender has published for the slot before this, whatever the filters. */
  readonly accountsPublished: number;
  /** Transactions, likewise. */
  readonly transactionsPublished: number;
  /**
   * Accounts of the slot that were published before this, matched this connection's filters and did not come: not written
   * for it, or skipped by it (policy "drop-oldest"). What was lost behind this is said by the next frame of the slot.
   */
  readonly accountsLost: number;
  /** Transactions, likewise. */
  readonly transactionsLost: number;
}

/** What happens to a consumer whose ring is full, as far as its sender permits it. */
export type OverflowPolicy =
  /** Its connection ends with the reason "slow-consumer" (the default, as in the original). */
  | "disconnect"
  /** The update is lost, and the next frame says so. */
  | "drop-newest"
  /** What it has not read is skipped; the newest updates wait for it at the sender. */
  | "drop-oldest"
  /** Updates wait for it at the sender, of each account the newest. */
  | "conflate"
  /** The sender publishes nothing until it has room. */
  | "block";

/** Every {@linkcode OverflowPolicy}, at the index that stands for it on the wire. */
export const OVERFLOW_POLICIES: readonly OverflowPolicy[] = [
  "disconnect",
  "drop-newest",
  "drop-oldest",
  "conflate",
  "block",
];

/**
 * What a consumer asks for. Accounts match by key OR by owner; an empty list matches nothing; slots come without
 * asking.
 */
export interface Subscription {
  /** Accounts by address. */
  readonly accounts?: Iterable<AddressLike>;
  /** Accounts by the program that owns them. */
  readonly owners?: Iterable<AddressLike>;
  /** All transactions. Once asked for, it stays until `unsubscribe`. Default false. */
  readonly transactions?: boolean;
  /**
   * Send what you have of these accounts first: updates with `isState`, and behind the last of them one of the kind
   * "snapshot-complete". Of a sender that keeps none (its option `state`), that comes at once and knows nothing. Default
   * false.
   */
  readonly state?: boolean;
}

/** The sender's answer to a subscription. */
export interface SubscriptionAck {
  /**
   * Counts the edits of this consumer's filters: the first is 1. A long list of keys counts more than once, and so do filters
   * that are set again after a reconnect.
   */
  readonly generation: number;
  /** The filter holds for every update with a greater sequence, in the order of the sender that has answered. */
  readonly sequence: bigint;
}

/** Why a connection ended. */
export type EndReason =
  /** This side called `close()`, or its signal was aborted. */
  | "closed"
  /** The sender called `close()`. */
  | "sender-closed"
  /** Another sender has taken the path over, and goes on with the same order of updates. */
  | "handed-over"
  /** The sender's process is gone without a goodbye. */
  | "sender-gone"
  /** The consumer called `close()`. */
  | "consumer-closed"
  /** The consumer's process is gone without a goodbye. */
  | "consumer-gone"
  /** The ring was full, or its part of the pool: the consumer did not read fast enough. */
  | "slow-consumer"
  /** Wire version 9: the consumer said nothing for longer than the sender allows, which is 30 s. */
  | "idle"
  /** Wire version 9: the sender dropped this consumer, and does not say why. */
  | "evicted"
  /** The other side broke the protocol, or wrote nonsense into shared memory. */
  | "peer-corrupt";

/** Names a slot of wire version 9 at its sender. */
export interface SlotToken {
  /** Place among the sender's slots, 0 to 254. */
  readonly slotIndex: number;
  /** Counts the slots that the sender has tried to create: the first is 1. */
  readonly generation: bigint;
}

/** What was published for a consumer and is not read: as the consumer sees it by `lag()`, or its sender by `consumers()`. */
export interface Backlog {
  /** Bytes of the ring. */
  readonly bytes: number;
  /** Matching updates, those included that wait at the sender for room, and those that are lost and were not told of yet. */
  readonly frames: number;
  /** Microseconds since the oldest that the one who is asked can see was published; 0 for none. */
  readonly ageUs: number;
}

/** What one consumer looks like from the sender's side. */
export interface ConsumerInfo {
  /** Counts the sender's connections: the first is 1. */
  readonly id: number;
  /** The label that the consumer gave itself (`setupConsumer(path, { name })`), "" if none. */
  readonly name: string;
  /** What it speaks: this library's own protocol, or wire version 9 of the Rust original. */
  readonly protocol: "native" | "v9";
  /** As the kernel reports it. Information only. */
  readonly pid: number;
  /** The user that it runs as, by the kernel's word. */
  readonly uid: number;
  /** Milliseconds since the Unix epoch. */
  readonly connectedAt: number;
  /** Account keys in its filters, those of transaction filters included. */
  readonly accounts: number;
  /** Owner keys in its filters. */
  readonly owners: number;
  /** Whether it asked for all transactions, or has a filter of transactions without a list of keys. */
  readonly transactions: boolean;
  /** Its ring: size, and bytes between the sender's cursor and its own. */
  readonly ring: { readonly capacityBytes: number; readonly usedBytes: number };
  /** What happens when its ring is full. */
  readonly policy: OverflowPolicy;
  /** What waits for it at the sender, for want of room in its ring. */
  readonly waiting: { readonly frames: number; readonly bytes: number };
  /**
   * How far it is behind, as `lag()` tells the consumer; here what was handed out counts until it is given back, and the age
   * includes what waits. Wire version 9, which numbers nothing: bytes alone.
   */
  readonly lag: Backlog;
  /** Bytes of the sender's pool that frames in its ring hold. */
  readonly poolBytes: number;
  /** Frames handed to this connection. */
  readonly frames: number;
  /** Matching updates that it did not get: not written for it, or, by its own word, skipped by "drop-oldest". */
  readonly lost: number;
  /** Those of them that a newer value of the same account replaced. */
  readonly conflated: number;
  /** All of them by reason. */
  readonly losses: LossCounts;
  /** Whether it sleeps until the next frame. */
  readonly parked: boolean;
}

/** What a sender counts, for itself and on its stat page, since it was set up. */
export interface SenderCounts {
  /** Account updates published. */
  readonly accounts: number;
  /** Transactions published. */
  readonly transactions: number;
  /** Slot updates published. */
  readonly slots: number;
  /** Updates handed to rings, one per matching consumer; those that had to wait count when they are. */
  readonly deliveries: number;
  /** Matching updates that a consumer did not get: not written for it, or, by its own word, skipped by "drop-oldest". */
  readonly lost: number;
  /** Those of them that a newer value of the same account replaced. */
  readonly conflated: number;
  /** All of them by reason, those of consumers that have gone included. */
  readonly losses: LossCounts;
  /** Published updates that changed nothing, and that filters with `onlyChanged` did not get: once for each such filter. */
  readonly unchanged: number;
  /** Updates that were older than what had been published of their account, as far as a consumer wants that. */
  readonly olderVersions: number;
  /** The pool: its size, and bytes of it in use. */
  readonly pool: { readonly capacityBytes: number; readonly usedBytes: number };
  /** Consumers granted so far. */
  readonly connections: number;
  /** Connections that were refused, or never asked for anything: each is a `RefusedEvent`. */
  readonly refused: number;
  /** Bytes of all rings, and what belongs to them, of the present consumers. */
  readonly memoryBytes: number;
}

/**
 * Matching updates that consumers did not get, by reason. `skipped` is consumers' own word, and theirs once they read on; the
 * rest the sender counts itself.
 */
export interface LossCounts {
  /** A newer version of the account took its place: the policy "conflate". The `conflated` of elsewhere. */
  readonly replaced: number;
  /** Jumped over to the newest: the policy "drop-oldest". */
  readonly skipped: number;
  /** The ring had no room: `ringCapacityBytes`, or a faster consumer. */
  readonly ringFull: number;
  /**
   * Unread payloads of one consumer were a quarter of the pool, or more than was left of it, and the ring had no
   * room: `poolBytes`, or a faster consumer.
   */
  readonly poolShare: number;
  /** The pool had no room for the payload, and the ring none for a copy: `poolBytes`. */
  readonly poolFull: number;
  /** What waits at the sender for one consumer had reached its bound: `queueMaxBytes`, and the consumer's `queueBytes`. */
  readonly queueFull: number;
  /** It can never fit the ring, or what may wait for it: `ringCapacityBytes`. */
  readonly tooLarge: number;
  /** The system had no memory for what waits. */
  readonly noMemory: number;
  /** It waited for room until the connection's end. */
  readonly ended: number;
}

/** Each accepted subscription request, and when it came (what the original forwards to the application). */
export interface SubscriptionEvent {
  /** Who asked. */
  readonly consumer: ConsumerInfo;
  /** The account keys of this request, 32 bytes each, in its order. */
  readonly accounts: readonly Uint8Array[];
  /** The owner keys, likewise. */
  readonly owners: readonly Uint8Array[];
  /** Whether it asks for transactions. */
  readonly transactions: boolean;
  /** Wire version 9: the token that came with the request, live or not; undefined for none, and of a native consumer. */
  readonly token: SlotToken | undefined;
  /** `performance.now()` at the moment the request had been decoded. */
  readonly receivedAt: number;
}

/** Somebody connected and got no ring: refused, too late, or gone before. Counted in `SenderMetrics.refused`. */
export interface RefusedEvent {
  /** Tells the events apart. */
  readonly type: "refused";
  /** What it spoke; undefined if that can't be known, such as when it said nothing. */
  readonly protocol: "native" | "v9" | undefined;
  /** As the kernel reports it, 0 if unknown. Information only. */
  readonly pid: number;
  /** The user that it runs as, by the kernel's word; -1 if unknown. */
  readonly uid: number;
  /** Why, for people: with the numbers and options that matter. Its wording is no promise. */
  readonly reason: string;
}

/** A consumer came or went, or somebody did not become one. */
export type ConsumerEvent =
  | { readonly type: "connected"; readonly consumer: ConsumerInfo }
  | { readonly type: "disconnected"; readonly consumer: ConsumerInfo; readonly reason: EndReason }
  | RefusedEvent;
