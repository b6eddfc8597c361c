/**
 * The codecs of wire version 9 on their own: data frames and control messages as bytes, without sender or consumer.
 * May touch: the native library's codec, which rings use too, so that there is one of each. May not touch: sockets, rings.
 * Source of the format and of the order of checks: the Rust original, whose public codecs these answer to.
 *
 * @module
 */

import {
  ADDRESS_SIZE,
  FRAME_FLAG_DECOMPRESSED,
  FRAME_FLAG_EXECUTABLE,
  FRAME_FLAG_VOTE,
  FrameHeader,
  FrameKind,
  PAYLOAD_BYTES_MAX,
  PollRecord,
  SIGNATURE_SIZE,
  Status,
  V9_FLAG_LZ4,
  V9_VERSION,
  V9Account,
  V9Slot,
  V9Tag,
  V9Transaction,
} from "../native/abi.generated.ts";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus, type QlasterErrorOptions } from "../errors.ts";
import type { AccountUpdate, ReadonlyUint8Array, TransactionUpdate } from "../types.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import { type ClientMessage, decodeClient, decodeServer, type ServerMessage } from "./messages.ts";

/** An account as version 9 carries it. */
export type V9AccountUpdate = Pick<
  AccountUpdate,
  "kind" | "pubkey" | "owner" | "lamports" | "data" | "slot" | "writeVersion" | "rentEpoch" | "executable"
>;
/** A transaction as version 9 carries it. Its `message` is opaque there. */
export type V9TransactionUpdate = Pick<
  TransactionUpdate,
  "kind" | "slot" | "index" | "signature" | "message" | "vote"
>;
/** A slot as version 9 carries it: a number and no more. */
export interface V9SlotUpdate {
  /** Tells the updates apart. */
  readonly kind: "slot";
  /** The slot's number. */
  readonly slot: bigint;
}

/** How an update is encoded. */
export interface EncodeOptions {
  /** When the sender made the frame: nanoseconds since the Unix epoch, 0n if unknown (the default). */
  readonly createdNs?: bigint;
  /** Whether data of an account is compressed where the original would do it, from 512,000 bytes on. Default true. */
  readonly compress?: boolean;
}

/** An update as it came out of a frame. */
export interface DecodedUpdate<Update> {
  /** Tells it from messages. */
  readonly kind: "update";
  /** When the sender made the frame: nanoseconds since the Unix epoch, 0n if unknown. */
  readonly createdNs: bigint;
  /** The update, with nothing but what the frame says. */
  readonly update: Update;
}

/** What a sender says, in rings or on its socket. */
export type ServerFrame = DecodedUpdate<V9AccountUpdate | V9TransactionUpdate | V9SlotUpdate> | ServerMessage;

/** A record's kind in the low half of this word, its flags in the high one. */
const KIND_AND_FLAGS = PollRecord.kind / 4;
/** Longest data of an account, in bytes: Solana's limit, and the original's. */
export const ACCOUNT_PAYLOAD_BYTES_MAX: number = PAYLOAD_BYTES_MAX;
/** Longest message of a transaction, in bytes, likewise. */
export const TRANSACTION_PAYLOAD_BYTES_MAX: number = PAYLOAD_BYTES_MAX;

const NOTHING = new Uint8Array(1);
const U64_MAX = (1n << 64n) - 1n;

/**
 * Loads the codecs.
 * @throws {QlasterError} `NATIVE_…`, as `load`.
 *
 * @example
 * ```ts
 * import { loadCodec } from "@qlaster/core/v9";
 * import assert from "node:assert/strict";
 *
 * const codec = await loadCodec();
 * const frame = codec.encodeSlot({ slot: 456n }, { createdNs: 7n });
 * const decoded = codec.decodeServerFrame(frame);
 * assert.deepEqual(decoded, { kind: "update", createdNs: 7n, update: { kind: "slot", slot: 456n } });
 * ```
 */
export async function loadCodec(): Promise<V9Codec> {
  return new V9Codec(await load());
}

/** Encodes and decodes. Get one with {@linkcode loadCodec}. */
export class V9Codec {
  readonly #native: Native;
  readonly #encoder = new FrameEncoder();
  readonly #head = new DataView(this.#encoder.head.buffer);
  readonly #record = new Uint32Array(PollRecord.size / 4);

  /** @internal Use {@linkcode loadCodec}. */
  constructor(native: Native) {
    this.#native = native;
  }

  /**
   * The frame of an account: 116 bytes and its data, or the data compressed.
   * @returns Its body, in memory of its own. In a ring, its length stands before it.
   * @throws {TypeError} or {@linkcode RangeError} for a field that is not what it must be.
   */
  encodeAccount(update: Omit<V9AccountUpdate, "kind">, options: EncodeOptions = {}): Uint8Array {
    this.#encoder.account(update);
    return this.#encode(V9Account.size + update.data.length, options);
  }

  /** The frame of a transaction: 91 bytes and its message. Otherwise as `encodeAccount`. */
  encodeTransaction(update: Omit<V9TransactionUpdate, "kind">, options: EncodeOptions = {}): Uint8Array {
    this.#encoder.transaction(update);
    return this.#encode(V9Transaction.size + update.message.length, options);
  }

