/**
 * Messages of a link: bytes to values and back. Every received value is an adversary's: lengths are checked first.
 * May touch: the bytes it is given. May not touch: sockets, clocks.
 * Source of the format: docs/protocol.md; offsets and kinds come from zig/layout.zig.
 *
 * @module
 */

import {
  AckBody,
  ADDRESS_SIZE,
  GrantBody,
  HelloBody,
  LAYOUT_VERSION,
  LINK_BODY_BYTES_MAX,
  LINK_MAGIC,
  LINK_VERSION,
  LinkHeader,
  LinkKind,
  NAME_BYTES_MAX,
  RefuseBody,
  SubscribeBody,
} from "../native/abi.generated.ts";
import { QlasterError } from "../errors.ts";
import type { ReadonlyUint8Array } from "../types.ts";

/** One message without its header. */
export interface Message {
  readonly kind: number;
  readonly requestId: number;
  readonly body: Uint8Array;
}

export interface Hello {
  readonly versionMin: number;
  readonly versionMax: number;
  readonly name: string;
}

export interface Grant {
  readonly version: number;
  readonly capacityBytes: number;
  readonly reservedBytes: number;
  readonly connectionId: number;
  readonly senderId: Uint8Array;
}

export interface SubscribeRequest {
  readonly accounts: readonly ReadonlyUint8Array[];
  readonly owners: readonly ReadonlyUint8Array[];
  readonly transactions: boolean;
}

export interface Ack {
  readonly sequence: bigint;
  readonly generation: number;
}

export interface Refusal {
  readonly status: number;
  readonly text: string;
}

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { ignoreBOM: true }); // a name is what it is

/** The most keys that fit one subscribe message; a longer list goes in several. */
export const KEYS_PER_MESSAGE_MAX: number = Math.floor((LINK_BODY_BYTES_MAX - SubscribeBody.size) / ADDRESS_SIZE);

function frame(kind: number, requestId: number, bodyLength: number): { bytes: Uint8Array; body: DataView } {
  const bytes = new Uint8Array(LinkHeader.size + bodyLength);
  const header = new DataView(bytes.buffer);
  header.setUint32(LinkHeader.magic, LINK_MAGIC, true);
  header.setUint16(LinkHeader.version, LINK_VERSION, true);
  header.setUint16(LinkHeader.kind, kind, true);
  header.setUint32(LinkHeader.bodyLength, bodyLength, true);
  header.setUint32(LinkHeader.requestId, requestId, true);
  return { bytes, body: new DataView(bytes.buffer, LinkHeader.size) };
}

/** Why a message can't be what it claims to be. */
export function protocolError(what: string): QlasterError {
  return new QlasterError("LINK_PROTOCOL", `Cannot read a link message: ${what}`);
}

/**
 * Reads a header.
 * @param bytes At least `LinkHeader.size` of them.
 * @throws {QlasterError} `LINK_PROTOCOL` for another protocol, or a body beyond the limit.
 */
export function decodeHeader(
  bytes: Uint8Array,
  bodyBytesMax: number = LINK_BODY_BYTES_MAX,
): { kind: number; requestId: number; bodyLength: number } {
  const header = new DataView(bytes.buffer, bytes.byteOffset, LinkHeader.size);
  const magic = header.getUint32(LinkHeader.magic, true);
  if (magic !== LINK_MAGIC) throw protocolError(`it starts with 0x${magic.toString(16)}`);
  const version = header.getUint16(LinkHeader.version, true);
  if (version !== LINK_VERSION) throw protocolError(`its header is of version ${version}, ours of ${LINK_VERSION}`);
  const bodyLength = header.getUint32(LinkHeader.bodyLength, true);
  if (bodyLength > bodyBytesMax) throw protocolError(`its body has ${bodyLength} bytes, the limit is ${bodyBytesMax}`);
  return {
    kind: header.getUint16(LinkHeader.kind, true),
    requestId: header.getUint32(LinkHeader.requestId, true),
    bodyLength,
  };
}

function bodyView(message: Message, size: number, name: string): DataView {
  if (message.body.length < size) throw protocolError(`a ${name} of ${message.body.length} bytes`);
  return new DataView(message.body.buffer, message.body.byteOffset, message.body.length);
}

function assertLength(message: Message, length: number, name: string): void {
  if (message.body.length !== length) {
    throw protocolError(`a ${name} of ${message.body.length} bytes that says it has ${length}`);
  }
}

export function encodeHello(name: string): Uint8Array {
  const label = utf8.encode(name);
  if (label.length > NAME_BYTES_MAX) {
    throw new RangeError(`The name has ${label.length} bytes, the limit is ${NAME_BYTES_MAX}`);
  }
  const { bytes, body } = frame(LinkKind.hello, 0, HelloBody.size + label.length);
  body.setUint16(HelloBody.versionMin, LAYOUT_VERSION, true);
  body.setUint16(HelloBody.versionMax, LAYOUT_VERSION, true);
  body.setUint32(HelloBody.nameLength, label.length, true);
  bytes.set(label, LinkHeader.size + HelloBody.size);
  return bytes;
}

