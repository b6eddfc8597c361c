/**
 * Control messages of wire version 9: bytes to values and back, and the cutting of a byte stream into messages.
 * May touch: the bytes it is given. May not touch: sockets, clocks.
 * Every rule is the Rust original's, and so is the order of checks: the tag's byte, the whole structure, the version, what
 * the kind of message demands. Bytes behind the last field are ignored when read and never written.
 *
 * @module
 */

import {
  ADDRESS_SIZE,
  V9_CONTROL_BYTES_MAX,
  V9_LIST_KEYS_MAX,
  V9_PATH_BYTES_MAX,
  V9_SLOT_NONE,
  V9_VERSION,
  V9ReadyShm,
  V9Subscribe,
  V9Tag,
  V9Token,
} from "../native/abi.generated.ts";
import { QlasterError, type QlasterErrorCode, type QlasterErrorOptions } from "../errors.ts";
import type { ReadonlyUint8Array, SlotToken } from "../types.ts";

export type { SlotToken };

/** What a consumer asks for. Without a token it asks for a slot. */
export interface SubscribeV9 {
  /** The slot that it is about. */
  readonly token: SlotToken | undefined;
  /** Keys of accounts, 32 bytes each, in this order. */
  readonly accounts: readonly ReadonlyUint8Array[];
  /** Keys of owners, likewise. */
  readonly owners: readonly ReadonlyUint8Array[];
  /** Whether it asks for transactions. */
  readonly transactions: boolean;
}

/** A slot, and where its ring is. The wake's descriptor comes along with the message. */
export interface ReadyShm {
  /** The slot. */
  readonly token: SlotToken;
  /** Where its ring can be opened. */
  readonly path: string;
  /** Exact to 2^53. Nobody relies on it: the ring's own header says it. */
  readonly capacityBytes: number;
}

/** The keys of a list, in one piece of memory: views of them are made as they are asked for. */
export class KeyBlock {
  readonly #bytes: Uint8Array;
  #all: Uint8Array[] | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get count(): number {
    return this.#bytes.length / ADDRESS_SIZE;
  }

  /** Views of some of the keys. */
  slice(from: number, to: number): Uint8Array[] {
    const end = Math.min(to, this.count);
    return Array.from({ length: Math.max(0, end - from) }, (_, i) => {
      return this.#bytes.subarray(ADDRESS_SIZE * (from + i), ADDRESS_SIZE * (from + i + 1));
    });
  }

  /** Views of all keys, the same at each call. */
  all(): Uint8Array[] {
    return this.#all ??= this.slice(0, this.count);
  }
}

/** What a consumer asks for, as it came: its keys share the message's memory. */
export interface SubscribeKeys {
  readonly token: SlotToken | undefined;
  readonly accounts: KeyBlock;
  readonly owners: KeyBlock;
  readonly transactions: boolean;
}

/** What a consumer says, likewise. */
export type ClientWords =
  | { readonly kind: "subscribe"; readonly request: SubscribeKeys }
  | { readonly kind: "ping"; readonly token: SlotToken };

/** The request in parts of at most so many keys, at least one part; what they ask for together is the same. */
export function* partsOf(
  { accounts, owners, transactions }: SubscribeKeys,
  keysMax: number,
): Generator<Omit<SubscribeV9, "token">> {
  const count = accounts.count + owners.count;
  for (let from = 0; from === 0 || from < count; from += keysMax) {
    const to = from + keysMax;
    yield {
      accounts: accounts.slice(from, to),
      owners: owners.slice(Math.max(0, from - accounts.count), Math.max(0, to - accounts.count)),
      transactions: transactions && to >= count,
    };
  }
}

/** The request with lists of keys, which are made when they are looked at. */
export function wholeOf({ token, accounts, owners, transactions }: SubscribeKeys): SubscribeV9 {
  return {
    token,
    get accounts() {
      return accounts.all();
    },
    get owners() {
      return owners.all();
    },
    transactions,
  };
}

/** What a consumer says. */
export type ClientMessage =
  | { readonly kind: "subscribe"; readonly request: SubscribeV9 }
  | { readonly kind: "ping"; readonly token: SlotToken };

/** What a sender says on its socket. */
export type ServerMessage =
  | { readonly kind: "ready"; readonly token: SlotToken }
  | { readonly kind: "ready-shm"; readonly ready: ReadyShm };

