/**
 * Updates to frames: fills the head of a frame (header and fixed body) in a reused buffer; what follows it (data,
 * message) is handed to the native library as it is, without a copy here, or copied to where a batch wants it (batch.ts).
 * May touch: its own buffer. May not touch: rings. Length, place in the order, loss counts, filter mask and time are set by the native library.
 *
 * @module
 */

import { bytesFromAddressLike } from "../address.ts";
import {
  AccountBody,
  ADDRESS_SIZE,
  FilterMarkBody,
  FRAME_ALIGN,
  FRAME_FLAG_EXECUTABLE,
  FRAME_FLAG_FAILED,
  FRAME_FLAG_LOSSY,
  FRAME_FLAG_META,
  FRAME_FLAG_SIGNATURE,
  FRAME_FLAG_STARTUP,
  FRAME_FLAG_VOTE,
  FrameHeader,
  FrameKind,
  GoodbyeBody,
  LOADED_KEYS_MAX,
  PAYLOAD_BYTES_MAX,
  SIGNATURE_SIZE,
  SlotBody,
  TransactionBody,
} from "../native/abi.generated.ts";
import {
  type AccountUpdate,
  type AddressLike,
  type ReadonlyUint8Array,
  SLOT_STATUSES,
  type SlotCounts,
  type SlotUpdate,
  type TransactionUpdate,
} from "../types.ts";

const U64_MAX = (1n << 64n) - 1n;
const NOTHING = new Uint8Array(0);
const NO_KEYS: readonly ReadonlyUint8Array[] = [];
const BODY = FrameHeader.size;

/** @param value Undefined stands for `fallback`, which needs no check. */
function u64(value: bigint | undefined, name: string, fallback?: bigint): bigint {
  if (value === undefined && fallback !== undefined) return fallback;
  if (typeof value !== "bigint") throw new TypeError(`${name} must be a bigint, not ${typeof value}`);
  if (value < 0n || value > U64_MAX) throw new RangeError(`${name} must fit 64 bits without sign, ${value} does not`);
  return value;
}

function payload(bytes: ReadonlyUint8Array, name: string): Uint8Array {
  if (!(bytes instanceof Uint8Array)) throw new TypeError(`${name} must be a Uint8Array`);
  if (bytes.length > PAYLOAD_BYTES_MAX) {
    throw new RangeError(`${name} has ${bytes.length} bytes, Solana's limit is ${PAYLOAD_BYTES_MAX}`);
  }
  return bytes;
}

function signatureOf(bytes: ReadonlyUint8Array): Uint8Array {
  if (!(bytes instanceof Uint8Array) || bytes.length !== SIGNATURE_SIZE) {
    throw new TypeError(`signature must be ${SIGNATURE_SIZE} bytes`);
  }
  return bytes;
}

/** The length of bytes with what follows them up to a multiple of 8. */
export function padded(length: number): number {
  return (length + FRAME_ALIGN - 1) & -FRAME_ALIGN;
}

function loadedKeys(list: readonly AddressLike[], name: string): readonly ReadonlyUint8Array[] {
  if (!Array.isArray(list)) throw new TypeError(`loadedAddresses.${name} must be a list of addresses`);
  return list.map((key) => bytesFromAddressLike(key, `an address of loadedAddresses.${name}`));
}

/** Bytes of the longest head. */
export const HEAD_BYTES_MAX: number = FrameHeader.size + AccountBody.size + SIGNATURE_SIZE;

/** Encodes one frame at a time. What `head` and `tail` hold is valid until the next call. */
export class FrameEncoder {
  /** The head of the frame starts at `at`, and has `headLength` bytes. */
  readonly head: Uint8Array;
  /** A multiple of 8; `HEAD_BYTES_MAX` bytes from there on are written. */
  at = 0;
  headLength = 0;
  /** Bytes that follow the head. */
  tailLength = 0;

  readonly #view: DataView;
  /** Data of an account, or message of a transaction. */
  #payload: Uint8Array = NOTHING;
  /** What follows the message, padded; undefined where nothing does. */
  #loaded: readonly ReadonlyUint8Array[] | undefined;
  #meta: Uint8Array = NOTHING;

  /** @param head Where heads are written. */
  constructor(head: Uint8Array = new Uint8Array(HEAD_BYTES_MAX)) {
    this.head = head;
    this.#view = new DataView(head.buffer, head.byteOffset, head.length);
  }