export function decodeHello(message: Message): Hello {
  const body = bodyView(message, HelloBody.size, "hello");
  const nameLength = body.getUint32(HelloBody.nameLength, true);
  if (nameLength > NAME_BYTES_MAX) throw protocolError(`a hello with a name of ${nameLength} bytes`);
  assertLength(message, HelloBody.size + nameLength, "hello");
  return {
    versionMin: body.getUint16(HelloBody.versionMin, true),
    versionMax: body.getUint16(HelloBody.versionMax, true),
    name: text.decode(message.body.subarray(HelloBody.size)),
  };
}

export function encodeGrant(grant: Grant): Uint8Array {
  const { bytes, body } = frame(LinkKind.grant, 0, GrantBody.size);
  body.setUint16(GrantBody.version, grant.version, true);
  body.setUint32(GrantBody.reservedBytes, grant.reservedBytes, true);
  body.setBigUint64(GrantBody.capacityBytes, BigInt(grant.capacityBytes), true);
  body.setBigUint64(GrantBody.connectionId, BigInt(grant.connectionId), true);
  bytes.set(grant.senderId, LinkHeader.size + GrantBody.senderId);
  return bytes;
}

export function decodeGrant(message: Message): Grant {
  const body = bodyView(message, GrantBody.size, "grant");
  assertLength(message, GrantBody.size, "grant");
  return {
    version: body.getUint16(GrantBody.version, true),
    reservedBytes: body.getUint32(GrantBody.reservedBytes, true),
    capacityBytes: Number(body.getBigUint64(GrantBody.capacityBytes, true)),
    connectionId: Number(body.getBigUint64(GrantBody.connectionId, true)),
    senderId: message.body.slice(GrantBody.senderId, GrantBody.senderId + 16),
  };
}

export function encodeSubscribe(requestId: number, request: SubscribeRequest): Uint8Array {
  const keys = [...request.accounts, ...request.owners];
  const { bytes, body } = frame(LinkKind.subscribe, requestId, SubscribeBody.size + ADDRESS_SIZE * keys.length);
  body.setUint32(SubscribeBody.accountCount, request.accounts.length, true);
  body.setUint32(SubscribeBody.ownerCount, request.owners.length, true);
  body.setUint32(SubscribeBody.transactions, request.transactions ? 1 : 0, true);
  keys.forEach((key, i) => bytes.set(key as Uint8Array, LinkHeader.size + SubscribeBody.size + ADDRESS_SIZE * i));
  return bytes;
}

export function decodeSubscribe(message: Message): SubscribeRequest {
  const body = bodyView(message, SubscribeBody.size, "subscribe");
  const accountCount = body.getUint32(SubscribeBody.accountCount, true);
  const ownerCount = body.getUint32(SubscribeBody.ownerCount, true);
  const transactions = body.getUint32(SubscribeBody.transactions, true);
  if (transactions > 1) throw protocolError(`a subscribe with ${transactions} for transactions`);
  assertLength(message, SubscribeBody.size + ADDRESS_SIZE * (accountCount + ownerCount), "subscribe");
  const key = (i: number) => {
    const at = SubscribeBody.size + ADDRESS_SIZE * i;
    return message.body.slice(at, at + ADDRESS_SIZE);
  };
  return {
    accounts: Array.from({ length: accountCount }, (_, i) => key(i)),
    owners: Array.from({ length: ownerCount }, (_, i) => key(accountCount + i)),
    transactions: transactions === 1,
  };
}

export function encodeAck(requestId: number, ack: Ack): Uint8Array {
  const { bytes, body } = frame(LinkKind.ack, requestId, AckBody.size);
  body.setBigUint64(AckBody.sequence, ack.sequence, true);
  body.setUint32(AckBody.generation, ack.generation, true);
  return bytes;
}

export function decodeAck(message: Message): Ack {
  const body = bodyView(message, AckBody.size, "ack");
  assertLength(message, AckBody.size, "ack");
  return {
    sequence: body.getBigUint64(AckBody.sequence, true),
    generation: body.getUint32(AckBody.generation, true),
  };
}

export function encodeRefusal(requestId: number, refusal: Refusal): Uint8Array {
  const words = utf8.encode(refusal.text);
  const { bytes, body } = frame(LinkKind.refuse, requestId, RefuseBody.size + words.length);
  body.setInt32(RefuseBody.status, refusal.status, true);
  body.setUint32(RefuseBody.textLength, words.length, true);
  bytes.set(words, LinkHeader.size + RefuseBody.size);
  return bytes;
}

export function decodeRefusal(message: Message): Refusal {
  const body = bodyView(message, RefuseBody.size, "refusal");
  const textLength = body.getUint32(RefuseBody.textLength, true);
  assertLength(message, RefuseBody.size + textLength, "refusal");
  return { status: body.getInt32(RefuseBody.status, true), text: text.decode(message.body.subarray(RefuseBody.size)) };
}

/** A ping, pong: an empty body. */
export function encodeEmpty(kind: number, requestId: number): Uint8Array {
  return frame(kind, requestId, 0).bytes;
}

export function encodeGoodbye(reason: number): Uint8Array {
  const { bytes, body } = frame(LinkKind.goodbye, 0, 4);
  body.setUint32(0, reason, true);
  return bytes;
}

export function decodeGoodbye(message: Message): number {
  assertLength(message, 4, "goodbye");
  return bodyView(message, 4, "goodbye").getUint32(0, true);
}