/** Every message starts with the length of the rest. */
const PREFIX_SIZE = Uint32Array.BYTES_PER_ELEMENT;
/** How long a list or a text is. */
const COUNT_SIZE = BigUint64Array.BYTES_PER_ELEMENT;
const BOOL_SIZE = 1;
/** Version and tag: what every message has. */
const MESSAGE_BYTES_MIN = V9Token.tag + 1;
/** The most that a list or a text may take, in bytes. */
const ELEMENT_BYTES_MAX = V9_LIST_KEYS_MAX * ADDRESS_SIZE;
const U64_MAX = (1n << 64n) - 1n;
/** The longest message that a consumer can mean: two full lists. What is longer has bytes that nobody reads. */
export const V9_CLIENT_BYTES_MAX: number = V9Subscribe.size + 2 * ELEMENT_BYTES_MAX + COUNT_SIZE + BOOL_SIZE;

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // a path is what it is

// Encoding

function frame(tag: number, bodyLength: number): { bytes: Uint8Array; body: DataView } {
  const bytes = new Uint8Array(PREFIX_SIZE + bodyLength);
  new DataView(bytes.buffer).setUint32(0, bodyLength, true);
  const body = new DataView(bytes.buffer, PREFIX_SIZE);
  body.setUint8(V9Token.version, V9_VERSION);
  body.setUint8(V9Token.tag, tag);
  return { bytes, body };
}

/** All messages have their token at the same place. */
function setToken(body: DataView, { slotIndex, generation }: SlotToken): void {
  if (!Number.isInteger(slotIndex) || slotIndex < 0 || slotIndex >= V9_SLOT_NONE) {
    throw new RangeError(`slotIndex must be an integer from 0 to ${V9_SLOT_NONE - 1}, not ${slotIndex}`);
  }
  if (typeof generation !== "bigint") throw new TypeError(`generation must be a bigint, not ${typeof generation}`);
  if (generation < 0n || generation > U64_MAX) {
    throw new RangeError(`generation must fit 64 bits without sign, ${generation} does not`);
  }
  body.setUint8(V9Token.slotIndex, slotIndex);
  body.setBigUint64(V9Token.slotGeneration, generation, true);
}

/** Writes a list, and returns where it ends. */
function setKeys(body: DataView, at: number, keys: readonly ReadonlyUint8Array[], name: string): number {
  body.setBigUint64(at, BigInt(keys.length), true);
  const bytes = new Uint8Array(body.buffer, body.byteOffset + at + COUNT_SIZE);
  keys.forEach((key, i) => {
    if (key.length !== ADDRESS_SIZE) {
      throw new TypeError(`Each of ${name} must have ${ADDRESS_SIZE} bytes, not ${key.length}`);
    }
    bytes.set(key as Uint8Array, ADDRESS_SIZE * i);
  });
  return at + COUNT_SIZE + ADDRESS_SIZE * keys.length;
}

/**
 * A subscribe message, with its length in front as all that is encoded here.
 * @throws {QlasterError} `V9_FRAME_TOO_LARGE` for a list of more than 131,072 keys, which the original's encoder panics at.
 * @throws {RangeError} for a token that no slot can have. @throws {TypeError} for a key that is not 32 bytes.
 */
export function encodeSubscribe(request: SubscribeV9): Uint8Array {
  const { token, accounts, owners, transactions } = request;
  for (const [name, keys] of [["accounts", accounts], ["owners", owners]] as const) {
    if (keys.length <= V9_LIST_KEYS_MAX) continue;
    const action = `Cannot encode a subscribe message with ${keys.length} ${name}, the limit is ${V9_LIST_KEYS_MAX}`;
    throw new QlasterError("V9_FRAME_TOO_LARGE", action, {
      found: ADDRESS_SIZE * keys.length,
      max: ELEMENT_BYTES_MAX,
    });
  }
  const keyBytes = ADDRESS_SIZE * (accounts.length + owners.length);
  const { bytes, body } = frame(V9Tag.subscribe, V9Subscribe.size + keyBytes + COUNT_SIZE + BOOL_SIZE);
  if (token === undefined) body.setUint8(V9Subscribe.slotIndex, V9_SLOT_NONE);
  else setToken(body, token);
  let at = setKeys(body, V9Subscribe.accountCount, accounts, "accounts");
  at = setKeys(body, at, owners, "owners");
  body.setUint8(at, transactions ? 1 : 0);
  return bytes;
}

function encodeToken(tag: number, token: SlotToken): Uint8Array {
  const { bytes, body } = frame(tag, V9Token.size);
  setToken(body, token);
  return bytes;
}

/** A ping, which nobody answers. @throws {RangeError} for a token that no slot can have. */
export function encodePing(token: SlotToken): Uint8Array {
  return encodeToken(V9Tag.ping, token);
}

/** The answer to a subscribe message with a live token. @throws {RangeError} for a token that no slot can have. */
export function encodeReady(token: SlotToken): Uint8Array {
  return encodeToken(V9Tag.ready, token);
}

/**
 * The answer with a new slot. It fits the 1024 bytes that the original reads at once.
 * @throws {RangeError} for a path of more than 993 bytes or none, a capacity that is no positive integer, or a token that
 * no slot can have.
 */