  /** What follows the head in the frame: the very bytes that were given, if they are in one piece. */
  get tail(): Uint8Array {
    if (this.#loaded === undefined) return this.#payload;
    const joined = new Uint8Array(this.tailLength);
    this.copyTail(joined, 0);
    return joined;
  }

  /** Copies what follows the head. @param at A multiple of 8, with room for `tailLength` bytes. */
  copyTail(target: Uint8Array, at: number): void {
    target.set(this.#payload, at);
    if (this.#loaded === undefined) return;
    const end = at + this.#payload.length;
    let next = padded(end);
    target.fill(0, end, next); // nothing of an earlier frame
    for (const key of this.#loaded) {
      target.set(key as Uint8Array, next);
      next += ADDRESS_SIZE;
    }
    target.set(this.#meta, next);
  }

  #setTail(payload: Uint8Array): void {
    this.#payload = payload;
    this.#loaded = undefined;
    this.tailLength = payload.length;
  }

  account(update: Omit<AccountUpdate, "kind">): void {
    const view = this.#view;
    const pubkey = bytesFromAddressLike(update.pubkey, "pubkey");
    const owner = bytesFromAddressLike(update.owner, "owner");
    const data = payload(update.data, "data");
    const lamports = u64(update.lamports, "lamports");
    const slot = u64(update.slot, "slot");
    const writeVersion = u64(update.writeVersion, "writeVersion", 0n);
    const bankId = u64(update.bankId, "bankId", 0n);
    const rentEpoch = u64(update.rentEpoch, "rentEpoch", U64_MAX);
    const sourceNs = u64(update.sourceNs, "sourceNs", 0n);
    const sourceEpoch = update.sourceEpoch ?? 0;
    if (!Number.isInteger(sourceEpoch) || sourceEpoch < 0 || sourceEpoch > 0xffffffff) {
      throw new RangeError(`sourceEpoch must be an integer of 32 bits without sign, not ${sourceEpoch}`);
    }

    let flags = 0;
    const body = this.at + BODY;
    let headLength = BODY + AccountBody.size;
    if (update.signature !== undefined) {
      this.head.set(signatureOf(update.signature), this.at + headLength);
      headLength += SIGNATURE_SIZE;
      flags |= FRAME_FLAG_SIGNATURE;
    }
    if (update.executable === true) flags |= FRAME_FLAG_EXECUTABLE;
    if (update.startup === true) flags |= FRAME_FLAG_STARTUP;
    if (update.lossy === true) flags |= FRAME_FLAG_LOSSY;
    this.#header(FrameKind.account, flags, sourceNs);
    this.head.set(pubkey as Uint8Array, body + AccountBody.pubkey);
    this.head.set(owner as Uint8Array, body + AccountBody.owner);
    view.setBigUint64(body + AccountBody.lamports, lamports, true);
    view.setBigUint64(body + AccountBody.rentEpoch, rentEpoch, true);
    view.setBigUint64(body + AccountBody.slot, slot, true);
    view.setBigUint64(body + AccountBody.bankId, bankId, true);
    view.setBigUint64(body + AccountBody.writeVersion, writeVersion, true);
    view.setUint32(body + AccountBody.dataLength, data.length, true);
    view.setUint32(body + AccountBody.sourceEpoch, sourceEpoch, true);
    view.setUint32(body + AccountBody.fullLength, data.length, true);
    view.setUint32(body + AccountBody.fullLength + 4, 0, true); // padding: nothing of an earlier frame
    this.headLength = headLength;
    this.#setTail(data);
  }

  transaction(update: Omit<TransactionUpdate, "kind">): void {
    const view = this.#view;
    const message = payload(update.message, "message");
    const meta = update.meta === undefined ? undefined : payload(update.meta, "meta");
    const signature = signatureOf(update.signature);
    let loaded = NO_KEYS;
    let writableCount = 0;
    if (update.loadedAddresses !== undefined) {
      const writable = loadedKeys(update.loadedAddresses.writable, "writable");
      loaded = [...writable, ...loadedKeys(update.loadedAddresses.readonly, "readonly")];
      writableCount = writable.length;
      if (loaded.length > LOADED_KEYS_MAX) {
        throw new RangeError(
          `loadedAddresses has ${loaded.length} addresses, a transaction at most ${LOADED_KEYS_MAX}`,
        );
      }
    }
    const slot = u64(update.slot, "slot");
    const bankId = u64(update.bankId, "bankId", 0n);
    const sourceNs = u64(update.sourceNs, "sourceNs", 0n);
    if (!Number.isInteger(update.index) || update.index < 0 || update.index > 0xffffffff) {
      throw new RangeError(`index must be an integer of 32 bits without sign, not ${update.index}`);
    }

    let flags = 0;
    if (update.vote === true) flags |= FRAME_FLAG_VOTE;
    if (update.failed === true) flags |= FRAME_FLAG_FAILED;
    if (update.lossy === true) flags |= FRAME_FLAG_LOSSY;
    if (meta !== undefined) flags |= FRAME_FLAG_META;
    const body = this.at + BODY;
    this.#header(FrameKind.transaction, flags, sourceNs);
    view.setBigUint64(body + TransactionBody.slot, slot, true);
    view.setBigUint64(body + TransactionBody.bankId, bankId, true);
    this.head.set(signature, body + TransactionBody.signature);
    view.setUint32(body + TransactionBody.index, update.index, true);
    view.setUint32(body + TransactionBody.messageLength, message.length, true);
    view.setUint32(body + TransactionBody.metaLength, meta?.length ?? 0, true);
    view.setUint16(body + TransactionBody.loadedWritableCount, writableCount, true);
    view.setUint16(body + TransactionBody.loadedReadonlyCount, loaded.length - writableCount, true);
    this.headLength = BODY + TransactionBody.size;
    this.#setTail(message);
    if (meta === undefined && loaded.length === 0) return;
    this.#loaded = loaded;
    this.#meta = meta ?? NOTHING;
    this.tailLength = padded(message.length) + ADDRESS_SIZE * loaded.length + this.#meta.length;
  }

  slot(update: Omit<SlotUpdate, "kind">, counts: SlotCounts): void {
    const view = this.#view;
    const status = SLOT_STATUSES.indexOf(update.status);
    if (status < 0) throw new TypeError(`status must be one of ${SLOT_STATUSES.join(", ")}, not ${update.status}`);
    const slot = u64(update.slot, "slot");
    const parent = u64(update.parent, "parent");
    const bankId = u64(update.bankId, "bankId", 0n);
    const sourceNs = u64(update.sourceNs, "sourceNs", 0n);

    const body = this.at + BODY;
    this.#header(FrameKind.slot, update.lossy === true ? FRAME_FLAG_LOSSY : 0, sourceNs);
    view.setBigUint64(body + SlotBody.slot, slot, true);
    view.setBigUint64(body + SlotBody.parent, parent, true);
    view.setBigUint64(body + SlotBody.bankId, bankId, true);
    view.setBigUint64(body + SlotBody.accountsPublished, BigInt(counts.accountsPublished), true);
    view.setBigUint64(body + SlotBody.transactionsPublished, BigInt(counts.transactionsPublished), true);
    view.setUint32(body + SlotBody.status, status, true);
    view.setUint32(body + SlotBody.status + 4, 0, true); // padding
    this.headLength = BODY + SlotBody.size;
    this.#setTail(NOTHING);
    this.slotLosses(counts.accountsLost, counts.transactionsLost);
  }

  /** Changes, in the slot frame just encoded, what differs per connection. */
  slotLosses(accounts: number, transactions: number): void {
    const body = this.at + BODY;
    this.#view.setBigUint64(body + SlotBody.accountsLost, BigInt(accounts), true);
    this.#view.setBigUint64(body + SlotBody.transactionsLost, BigInt(transactions), true);
  }

  /** An edit of a connection's filters took effect. @param generation Counts its edits. */
  filterMark(generation: number): void {
    this.#header(FrameKind.filter, 0, 0n);
    this.#view.setUint32(this.at + BODY + FilterMarkBody.generation, generation, true);
    this.#view.setUint32(this.at + BODY + FilterMarkBody.generation + 4, 0, true); // padding
    this.headLength = BODY + FilterMarkBody.size;
    this.#setTail(NOTHING);
  }

  goodbye(reason: number): void {
    this.#header(FrameKind.goodbye, 0, 0n);
    this.#view.setUint32(this.at + BODY + GoodbyeBody.reason, reason, true);
    this.#view.setUint32(this.at + BODY + GoodbyeBody.reason + 4, 0, true); // padding
    this.headLength = BODY + GoodbyeBody.size;
    this.#setTail(NOTHING);
  }

  #header(kind: number, flags: number, sourceNs: bigint): void {
    const view = this.#view;
    view.setUint16(this.at + FrameHeader.kind, kind, true);
    view.setUint16(this.at + FrameHeader.flags, flags, true);
    view.setBigUint64(this.at + FrameHeader.sourceNs, sourceNs, true);
  }
}
