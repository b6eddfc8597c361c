/**
 * The vocabulary that senders and consumers share: updates, filters, metrics.
 * May touch: nothing; types only, plus the two tables of names.
 * May not touch: the native library, sockets, clocks.
 * Why these names: they are those of `@solana/kit`; its brands are ordinary string-named properties, so the
 * types declared here are assignable to and from kit's own without importing it (kit 7 and 8).
 *
 * @module
 */

type Brand<T, Name extends string> = T & { readonly "__brand:@solana/kit": Name };
type EncodedString<T extends string, Encoding extends string> = T & {
  readonly "__stringEncoding:@solana/kit": Encoding;
};

/** A base58 account address, 32 to 44 characters. The same type as `Address` of `@solana/kit`. */
export type Address<T extends string = string> = Brand<EncodedString<T, "base58">, "Address">;

/**
 * Bytes that may be looked at and not changed: the same type as kit's, so kit's decoders take it. Views over shared
 * memory have it, because that memory is mapped read-only and a write into it ends the process.
 */
export interface ReadonlyUint8Array extends Omit<Uint8Array, "copyWithin" | "fill" | "reverse" | "set" | "sort"> {
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
  readonly kind: "account";
  /** The account's address. */
  readonly pubkey: AddressLike;
  /** The program that owns it (kit's `programAddress`). */
  readonly owner: AddressLike;
  readonly lamports: bigint;
  /** The account's data, 0 to 10,485,760 bytes. Copied before `publish…` returns. */
  readonly data: ReadonlyUint8Array;
  readonly slot: bigint;
  /** The validator's write counter. Default 0n. */
  readonly writeVersion?: bigint;
  /** Which bank of the slot, 0n if unknown (the default). */
  readonly bankId?: bigint;
  /** Default 2^64 - 1 (rent exempt). */
  readonly rentEpoch?: bigint;
  readonly executable?: boolean;
  /** 64 bytes: the transaction that wrote it, where the source knows it. */
  readonly signature?: ReadonlyUint8Array | undefined;
  /** Sent while the source was starting up, not because of a write. */
  readonly startup?: boolean;
  /** The source may have missed writes before this one. */
  readonly lossy?: boolean;
  /** When the source saw it: nanoseconds since the Unix epoch, 0n if unknown (the default). */
  readonly sourceNs?: bigint;
}

/** One executed transaction. */
export interface TransactionUpdate {
  readonly kind: "transaction";
  readonly slot: bigint;
  /** Position in the block, 0 to 2^32 - 1. */
  readonly index: number;
  /** 64 bytes: the first signature. */
  readonly signature: ReadonlyUint8Array;
  /** The message bytes: legacy, v0, or v1 (up to 4,096 bytes). Copied before `publish…` returns. */
  readonly message: ReadonlyUint8Array;
  /** Anything the source adds (status, logs, …), opaque here. Copied before `publish…` returns. */
  readonly meta?: ReadonlyUint8Array | undefined;
  readonly vote?: boolean;
  readonly failed?: boolean;
  readonly bankId?: bigint;
  readonly lossy?: boolean;
  readonly sourceNs?: bigint;
}

/** A slot reached a status. Published after the updates of that slot, it closes them: see the counts of {@linkcode SlotCounts}. */
export interface SlotUpdate {
  readonly kind: "slot";
  readonly slot: bigint;
  readonly parent: bigint;
  readonly status: SlotStatus;
  readonly bankId?: bigint;
  readonly lossy?: boolean;
  readonly sourceNs?: bigint;
}

/** What a sender takes. */
export type Update = AccountUpdate | TransactionUpdate | SlotUpdate;

/** What the sender adds to a slot frame, so that a barrier never lies. */
export interface SlotCounts {
  /** Accounts that this sender has published for the slot, whatever the filters. */
  readonly accountsPublished: number;
  /** Transactions, likewise. */
  readonly transactionsPublished: number;
  /** Accounts of the slot that matched this connection's filter and did not reach it. */
  readonly accountsLost: number;
  /** Transactions, likewise. */
  readonly transactionsLost: number;
}

/** What a consumer asks for. Accounts match by key OR by owner; an empty list matches nothing; slots always come. */
export interface Subscription {
  readonly accounts?: Iterable<AddressLike>;
  readonly owners?: Iterable<AddressLike>;
  /** All transactions. Sticky: once asked for, it stays. Default false. */
  readonly transactions?: boolean;
}

/** The sender's answer to a subscription. */
export interface SubscriptionAck {
  /** Counts the edits of this connection's filter: the first is 1. */
  readonly generation: number;
  /** The filter holds for every update with a greater sequence. */
  readonly sequence: bigint;
}

/** Why a connection ended. */
export type EndReason =
  /** This side called `close()`, or its signal was aborted. */
  | "closed"
  /** The sender called `close()`. */
  | "sender-closed"
  /** The sender's process is gone without a goodbye. */
  | "sender-gone"
  /** The consumer called `close()`. */
  | "consumer-closed"
  /** The consumer's process is gone without a goodbye. */
  | "consumer-gone"
  /** The ring was full: the consumer did not read fast enough. */
  | "slow-consumer"
  /** The other side broke the protocol, or wrote nonsense into shared memory. */
  | "peer-corrupt";

/** What one consumer looks like from the sender's side. */
export interface ConsumerInfo {
  /** Counts the sender's connections: the first is 1. */
  readonly id: number;
  /** The label that the consumer gave itself (`setupConsumer(path, { name })`), "" if none. */
  readonly name: string;
  /** As the kernel reports it. Information only. */
  readonly pid: number;
  readonly uid: number;
  /** Milliseconds since the Unix epoch. */
  readonly connectedAt: number;
  readonly accounts: number;
  readonly owners: number;
  readonly transactions: boolean;
  readonly ring: { readonly capacityBytes: number; readonly usedBytes: number };
  /** Frames handed to this connection. */
  readonly frames: number;
  /** Matching updates that this connection did not get. */
  readonly lost: number;
  readonly parked: boolean;
}

/** Each accepted subscription request, and when it came (what the original forwards to the application). */
export interface SubscriptionEvent {
  readonly consumer: ConsumerInfo;
  readonly accounts: readonly Uint8Array[];
  readonly owners: readonly Uint8Array[];
  readonly transactions: boolean;
  /** `performance.now()` at the moment the request had been decoded. */
  readonly receivedAt: number;
}

/** A consumer came or went. */
export type ConsumerEvent =
  | { readonly type: "connected"; readonly consumer: ConsumerInfo }
  | { readonly type: "disconnected"; readonly consumer: ConsumerInfo; readonly reason: EndReason };