export function encodeReadyShm(ready: ReadyShm): Uint8Array {
  const { token, capacityBytes } = ready;
  const path = utf8.encode(ready.path);
  if (path.length < 1 || path.length > V9_PATH_BYTES_MAX) {
    throw new RangeError(`path must have 1 to ${V9_PATH_BYTES_MAX} bytes, it has ${path.length}`);
  }
  if (!Number.isSafeInteger(capacityBytes) || capacityBytes < 1) {
    throw new RangeError(`capacityBytes must be a positive integer, not ${capacityBytes}`);
  }
  const { bytes, body } = frame(V9Tag.readyShm, V9ReadyShm.size + path.length + COUNT_SIZE);
  setToken(body, token);
  body.setBigUint64(V9ReadyShm.pathLength, BigInt(path.length), true);
  bytes.set(path, PREFIX_SIZE + V9ReadyShm.size);
  body.setBigUint64(V9ReadyShm.size + path.length, BigInt(capacityBytes), true);
  return bytes;
}

// Decoding

function refusal(code: QlasterErrorCode, what: string, options?: QlasterErrorOptions): QlasterError {
  return new QlasterError(code, `Cannot read a message of wire version 9: ${what}`, options);
}

/** One message's bytes. Whatever reaches beyond their end does not decode. */
class Body {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** @throws {QlasterError} `V9_MALFORMED` if there is no tag. */
  constructor(bytes: Uint8Array) {
    if (bytes.length < MESSAGE_BYTES_MIN) throw refusal("V9_MALFORMED", `it has ${bytes.length} bytes`);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get tag(): number {
    return this.#bytes[V9Token.tag]!;
  }

  /** @throws {QlasterError} `V9_DECODE` if fewer than `size` bytes are there. */
  assertSize(size: number): void {
    if (this.#bytes.length < size) {
      throw refusal("V9_DECODE", `it has ${this.#bytes.length} bytes and needs ${size}`);
    }
  }

  /** @throws {QlasterError} `V9_VERSION` */
  assertVersion(): void {
    const version = this.#bytes[V9Token.version]!;
    if (version === V9_VERSION) return;
    throw refusal("V9_VERSION", `it is of version ${version}`, { found: version, expected: V9_VERSION });
  }

  u64(at: number): bigint {
    this.assertSize(at + COUNT_SIZE);
    return this.#view.getBigUint64(at, true);
  }

  bool(at: number): boolean {
    this.assertSize(at + BOOL_SIZE);
    const byte = this.#bytes[at]!;
    if (byte > 1) throw refusal("V9_DECODE", `a truth value is ${byte}`);
    return byte === 1;
  }

  /** The number of elements, each of `elementSize` bytes, all of which are there. */
  #count(at: number, elementSize: number): number {
    const count = this.u64(at);
    if (count * BigInt(elementSize) > BigInt(ELEMENT_BYTES_MAX)) {
      throw refusal("V9_DECODE", `${count} elements of ${elementSize} bytes are more than ${ELEMENT_BYTES_MAX} bytes`);
    }
    this.assertSize(at + COUNT_SIZE + elementSize * Number(count));
    return Number(count);
  }

