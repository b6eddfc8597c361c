/**
 * Updates to frames: fills the head of a frame (header and fixed body) in a reused buffer; what follows it (data,
 * message) is handed to the native library as it is, without a copy here.
 * May touch: its own buffer. May not touch: rings. Length, place in the order, loss counts, filter mask and time are set by the native library.
 *
 * @module
 */

import { bytesFromAddressLike } from "../address.ts";
import {
  AccountBody,
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
  PAYLOAD_BYTES_MAX,
  SIGNATURE_SIZE,
  SlotBody,
  TransactionBody,
} from "../native/abi.generated.ts";
import {
  type AccountUpdate,
  type ReadonlyUint8Array,
  SLOT_STATUSES,
  type SlotCounts,
  type SlotUpdate,
  type TransactionUpdate,
} from "../types.ts";

const U64_MAX = (1n << 64n) - 1n;
const NOTHING = new Uint8Array(0);
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

/** Encodes one frame at a time. What `head` and `tail` hold is valid until the next call. */
export class FrameEncoder {
  /** Starts the frame: `headLength` bytes of it count. */
  readonly head: Uint8Array;
  headLength = 0;
  /** Follows the head in the frame. */
  tail: Uint8Array = NOTHING;

  readonly #view: DataView;

  constructor() {
    const buffer = new ArrayBuffer(FrameHeader.size + AccountBody.size + SIGNATURE_SIZE);
    this.head = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
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
    let headLength = BODY + AccountBody.size;
    if (update.signature !== undefined) {
      this.head.set(signatureOf(update.signature), headLength);
      headLength += SIGNATURE_SIZE;
      flags |= FRAME_FLAG_SIGNATURE;
    }
    if (update.executable === true) flags |= FRAME_FLAG_EXECUTABLE;
    if (update.startup === true) flags |= FRAME_FLAG_STARTUP;
    if (update.lossy === true) flags |= FRAME_FLAG_LOSSY;
    this.#header(FrameKind.account, flags, sourceNs);
    this.head.set(pubkey as Uint8Array, BODY + AccountBody.pubkey);
    this.head.set(owner as Uint8Array, BODY + AccountBody.owner);
    view.setBigUint64(BODY + AccountBody.lamports, lamports, true);
    view.setBigUint64(BODY + AccountBody.rentEpoch, rentEpoch, true);
    view.setBigUint64(BODY + AccountBody.slot, slot, true);
    view.setBigUint64(BODY + AccountBody.bankId, bankId, true);
    view.setBigUint64(BODY + AccountBody.writeVersion, writeVersion, true);
    view.setUint32(BODY + AccountBody.dataLength, data.length, true);
    view.setUint32(BODY + AccountBody.sourceEpoch, sourceEpoch, true);
    view.setUint32(BODY + AccountBody.fullLength, data.length, true);
    view.setUint32(BODY + AccountBody.fullLength + 4, 0, true); // padding: nothing of an earlier frame
    this.headLength = headLength;
    this.tail = data;
  }

  transaction(update: Omit<TransactionUpdate, "kind">): void {
    const view = this.#view;
    const message = payload(update.message, "message");
    const meta = update.meta === undefined ? undefined : payload(update.meta, "meta");
    const signature = signatureOf(update.signature);
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
    this.#header(FrameKind.transaction, flags, sourceNs);
    view.setBigUint64(BODY + TransactionBody.slot, slot, true);
    view.setBigUint64(BODY + TransactionBody.bankId, bankId, true);
    this.head.set(signature, BODY + TransactionBody.signature);
    view.setUint32(BODY + TransactionBody.index, update.index, true);
    view.setUint32(BODY + TransactionBody.messageLength, message.length, true);
    view.setUint32(BODY + TransactionBody.metaLength, meta?.length ?? 0, true);
    view.setUint32(BODY + TransactionBody.metaLength + 4, 0, true); // padding: nothing of an earlier frame
    this.headLength = BODY + TransactionBody.size;
    this.tail = meta === undefined ? message : joinAligned(message, meta);
  }

  slot(update: Omit<SlotUpdate, "kind">, counts: SlotCounts): void {
    const view = this.#view;
    const status = SLOT_STATUSES.indexOf(update.status);
    if (status < 0) throw new TypeError(`status must be one of ${SLOT_STATUSES.join(", ")}, not ${update.status}`);
    const slot = u64(update.slot, "slot");
    const parent = u64(update.parent, "parent");
    const bankId = u64(update.bankId, "bankId", 0n);
    const sourceNs = u64(update.sourceNs, "sourceNs", 0n);

    this.#header(FrameKind.slot, update.lossy === true ? FRAME_FLAG_LOSSY : 0, sourceNs);
    view.setBigUint64(BODY + SlotBody.slot, slot, true);
    view.setBigUint64(BODY + SlotBody.parent, parent, true);
    view.setBigUint64(BODY + SlotBody.bankId, bankId, true);
    view.setBigUint64(BODY + SlotBody.accountsPublished, BigInt(counts.accountsPublished), true);
    view.setBigUint64(BODY + SlotBody.transactionsPublished, BigInt(counts.transactionsPublished), true);
    view.setUint32(BODY + SlotBody.status, status, true);
    view.setUint32(BODY + SlotBody.status + 4, 0, true); // padding
    this.headLength = BODY + SlotBody.size;
    this.tail = NOTHING;
    this.slotLosses(counts.accountsLost, counts.transactionsLost);
  }

  /** Changes, in the slot frame just encoded, what differs per connection. */
  slotLosses(accounts: number, transactions: number): void {
    this.#view.setBigUint64(BODY + SlotBody.accountsLost, BigInt(accounts), true);
    this.#view.setBigUint64(BODY + SlotBody.transactionsLost, BigInt(transactions), true);
  }

  /** An edit of a connection's filters took effect. @param generation Counts its edits. */
  filterMark(generation: number): void {
    this.#header(FrameKind.filter, 0, 0n);
    this.#view.setUint32(BODY + FilterMarkBody.generation, generation, true);
    this.#view.setUint32(BODY + FilterMarkBody.generation + 4, 0, true); // padding
    this.headLength = BODY + FilterMarkBody.size;
    this.tail = NOTHING;
  }

  goodbye(reason: number): void {
    this.#header(FrameKind.goodbye, 0, 0n);
    this.#view.setUint32(BODY + GoodbyeBody.reason, reason, true);
    this.#view.setUint32(BODY + GoodbyeBody.reason + 4, 0, true); // padding
    this.headLength = BODY + GoodbyeBody.size;
    this.tail = NOTHING;
  }

  #header(kind: number, flags: number, sourceNs: bigint): void {
    const view = this.#view;
    view.setUint16(FrameHeader.kind, kind, true);
    view.setUint16(FrameHeader.flags, flags, true);
    view.setBigUint64(FrameHeader.sourceNs, sourceNs, true);
  }
}

/** The message, padding, the meta: the one case where bytes are copied here. */
function joinAligned(message: Uint8Array, meta: Uint8Array): Uint8Array {
  const at = Math.ceil(message.length / FRAME_ALIGN) * FRAME_ALIGN;
  const joined = new Uint8Array(at + meta.length);
  joined.set(message);
  joined.set(meta, at);
  return joined;
}