  /** The frame of a slot: 18 bytes. Otherwise as `encodeAccount`. */
  encodeSlot(update: Omit<V9SlotUpdate, "kind">, options: EncodeOptions = {}): Uint8Array {
    const counts = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };
    this.#encoder.slot({ slot: update.slot, parent: 0n, status: "processed" }, counts);
    return this.#encode(V9Slot.size, options);
  }

  #encode(bytesMax: number, { createdNs = 0n, compress = true }: EncodeOptions): Uint8Array {
    if (typeof createdNs !== "bigint") throw new TypeError(`createdNs must be a bigint, not ${typeof createdNs}`);
    if (createdNs < 0n || createdNs > U64_MAX) {
      throw new RangeError(`createdNs must fit 64 bits without sign, ${createdNs} does not`);
    }
    this.#head.setBigUint64(FrameHeader.publishNs, createdNs, true);
    const { head, headLength, tail } = this.#encoder;
    const out = new Uint8Array(bytesMax);
    const length = this.#native.v9Encode(head, headLength, tail, tail.length, compress ? 1 : 0, out, out.length);
    if (length < 0) throw errorFromStatus(length, "Cannot encode an update");
    return length === out.length ? out : out.slice(0, length);
  }

  /**
   * Reads what a sender said, in a ring or on its socket.
   * @param bytes A body without its length. Keys, signatures and data that was not compressed share its memory.
   * @throws {QlasterError} `V9_MALFORMED`, `V9_TAG`, `V9_VERSION`, `V9_PAYLOAD_TOO_LARGE`, `V9_DECODE`, in the order of
   * the original's checks.
   */
  decodeServerFrame(bytes: Uint8Array): ServerFrame {
    switch (bytes[V9Slot.tag]) {
      case V9Tag.account:
      case V9Tag.transaction:
      case V9Tag.slot:
        return this.#decodeUpdate(bytes);
      default:
        return decodeServer(bytes);
    }
  }

  /**
   * Reads what a consumer said.
   * @param bytes A body without its length. What is returned shares nothing with it.
   * @throws {QlasterError} `V9_MALFORMED`, `V9_TAG`, `V9_DECODE`, `V9_VERSION`, in the order of the original's checks.
   */
  decodeClientFrame(bytes: Uint8Array): ClientMessage {
    return decodeClient(bytes);
  }

  #decodeUpdate(bytes: Uint8Array): DecodedUpdate<V9AccountUpdate | V9TransactionUpdate | V9SlotUpdate> {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const scratch = scratchFor(view);
    const status = this.#native.v9Decode(bytes, bytes.length, this.#record, scratch, scratch.length);
    if (status < 0) {
      throw errorFromStatus(status, `Cannot read a frame of ${bytes.length} bytes`, faultOf(status, view));
    }
    const createdNs = view.getBigUint64(V9Slot.createdNs, true);
    const flags = this.#record[KIND_AND_FLAGS]! >>> 16;
    const at = this.#record[PollRecord.payloadOffset / 4]!;
    const source = (flags & FRAME_FLAG_DECOMPRESSED) === 0 ? bytes : scratch;
    const payload = source.subarray(at, at + this.#record[PollRecord.payloadLength / 4]!);
    return { kind: "update", createdNs, update: this.#update(view, bytes, flags, payload) };
  }

  /** What the native library has found to be an update. */
  #update(
    view: DataView,
    bytes: Uint8Array,
    flags: number,
    payload: ReadonlyUint8Array,
  ): V9AccountUpdate | V9TransactionUpdate | V9SlotUpdate {
    switch (this.#record[KIND_AND_FLAGS]! & 0xffff) {
      case FrameKind.account:
        return {
          kind: "account",
          pubkey: bytes.subarray(V9Account.pubkey, V9Account.pubkey + ADDRESS_SIZE),
          owner: bytes.subarray(V9Account.owner, V9Account.owner + ADDRESS_SIZE),
          lamports: view.getBigUint64(V9Account.lamports, true),
          data: payload,
          slot: view.getBigUint64(V9Account.slot, true),
          writeVersion: view.getBigUint64(V9Account.writeVersion, true),
          rentEpoch: view.getBigUint64(V9Account.rentEpoch, true),
          executable: (flags & FRAME_FLAG_EXECUTABLE) !== 0,
        };
      case FrameKind.transaction:
        return {
          kind: "transaction",
          slot: view.getBigUint64(V9Transaction.slot, true),
          index: view.getUint32(V9Transaction.index, true),
          signature: bytes.subarray(V9Transaction.signature, V9Transaction.signature + SIGNATURE_SIZE),
          message: payload,
          vote: (flags & FRAME_FLAG_VOTE) !== 0,
        };
      default:
        return { kind: "slot", slot: view.getBigUint64(V9Slot.slot, true) };
    }
  }
}

/** What a frame has in the place of what it should have, by the kind of its fault. */
function faultOf(status: number, frame: DataView): QlasterErrorOptions {
  switch (status) {
    case Status.v9Version:
      return { found: frame.getUint8(V9Account.version), expected: V9_VERSION };
    case Status.v9TooLarge: {
      const isAccount = frame.getUint8(V9Account.tag) === V9Tag.account;
      const at = isAccount ? V9Account.rawLength : V9Transaction.payloadLength;
      return {
        found: at + 4 <= frame.byteLength ? frame.getUint32(at, true) : frame.byteLength,
        max: PAYLOAD_BYTES_MAX,
      };
    }
    default:
      return {};
  }
}

/** Room for what a frame says that its data decompresses to; the native library judges whether that may be. */
function scratchFor(frame: DataView): Uint8Array {
  if (frame.byteLength < V9Account.size || frame.getUint8(V9Account.tag) !== V9Tag.account) return NOTHING;
  if ((frame.getUint8(V9Account.flags) & V9_FLAG_LZ4) === 0) return NOTHING;
  const length = frame.getUint32(V9Account.rawLength, true);
  return length === 0 || length > PAYLOAD_BYTES_MAX ? NOTHING : new Uint8Array(length);
}
