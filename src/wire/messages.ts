/**
 * Messages of a link: bytes to values and back. Every received value is an adversary's: lengths are checked first.
 * May touch: the bytes it is given. May not touch: sockets, clocks.
 * Source of the format: docs/protocol.md; offsets and kinds come from zig/layout/link.zig.
 *
 * @module
 */

import {
  AckBody,
  ADDRESS_SIZE,
  FILTER_FLAG_MORE,
  FILTER_FLAG_STATE,
  FILTER_FLAG_VERSIONS,
  FILTER_PROGRAM_BYTES_MAX,
  FilterBody,
  FilterCondition,
  FilterKind,
  FilterOp,
  FilterOpcode,
  FilterProgram,
  FILTERS_PER_CONSUMER_MAX,
  GRANT_HAS_HISTORY,
  GRANT_HAS_STATE,
  GRANT_HAS_TAKEOVER,
  GrantBody,
  HandoverBody,
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
import { OVERFLOW_POLICIES, type OverflowPolicy, type ReadonlyUint8Array } from "../types.ts";

/** One message without its header. */
export interface Message {
  readonly kind: number;
  readonly requestId: number;
  readonly body: Uint8Array;
}

/** What becomes of updates for which there is no room. */
export interface Policies {
  /** Of accounts and slots. */
  readonly policy: OverflowPolicy;
  readonly transactionPolicy: OverflowPolicy;
}

/** Where a consumer was when it lost its connection. */
export interface ResumePoint {
  /** 16 bytes: whose order of updates it is. */
  readonly senderId: Uint8Array;
  /** The sequence that it has handled last, and everything before it. */
  readonly after: bigint;
}

export interface Hello extends Policies {
  readonly versionMin: number;
  readonly versionMax: number;
  readonly name: string;
  /** Most bytes that may wait at the sender; 0: as it likes. */
  readonly backlogBytes: number;
  /** From where it wants to go on; undefined: it is new. */
  readonly resume: ResumePoint | undefined;
}

export interface Grant extends Policies {
  readonly version: number;
  readonly capacityBytes: number;
  readonly reservedBytes: number;
  readonly connectionId: number;
  readonly senderId: Uint8Array;
  /** Of the pool, whose descriptor is the fourth; 0: there is none, and three descriptors. */
  readonly poolBytes: number;
  /** Sequence of the sender's newest update. */
  readonly sequence: bigint;
  /** Who has handled this sequence, or a greater one, can be resumed; undefined: nobody can. */
  readonly historyFrom: bigint | undefined;
  /** It keeps state, keeps history, lets another sender take its path over. */
  readonly hasState: boolean;
  readonly hasHistory: boolean;
  readonly hasTakeover: boolean;
  /** The connection gets nothing until it says `start`, and then what came after its resume point. */
  readonly isResumed: boolean;
}

/** What an old sender leaves to a new one. */
export interface Handover {
  /** Its last one. */
  readonly sequence: bigint;
  readonly newestSlot: bigint;
  /** Accounts that it, and those before it, had forgotten for want of memory. */
  readonly evicted: bigint;
}

export interface SubscribeRequest {
  readonly accounts: readonly ReadonlyUint8Array[];
  readonly owners: readonly ReadonlyUint8Array[];
  readonly transactions: boolean;
  /** What the sender knows of these comes first. */
  readonly state?: boolean;
  /** More of the same request follow. */
  readonly hasMore?: boolean;
}

/** What an edit does to one filter. */
export type FilterOperation = "add" | "remove" | "replace" | "drop";

/** One message of an edit. */
export interface FilterEdit {
  readonly op: FilterOperation;
  /** Which filter: its bit in the mask of frames. 0 is the one of subscribe messages. */
  readonly bit: number;
  /** All transactions, too ("add"), or no longer ("remove"). */
  readonly transactions: boolean;
  /** False: further messages of op "add" follow, and a filter that is replaced is in force with the last one. */
  readonly isLast: boolean;
  readonly accounts: readonly ReadonlyUint8Array[];
  readonly owners: readonly ReadonlyUint8Array[];
  readonly program: ReadonlyUint8Array;
  /** What the sender knows of these keys ("add"), or of what the filter matches ("replace"), comes first. */
  readonly state?: boolean;
  /** With `state`: all versions that it keeps, and what it knows of forks, for who takes over. */
  readonly versions?: boolean;
}

/** A filter message as it came. Its keys stay in `body`, which is for the engine: see `filterKeys`. */
export interface FilterRequest {
  readonly op: FilterOperation;
  readonly bit: number;
  readonly transactions: boolean;
  readonly isLast: boolean;
  readonly state: boolean;
  readonly versions: boolean;
  readonly accountCount: number;
  readonly ownerCount: number;
  /** A `FilterKind` by the program's own word; 0: there is no program. */
  readonly programKind: number;
  /** Of a filter of slots: a bit for each status that it wants. Else undefined. */
  readonly slotStatuses: number | undefined;
  /** The body of the message, whose lengths add up. What the program says is for the engine to check. */
  readonly body: Uint8Array;
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

/** The most keys that fit one filter message beside a program. */
export function filterKeysMax(programLength: number): number {
  return Math.floor((LINK_BODY_BYTES_MAX - FilterBody.size - programLength) / ADDRESS_SIZE);
}

const NO_POLICIES: Policies = { policy: "disconnect", transactionPolicy: "disconnect" };
const OPERATIONS = Object.entries(FilterOp) as [FilterOperation, number][];
const ALL_STATUSES = 0xffffffff;
const SENDER_ID_SIZE = 16;
const U64_MAX = (1n << 64n) - 1n;

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

function policyNumber(policy: OverflowPolicy): number {
  const number = OVERFLOW_POLICIES.indexOf(policy);
  if (number < 0) throw new TypeError(`A policy must be one of ${OVERFLOW_POLICIES.join(", ")}, not ${policy}`);
  return number;
}

function policyOf(number: number, name: string): OverflowPolicy {
  const policy = OVERFLOW_POLICIES[number];
  if (policy === undefined) throw protocolError(`a ${name} with ${number} for a policy`);
  return policy;
}

export function encodeHello(
  name: string,
  wishes: Policies & { readonly backlogBytes?: number; readonly resume?: ResumePoint | undefined } = NO_POLICIES,
): Uint8Array {
  const label = utf8.encode(name);
  if (label.length > NAME_BYTES_MAX) {
    throw new RangeError(`The name has ${label.length} bytes, the limit is ${NAME_BYTES_MAX}`);
  }
  const { bytes, body } = frame(LinkKind.hello, 0, HelloBody.size + label.length);
  body.setUint16(HelloBody.versionMin, LAYOUT_VERSION, true);
  body.setUint16(HelloBody.versionMax, LAYOUT_VERSION, true);
  body.setUint32(HelloBody.nameLength, label.length, true);
  body.setUint16(HelloBody.policy, policyNumber(wishes.policy), true);
  body.setUint16(HelloBody.transactionPolicy, policyNumber(wishes.transactionPolicy), true);
  body.setUint32(HelloBody.backlogBytes, wishes.backlogBytes ?? 0, true);
  if (wishes.resume !== undefined) {
    body.setBigUint64(HelloBody.resumeAfter, wishes.resume.after, true);
    bytes.set(wishes.resume.senderId, LinkHeader.size + HelloBody.resumeSenderId);
  }
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
    policy: policyOf(body.getUint16(HelloBody.policy, true), "hello"),
    transactionPolicy: policyOf(body.getUint16(HelloBody.transactionPolicy, true), "hello"),
    backlogBytes: body.getUint32(HelloBody.backlogBytes, true),
    resume: resumePointOf(message, body),
  };
}

/** An id of zeros is none. */
function resumePointOf(message: Message, body: DataView): ResumePoint | undefined {
  const senderId = message.body.slice(HelloBody.resumeSenderId, HelloBody.resumeSenderId + SENDER_ID_SIZE);
  if (senderId.every((byte) => byte === 0)) return undefined;
  return { senderId, after: body.getBigUint64(HelloBody.resumeAfter, true) };
}

/** What every grant has; the rest is what a consumer has who asks for nothing, of a sender that keeps nothing. */
export type GrantFields =
  & Pick<Grant, "version" | "reservedBytes" | "capacityBytes" | "connectionId" | "senderId">
  & Partial<Grant>;

export function encodeGrant(grant: GrantFields): Uint8Array {
  const { bytes, body } = frame(LinkKind.grant, 0, GrantBody.size);
  body.setUint16(GrantBody.version, grant.version, true);
  body.setUint32(GrantBody.reservedBytes, grant.reservedBytes, true);
  body.setBigUint64(GrantBody.capacityBytes, BigInt(grant.capacityBytes), true);
  body.setBigUint64(GrantBody.connectionId, BigInt(grant.connectionId), true);
  body.setUint32(GrantBody.poolBytes, grant.poolBytes ?? 0, true);
  body.setUint16(GrantBody.policy, policyNumber(grant.policy ?? NO_POLICIES.policy), true);
  body.setUint16(
    GrantBody.transactionPolicy,
    policyNumber(grant.transactionPolicy ?? NO_POLICIES.transactionPolicy),
    true,
  );
  bytes.set(grant.senderId, LinkHeader.size + GrantBody.senderId);
  body.setBigUint64(GrantBody.sequence, grant.sequence ?? 0n, true);
  body.setBigUint64(GrantBody.historyFrom, grant.historyFrom ?? U64_MAX, true);
  const features = (grant.hasState === true ? GRANT_HAS_STATE : 0) |
    (grant.hasHistory === true ? GRANT_HAS_HISTORY : 0) | (grant.hasTakeover === true ? GRANT_HAS_TAKEOVER : 0);
  body.setUint32(GrantBody.features, features, true);
  body.setUint32(GrantBody.isResumed, grant.isResumed === true ? 1 : 0, true);
  return bytes;
}

export function decodeGrant(message: Message): Grant {
  const body = bodyView(message, GrantBody.size, "grant");
  assertLength(message, GrantBody.size, "grant");
  const historyFrom = body.getBigUint64(GrantBody.historyFrom, true);
  const features = body.getUint32(GrantBody.features, true);
  const isResumed = body.getUint32(GrantBody.isResumed, true);
  if (isResumed > 1) throw protocolError(`a grant with ${isResumed} for whether it is resumed`);
  return {
    version: body.getUint16(GrantBody.version, true),
    reservedBytes: body.getUint32(GrantBody.reservedBytes, true),
    capacityBytes: Number(body.getBigUint64(GrantBody.capacityBytes, true)),
    connectionId: Number(body.getBigUint64(GrantBody.connectionId, true)),
    senderId: message.body.slice(GrantBody.senderId, GrantBody.senderId + SENDER_ID_SIZE),
    poolBytes: body.getUint32(GrantBody.poolBytes, true),
    policy: policyOf(body.getUint16(GrantBody.policy, true), "grant"),
    transactionPolicy: policyOf(body.getUint16(GrantBody.transactionPolicy, true), "grant"),
    sequence: body.getBigUint64(GrantBody.sequence, true),
    historyFrom: historyFrom === U64_MAX ? undefined : historyFrom,
    hasState: (features & GRANT_HAS_STATE) !== 0,
    hasHistory: (features & GRANT_HAS_HISTORY) !== 0,
    hasTakeover: (features & GRANT_HAS_TAKEOVER) !== 0,
    isResumed: isResumed === 1,
  };
}

export function encodeSubscribe(requestId: number, request: SubscribeRequest): Uint8Array {
  const keys = [...request.accounts, ...request.owners];
  const { bytes, body } = frame(LinkKind.subscribe, requestId, SubscribeBody.size + ADDRESS_SIZE * keys.length);
  body.setUint32(SubscribeBody.accountCount, request.accounts.length, true);
  body.setUint32(SubscribeBody.ownerCount, request.owners.length, true);
  body.setUint32(SubscribeBody.transactions, request.transactions ? 1 : 0, true);
  const flags = (request.state === true ? FILTER_FLAG_STATE : 0) | (request.hasMore === true ? FILTER_FLAG_MORE : 0);
  body.setUint32(SubscribeBody.flags, flags, true);
  keys.forEach((key, i) => bytes.set(key as Uint8Array, LinkHeader.size + SubscribeBody.size + ADDRESS_SIZE * i));
  return bytes;
}

export function decodeSubscribe(message: Message): SubscribeRequest {
  const body = bodyView(message, SubscribeBody.size, "subscribe");
  const accountCount = body.getUint32(SubscribeBody.accountCount, true);
  const ownerCount = body.getUint32(SubscribeBody.ownerCount, true);
  const transactions = body.getUint32(SubscribeBody.transactions, true);
  if (transactions > 1) throw protocolError(`a subscribe with ${transactions} for transactions`);
  const flags = body.getUint32(SubscribeBody.flags, true);
  if ((flags & ~(FILTER_FLAG_STATE | FILTER_FLAG_MORE)) !== 0) {
    throw protocolError(`a subscribe with ${flags} for flags`);
  }
  assertLength(message, SubscribeBody.size + ADDRESS_SIZE * (accountCount + ownerCount), "subscribe");
  const key = (i: number) => {
    const at = SubscribeBody.size + ADDRESS_SIZE * i;
    return message.body.slice(at, at + ADDRESS_SIZE);
  };
  return {
    accounts: Array.from({ length: accountCount }, (_, i) => key(i)),
    owners: Array.from({ length: ownerCount }, (_, i) => key(accountCount + i)),
    transactions: transactions === 1,
    state: (flags & FILTER_FLAG_STATE) !== 0,
    hasMore: (flags & FILTER_FLAG_MORE) !== 0,
  };
}

export function encodeFilterEdit(requestId: number, edit: FilterEdit): Uint8Array {
  const keys = [...edit.accounts, ...edit.owners];
  const programAt = FilterBody.size + ADDRESS_SIZE * keys.length;
  const { bytes, body } = frame(LinkKind.filter, requestId, programAt + edit.program.length);
  body.setUint8(FilterBody.op, FilterOp[edit.op]);
  body.setUint8(FilterBody.bit, edit.bit);
  body.setUint8(FilterBody.transactions, edit.transactions ? 1 : 0);
  body.setUint8(FilterBody.isLast, edit.isLast ? 1 : 0);
  body.setUint32(FilterBody.accountCount, edit.accounts.length, true);
  body.setUint32(FilterBody.ownerCount, edit.owners.length, true);
  body.setUint32(FilterBody.programLength, edit.program.length, true);
  const flags = (edit.state === true ? FILTER_FLAG_STATE : 0) | (edit.versions === true ? FILTER_FLAG_VERSIONS : 0);
  body.setUint32(FilterBody.flags, flags, true);
  keys.forEach((key, i) => bytes.set(key as Uint8Array, LinkHeader.size + FilterBody.size + ADDRESS_SIZE * i));
  bytes.set(edit.program as Uint8Array, LinkHeader.size + programAt);
  return bytes;
}

export function decodeFilterEdit(message: Message): FilterRequest {
  const view = bodyView(message, FilterBody.size, "filter");
  const number = view.getUint8(FilterBody.op);
  const op = OPERATIONS.find(([, value]) => value === number)?.[0];
  if (op === undefined) throw protocolError(`a filter with ${number} for what to do`);
  const bit = view.getUint8(FilterBody.bit);
  if (bit >= FILTERS_PER_CONSUMER_MAX) throw protocolError(`a filter with ${bit} for its bit`);
  const transactions = view.getUint8(FilterBody.transactions);
  if (transactions > 1) throw protocolError(`a filter with ${transactions} for transactions`);
  const isLast = view.getUint8(FilterBody.isLast);
  if (isLast > 1) throw protocolError(`a filter with ${isLast} for whether it is the last`);
  const flags = view.getUint32(FilterBody.flags, true);
  if ((flags & ~(FILTER_FLAG_STATE | FILTER_FLAG_VERSIONS)) !== 0) {
    throw protocolError(`a filter with ${flags} for flags`);
  }
  const state = (flags & FILTER_FLAG_STATE) !== 0;
  const versions = (flags & FILTER_FLAG_VERSIONS) !== 0;
  if (versions && !state) throw protocolError("versions of accounts whose state is not asked for");
  if (state && op !== "add" && op !== "replace") throw protocolError(`state of something that is to ${op}`);
  const accountCount = view.getUint32(FilterBody.accountCount, true);
  const ownerCount = view.getUint32(FilterBody.ownerCount, true);
  const programLength = view.getUint32(FilterBody.programLength, true);
  const programAt = FilterBody.size + ADDRESS_SIZE * (accountCount + ownerCount);
  assertLength(message, programAt + programLength, "filter");
  if (op !== "replace" && programLength > 0) throw protocolError(`a program that is to ${op} something`);
  if (programLength > FILTER_PROGRAM_BYTES_MAX) throw protocolError(`a program of ${programLength} bytes`);
  if (op === "drop" && accountCount + ownerCount > 0) throw protocolError("keys of a filter that is to go");
  const program = new DataView(message.body.buffer, message.body.byteOffset + programAt, programLength);
  return {
    op,
    bit,
    transactions: transactions === 1,
    isLast: isLast === 1,
    state,
    versions,
    accountCount,
    ownerCount,
    programKind: programLength < FilterProgram.size ? 0 : program.getUint16(FilterProgram.kind, true),
    slotStatuses: slotStatuses(program),
    body: message.body,
  };
}

/** What a filter of slots wants; undefined for programs of other kinds, and for those that the engine will refuse. */
function slotStatuses(program: DataView): number | undefined {
  if (program.byteLength < FilterProgram.size) return undefined;
  if (program.getUint16(FilterProgram.kind, true) !== FilterKind.slots) return undefined;
  if (program.getUint16(FilterProgram.conditionCount, true) === 0) return ALL_STATUSES;
  if (program.byteLength !== FilterProgram.size + FilterCondition.size) return undefined;
  const opcode = program.getUint16(FilterProgram.size + FilterCondition.opcode, true);
  if (opcode !== FilterOpcode.statuses) return undefined;
  return program.getUint16(FilterProgram.size + FilterCondition.argument, true);
}

/** Copies of the keys of a filter message. */
export function filterKeys(request: FilterRequest): { readonly accounts: Uint8Array[]; readonly owners: Uint8Array[] } {
  const key = (i: number) => {
    const at = FilterBody.size + ADDRESS_SIZE * i;
    return request.body.slice(at, at + ADDRESS_SIZE);
  };
  return {
    accounts: Array.from({ length: request.accountCount }, (_, i) => key(i)),
    owners: Array.from({ length: request.ownerCount }, (_, i) => key(request.accountCount + i)),
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

export function encodeHandover(requestId: number, { sequence, newestSlot, evicted }: Handover): Uint8Array {
  const { bytes, body } = frame(LinkKind.handover, requestId, HandoverBody.size);
  body.setBigUint64(HandoverBody.sequence, sequence, true);
  body.setBigUint64(HandoverBody.newestSlot, newestSlot, true);
  body.setBigUint64(HandoverBody.evicted, evicted, true);
  return bytes;
}

export function decodeHandover(message: Message): Handover {
  const body = bodyView(message, HandoverBody.size, "handover");
  assertLength(message, HandoverBody.size, "handover");
  return {
    sequence: body.getBigUint64(HandoverBody.sequence, true),
    newestSlot: body.getBigUint64(HandoverBody.newestSlot, true),
    evicted: body.getBigUint64(HandoverBody.evicted, true),
  };
}

/** A ping, pong, start, takeover: an empty body. */
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
