/**
 * Wire version 9 of the Rust original, byte by byte: its codecs, for tools and tests of one's own. Senders and consumers
 * speak it by themselves, wherever the other side does; they come from the package's main entry.
 *
 * @module
 */

export {
  ACCOUNT_PAYLOAD_BYTES_MAX,
  type DecodedUpdate,
  type EncodeOptions,
  loadCodec,
  type ServerFrame,
  TRANSACTION_PAYLOAD_BYTES_MAX,
  type V9AccountUpdate,
  V9Codec,
  type V9SlotUpdate,
  type V9TransactionUpdate,
} from "./codec.ts";
export {
  type ClientMessage,
  encodePing,
  encodeReady,
  encodeReadyShm,
  encodeSubscribe,
  FrameCutter,
  type ReadyShm,
  type ServerMessage,
  type SubscribeV9,
} from "./messages.ts";
export type { AccountUpdate, ReadonlyUint8Array, SlotToken, TransactionUpdate } from "../types.ts";
