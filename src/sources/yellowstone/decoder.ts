/**
 * A `SubscribeUpdate` of Yellowstone, as it stands in the socket's bytes, to one of our updates: decoded once, its keys and
 * data views into those bytes, which nobody overwrites.
 * May touch: the bytes that it is given. May not touch: sockets, order, what has been seen before.
 * This is a hot path: no closures, no object but the update, its views and its numbers.
 *
 * @module
 */

import { LOADED_KEYS_MAX, PAYLOAD_BYTES_MAX } from "../../native/abi.generated.ts";
import {
  type AccountUpdate,
  SLOT_STATUSES,
  type SlotStatus,
  type SlotUpdate,
  type TransactionUpdate,
} from "../../types.ts";
import { ProtobufError, ProtobufReader } from "./protobuf.ts";
import { messageFromProtobuf } from "./transaction_message.ts";

const KEY_SIZE = 32;
const SIGNATURE_SIZE = 64;
/** Owners that are remembered. */
const OWNERS_KNOWN = 256;
/** Makes a bigint of two halves, where adding two bigints would make two. */
const SCRATCH = new DataView(new ArrayBuffer(8));
const NOTHING = new Uint8Array(0);
const U64_MAX = (1n << 64n) - 1n;
/** The tail of 2^64 - 1 as a varint: nearly every account's rent epoch, and the one number that would be slow to read. */
const U64_MAX_BYTES = 10;

/** What a message was. */
export const Decoded = { other: 0, account: 1, transaction: 2, slot: 3, ping: 4, pong: 5 } as const;

/** An account as it came. */
export class GeyserAccount implements AccountUpdate {
  readonly kind = "account";
  readonly pubkey: Uint8Array;
  readonly owner: Uint8Array;
  readonly lamports: bigint;
  readonly data: Uint8Array;
  readonly slot: bigint;
  readonly writeVersion: bigint;
  readonly rentEpoch: bigint;
  readonly executable: boolean;
  readonly signature: Uint8Array | undefined;
  readonly startup: boolean;
  readonly lossy: boolean;
  readonly sourceNs: bigint;
  readonly sourceEpoch: number;

  constructor(d: UpdateDecoder) {
    this.pubkey = d.pubkey;
    this.owner = d.owner;
    this.lamports = d.lamports;
    this.data = d.data;
    this.slot = d.slot;
    this.writeVersion = d.writeVersion;
    this.rentEpoch = d.rentEpoch;
    this.executable = d.executable;
    this.signature = d.signature;
    this.startup = d.startup;
    this.lossy = d.lossy;
    this.sourceNs = d.sourceNs;
    this.sourceEpoch = d.epoch;
  }
}

/** Decodes one message at a time into its own fields, of which `account()` and the like make an update. */
export class UpdateDecoder {
  /** What the account updates of this connection carry. */
  epoch = 0;
  /** Whether something before may be missing. */
  lossy = false;
  /** Whether a transaction keeps its meta. */
  withMeta = true;

  // Of the last message. Fields of another kind than its own are stale.
  slot = 0n;
  /** The same as a number. */
  slotNumber = 0;
  sourceNs = 0n;
  pubkey: Uint8Array = NOTHING;
  owner: Uint8Array = NOTHING;
  lamports = 0n;
  data: Uint8Array = NOTHING;
  writeVersion = 0n;
  rentEpoch = U64_MAX;
  executable = false;
  signature: Uint8Array | undefined;
  startup = false;
  status = 0;
  parent = 0n;
  index = 0;
  isVote = false;
  isFailed = false;
  /** Of a ping's answer. */
  pongId = 0;

  readonly #reader = new ProtobufReader();
  #message: Uint8Array = NOTHING;
  #meta: Uint8Array | undefined;
  #loadedWritable: Uint8Array[] | undefined;
  #loadedReadonly: Uint8Array[] | undefined;
  #seconds = 0;
  /** Of these seconds, in nanoseconds: the halves of a number of 64 bits. */
  #secondsHigh = 0;
  #secondsLow = 0;
  readonly #owners: Uint8Array[] = [];

  /**
   * @returns One of {@linkcode Decoded}. @throws {ProtobufError} for what is no `SubscribeUpdate`.
   */
  decode(bytes: Uint8Array, start: number, end: number): number {
    const reader = this.#reader;
    reader.reset(bytes, start, end);
    this.sourceNs = 0n;
    let kind: number = Decoded.other;
    while (reader.at < end) {
      const tag = reader.varint();
      switch (tag) {
        case 18:
          this.#account();
          kind = Decoded.account;
          break;
        case 26:
          this.#slotStatus();
          kind = Decoded.slot;
          break;
        case 34:
          this.#transaction();
          kind = Decoded.transaction;
          break;
        case 50:
          reader.at = reader.length();
          kind = Decoded.ping;
          break;
        case 74:
          this.#pong();
          kind = Decoded.pong;
          break;
        case 90:
          this.#createdAt();
          break;
        default:
          reader.skip(tag);
      }
    }
    return kind;
  }