  /** A list's keys, and where it ends. */
  keys(at: number): [keys: KeyBlock, end: number] {
    const start = at + COUNT_SIZE;
    const end = start + ADDRESS_SIZE * this.#count(at, ADDRESS_SIZE);
    return [new KeyBlock(this.#bytes.subarray(start, end)), end];
  }

  text(at: number): [value: string, end: number] {
    const start = at + COUNT_SIZE;
    const end = start + this.#count(at, 1);
    try {
      return [text.decode(this.#bytes.subarray(start, end)), end];
    } catch {
      throw refusal("V9_DECODE", "a text is not UTF-8");
    }
  }

  /** The token; undefined for none. */
  token(): SlotToken | undefined {
    const slotIndex = this.#bytes[V9Token.slotIndex]!;
    if (slotIndex === V9_SLOT_NONE) return undefined; // whatever the generation
    return { slotIndex, generation: this.#view.getBigUint64(V9Token.slotGeneration, true) };
  }

  /** @throws {QlasterError} `V9_MALFORMED` if there is none. */
  tokenOf(name: string): SlotToken {
    const token = this.token();
    if (token === undefined) throw refusal("V9_MALFORMED", `a ${name} without a token`);
    return token;
  }
}

/**
 * Reads what a consumer said.
 * @param bytes A message without its length. What is returned shares nothing with it.
 * @throws {QlasterError} `V9_MALFORMED`, `V9_TAG`, `V9_DECODE`, `V9_VERSION`, in the order of the original's checks.
 */
export function decodeClient(bytes: Uint8Array): ClientMessage {
  const message = readClient(bytes);
  if (message.kind === "ping") return message;
  const { token, accounts, owners, transactions } = message.request;
  const copies = (keys: KeyBlock) => keys.all().map((key) => key.slice());
  return { kind: "subscribe", request: { token, accounts: copies(accounts), owners: copies(owners), transactions } };
}

/** The same without a copy: the keys are where the message is. @throws as `decodeClient` */
export function readClient(bytes: Uint8Array): ClientWords {
  const body = new Body(bytes);
  switch (body.tag) {
    case V9Tag.subscribe: {
      body.assertSize(V9Subscribe.size);
      const [accounts, accountsEnd] = body.keys(V9Subscribe.accountCount);
      const [owners, ownersEnd] = body.keys(accountsEnd);
      const transactions = body.bool(ownersEnd);
      body.assertVersion();
      return { kind: "subscribe", request: { token: body.token(), accounts, owners, transactions } };
    }
    case V9Tag.ping:
      body.assertSize(V9Token.size);
      body.assertVersion();
      return { kind: "ping", token: body.tokenOf("ping") };
    default:
      throw refusal("V9_TAG", `tag ${body.tag} is not a consumer's`, { found: body.tag, expected: V9Tag.subscribe });
  }
}

/**
 * Reads what a sender said on its socket. Frames of data belong into rings: here their tags are refused.
 * @param bytes A message without its length.
 * @throws {QlasterError} `V9_MALFORMED`, `V9_TAG`, `V9_DECODE`, `V9_VERSION`, in the order of the original's checks.
 */
export function decodeServer(bytes: Uint8Array): ServerMessage {
  const body = new Body(bytes);
  switch (body.tag) {
    case V9Tag.ready:
      body.assertSize(V9Token.size);
      body.assertVersion();
      return { kind: "ready", token: body.tokenOf("ready message") };
    case V9Tag.readyShm: {
      body.assertSize(V9ReadyShm.size);
      const [path, pathEnd] = body.text(V9ReadyShm.pathLength);
      const capacity = body.u64(pathEnd);
      body.assertVersion();
      const token = body.tokenOf("ready message");
      if (path === "") throw refusal("V9_MALFORMED", "a ready message without a path");
      if (capacity === 0n) throw refusal("V9_MALFORMED", "a ready message without a capacity");
      return { kind: "ready-shm", ready: { token, path, capacityBytes: Number(capacity) } };
    }
    default:
      throw refusal("V9_TAG", `tag ${body.tag} is not a sender's on its socket`, {
        found: body.tag,
        expected: V9Tag.account, // the original's number for whatever a sender says
      });
  }
}

// Cutting

const NOTHING = new Uint8Array(0);

/** Cuts a byte stream into messages. Its memory grows with what came, not with what was announced. */
export class FrameCutter {
  readonly #bodyBytesMax: number;
  #buffer: Uint8Array = NOTHING;
  #filled = 0;

  /** A cutter at the start of a stream. @param bodyBytesMax Longest message that is accepted, without its length. */
  constructor(bodyBytesMax: number = V9_CONTROL_BYTES_MAX) {
    this.#bodyBytesMax = bodyBytesMax;
  }

  /** Bytes that wait for the rest of their message. */
  get pending(): number {
    return this.#filled;
  }

  /**
   * Takes what came, copying it, and returns the whole messages without their lengths.
   * @throws {QlasterError} `V9_FRAME_TOO_LARGE` for an announcement beyond the limit, at the push after the one that
   * returned what stood before it: so push, even nothing, until nothing is returned.
   */
  push(bytes: Uint8Array): Uint8Array[] {
    this.#append(bytes);
    const view = new DataView(this.#buffer.buffer);
    const bodies: Uint8Array[] = [];
    let at = 0;
    while (this.#filled - at >= PREFIX_SIZE) {
      const length = view.getUint32(at, true);
      if (length > this.#bodyBytesMax) {
        if (bodies.length > 0) break;
        throw refusal("V9_FRAME_TOO_LARGE", `it has ${length} bytes, the limit is ${this.#bodyBytesMax}`, {
          found: length,
          max: this.#bodyBytesMax,
        });
      }
      const end = at + PREFIX_SIZE + length;
      if (this.#filled < end) break;
      bodies.push(this.#buffer.slice(at + PREFIX_SIZE, end));
      at = end;
    }
    if (at > 0) {
      // What is left moves into memory of its own size: a long message's is given back.
      this.#buffer = this.#buffer.slice(at, this.#filled);
      this.#filled -= at;
    }
    return bodies;
  }

  #append(bytes: Uint8Array): void {
    const filled = this.#filled + bytes.length;
    if (filled > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(filled, 2 * this.#filled));
      larger.set(this.#buffer.subarray(0, this.#filled));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#filled);
    this.#filled = filled;
  }
}