  /** The account just decoded. */
  account(): AccountUpdate {
    return new GeyserAccount(this);
  }

  /** The slot status just decoded; undefined for one that we do not know. */
  slotUpdate(): SlotUpdate | undefined {
    const status: SlotStatus | undefined = SLOT_STATUSES[this.status];
    if (status === undefined) return undefined;
    const { slot, parent, lossy, sourceNs } = this;
    return { kind: "slot", slot, parent, status, lossy, sourceNs };
  }

  /** The transaction just decoded. */
  transaction(): TransactionUpdate {
    const { slot, index, isVote: vote, isFailed: failed, lossy, sourceNs } = this;
    const signature = this.signature!;
    const loadedAddresses = this.#loadedWritable === undefined && this.#loadedReadonly === undefined
      ? undefined
      : { writable: this.#loadedWritable ?? [], readonly: this.#loadedReadonly ?? [] };
    return {
      kind: "transaction",
      slot,
      index,
      signature,
      message: this.#message,
      meta: this.withMeta ? this.#meta : undefined,
      loadedAddresses,
      vote,
      failed,
      lossy,
      sourceNs,
    };
  }

  #enter(): number {
    const reader = this.#reader;
    const outer = reader.end;
    reader.end = reader.length();
    return outer;
  }

  #account(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    this.pubkey = NOTHING;
    this.startup = false;
    let slot = 0;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag === 10) this.#accountInfo();
      else if (tag === 16) slot = reader.varint();
      else if (tag === 24) this.startup = reader.varint() !== 0;
      else reader.skip(tag);
    }
    reader.end = outer;
    if (this.pubkey.length === 0) throw new ProtobufError("an account has no key");
    this.#setSlot(slot);
  }

  #accountInfo(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    this.lamports = 0n;
    this.owner = NOTHING;
    this.executable = false;
    this.rentEpoch = 0n;
    this.data = NOTHING;
    this.writeVersion = 0n;
    this.signature = undefined;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      switch (tag) {
        case 10:
          this.pubkey = reader.viewOf(KEY_SIZE, "an account's key");
          break;
        case 16:
          this.lamports = reader.u64();
          break;
        case 26:
          this.owner = this.#ownerKey();
          break;
        case 32:
          this.executable = reader.varint() !== 0;
          break;
        case 40:
          this.rentEpoch = this.#rentEpoch();
          break;
        case 50:
          this.data = publishable(reader.view(), "an account's data");
          break;
        case 56:
          this.writeVersion = reader.u64();
          break;
        case 66:
          this.signature = reader.viewOf(SIGNATURE_SIZE, "an account's signature");
          break;
        default:
          reader.skip(tag);
      }
    }
    reader.end = outer;
    if (this.owner.length === 0) throw new ProtobufError("an account has no owner");
  }

  /** Most accounts belong to few programs: one copy of each key for all of them. */
  #ownerKey(): Uint8Array {
    const reader = this.#reader;
    const { bytes } = reader;
    const end = reader.length();
    const at = reader.at;
    if (end - at !== KEY_SIZE) throw new ProtobufError(`an account's owner has ${end - at} bytes, not ${KEY_SIZE}`);
    reader.at = end;
    const place = (bytes[at]! ^ bytes[at + 9]!) % OWNERS_KNOWN;
    const known = this.#owners[place];
    if (known !== undefined) {
      let i = 0;
      while (i < KEY_SIZE && known[i] === bytes[at + i]) i++;
      if (i === KEY_SIZE) return known;
    }
    return this.#owners[place] = bytes.slice(at, end);
  }

  #rentEpoch(): bigint {
    const reader = this.#reader;
    const { bytes, at } = reader;
    if (at + U64_MAX_BYTES > reader.end || bytes[at + 9] !== 1) return reader.u64();
    for (let i = at; i < at + 9; i++) if (bytes[i] !== 0xff) return reader.u64();
    reader.at = at + U64_MAX_BYTES;
    return U64_MAX;
  }

  #slotStatus(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    let slot = 0;
    let parent: bigint | undefined;
    this.status = 0;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag === 8) slot = reader.varint();
      else if (tag === 16) parent = reader.u64();
      else if (tag === 24) this.status = reader.varint();
      else reader.skip(tag);
    }
    reader.end = outer;
    this.#setSlot(slot);
    this.parent = parent ?? (slot > 0 ? this.slot - 1n : 0n); // optional there: the slot before is the best guess
  }

  #transaction(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    let slot = 0;
    this.signature = undefined;
    this.#message = NOTHING;
    this.#meta = undefined;
    this.#loadedWritable = undefined;
    this.#loadedReadonly = undefined;
    this.isVote = false;
    this.isFailed = false;
    this.index = 0;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag === 10) this.#transactionInfo();
      else if (tag === 16) slot = reader.varint();
      else reader.skip(tag);
    }
    reader.end = outer;
    if (this.signature === undefined) throw new ProtobufError("a transaction has no signature");
    this.#setSlot(slot);
  }

  #transactionInfo(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    while (reader.at < reader.end) {
      const tag = reader.varint();
      switch (tag) {
        case 10:
          this.signature = reader.viewOf(SIGNATURE_SIZE, "a transaction's signature");
          break;
        case 16:
          this.isVote = reader.varint() !== 0;
          break;
        case 26:
          this.#signed();
          break;
        case 34:
          this.#transactionMeta();
          break;
        case 40: {
          const index = reader.varint();
          if (index > 0xffffffff) throw new ProtobufError("a transaction's index does not fit 32 bits");
          this.index = index;
          break;
        }
        default:
          reader.skip(tag);
      }
    }
    reader.end = outer;
  }

  /** Signatures and message; the first signature also stands beside it. */
  #signed(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag !== 18) {
        reader.skip(tag);
        continue;
      }
      const end = reader.length();
      this.#message = publishable(messageFromProtobuf(reader.bytes, reader.at, end), "a transaction's message");
      reader.at = end;
    }
    reader.end = outer;
  }

  /** Kept as it is, but for what our updates say themselves: whether it failed, and what it loaded. */
  #transactionMeta(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    const { bytes, at, end } = reader;
    this.#meta = publishable(new Uint8Array(bytes.buffer, bytes.byteOffset + at, end - at), "a transaction's meta");
    while (reader.at < end) {
      const tag = reader.varint();
      if (tag === 98) this.#loadedAddress(this.#loadedWritable ??= []);
      else if (tag === 106) this.#loadedAddress(this.#loadedReadonly ??= []);
      else {
        if (tag === 10) this.isFailed = true;
        reader.skip(tag);
      }
    }
    reader.end = outer;
  }

  #loadedAddress(list: Uint8Array[]): void {
    const count = (this.#loadedWritable?.length ?? 0) + (this.#loadedReadonly?.length ?? 0);
    if (count >= LOADED_KEYS_MAX) throw new ProtobufError(`a transaction loads more than ${LOADED_KEYS_MAX} addresses`);
    list.push(this.#reader.viewOf(KEY_SIZE, "a loaded address"));
  }

  #pong(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    this.pongId = 0;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag === 8) this.pongId = reader.varint();
      else reader.skip(tag);
    }
    reader.end = outer;
  }

  #createdAt(): void {
    const reader = this.#reader;
    const outer = this.#enter();
    let seconds = 0;
    let nanos = 0;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag === 8) seconds = reader.varint();
      else if (tag === 16) nanos = reader.varint();
      else reader.skip(tag);
    }
    reader.end = outer;
    if (seconds !== this.#seconds) {
      if (seconds > 1e10 || nanos > 1e9) return; // before the epoch, or no time at all
      this.#seconds = seconds;
      const ns = BigInt(seconds) * 1_000_000_000n;
      this.#secondsHigh = Number(ns >> 32n);
      this.#secondsLow = Number(ns & 0xffffffffn);
    }
    if (nanos >= 1e9) return;
    const low = this.#secondsLow + nanos;
    SCRATCH.setUint32(0, this.#secondsHigh + (low > 0xffffffff ? 1 : 0));
    SCRATCH.setUint32(4, low >>> 0);
    this.sourceNs = SCRATCH.getBigUint64(0);
  }

  /** Slots come again and again: one bigint for all updates of a slot. */
  #setSlot(slot: number): void {
    if (slot === this.slotNumber) return;
    if (slot > Number.MAX_SAFE_INTEGER) throw new ProtobufError("a slot is above 2^53");
    this.slotNumber = slot;
    this.slot = BigInt(slot);
  }
}

/** What no frame holds would end who feeds a sender, and not the connection. */
function publishable(bytes: Uint8Array, name: string): Uint8Array {
  if (bytes.length <= PAYLOAD_BYTES_MAX) return bytes;
  throw new ProtobufError(
    `${name} has ${bytes.length} bytes, more than the ${PAYLOAD_BYTES_MAX} that can be published`,
  );
}
