/**
 * A transaction's message, from protobuf back to the bytes that were signed: legacy, v0, v1 (SIMD-0385).
 * May touch: the bytes that it is given. May not touch: what a message means.
 * Source of the fields: `Message` of Solana's storage protocol, which Yellowstone sends; tests compare with kit's encoder.
 *
 * @module
 */

import { ProtobufError, ProtobufReader } from "./protobuf.ts";

const KEY_SIZE = 32;
/** More than any format can name, and few enough to be no burden. */
const PARTS_MAX = 65_535;
const V0 = 0x80;
const V1 = 0x81;
/** v1: which bits of the mask a value takes, and its bytes. By the number of its protobuf field. */
const V1_VALUES: readonly { readonly bits: number; readonly size: 4 | 8 }[] = [
  { bits: 0b11, size: 8 }, // 1: priority fee
  { bits: 0b100, size: 4 }, // 2: compute unit limit
  { bits: 0b1000, size: 4 }, // 3: limit of loaded accounts' data
  { bits: 0b10000, size: 4 }, // 4: heap size
];

interface Span {
  readonly start: number;
  readonly end: number;
}

interface Instruction {
  readonly program: number;
  readonly accounts: Span;
  readonly data: Span;
}

interface Lookup {
  readonly key: Span;
  readonly writable: Span;
  readonly readonly: Span;
}

const EMPTY: Span = { start: 0, end: 0 };
const sizeOf = ({ start, end }: Span) => end - start;

/** What has been read of a message, before its bytes are laid out. */
class Parts {
  readonly bytes: Uint8Array;
  readonly header: [number, number, number] = [0, 0, 0];
  readonly keys: Span[] = [];
  blockhash: Span = EMPTY;
  readonly instructions: Instruction[] = [];
  readonly lookups: Lookup[] = [];
  isVersioned = false;
  /** v1 only: its values by field number - 1. */
  config: (bigint | undefined)[] | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

const reader = new ProtobufReader();

function span(): Span {
  const end = reader.length();
  const start = reader.at;
  reader.at = end;
  return { start, end };
}

/** @throws {ProtobufError} for more parts than any transaction has: a long message can have millions of empty ones. */
function add<Part>(list: Part[], part: Part): void {
  if (list.length >= PARTS_MAX) throw new ProtobufError("a transaction has more parts than any can have");
  list.push(part);
}

/** Reads the fields of a message inside another. */
function inside(read: (tag: number) => void): void {
  const outer = reader.end;
  const end = reader.length();
  reader.end = end;
  while (reader.at < end) read(reader.varint());
  reader.end = outer;
}

function parse(bytes: Uint8Array, start: number, end: number): Parts {
  const parts = new Parts(bytes);
  reader.reset(bytes, start, end);
  while (reader.at < end) {
    const tag = reader.varint();
    switch (tag) {
      case 10: // header
        inside((tag) => {
          if (tag === 8 || tag === 16 || tag === 24) parts.header[(tag >> 3) - 1] = reader.varint();
          else reader.skip(tag);
        });
        break;
      case 18: // account key
        add(parts.keys, span());
        break;
      case 26:
        parts.blockhash = span();
        break;
      case 34: { // instruction
        let program = 0;
        let accounts = EMPTY;
        let data = EMPTY;
        inside((tag) => {
          if (tag === 8) program = reader.varint();
          else if (tag === 18) accounts = span();
          else if (tag === 26) data = span();
          else reader.skip(tag);
        });
        add(parts.instructions, { program, accounts, data });
        break;
      }
      case 40:
        parts.isVersioned = reader.varint() !== 0;
        break;
      case 50: { // address table lookup
        let key = EMPTY;
        let writable = EMPTY;
        let readonly = EMPTY;
        inside((tag) => {
          if (tag === 10) key = span();
          else if (tag === 18) writable = span();
          else if (tag === 26) readonly = span();
          else reader.skip(tag);
        });
        add(parts.lookups, { key, writable, readonly });
        break;
      }
      case 58: { // config: only v1 messages have one
        const config: (bigint | undefined)[] = [undefined, undefined, undefined, undefined];
        inside((tag) => {
          if (tag === 8 || tag === 16 || tag === 24 || tag === 32) config[(tag >> 3) - 1] = reader.u64();
          else reader.skip(tag);
        });
        parts.config = config;
        break;
      }
      default:
        reader.skip(tag);
    }
  }
  if (sizeOf(parts.blockhash) !== KEY_SIZE) throw new ProtobufError("a transaction's blockhash has not 32 bytes");
  if (parts.keys.some((key) => sizeOf(key) !== KEY_SIZE)) throw new ProtobufError("an account key has not 32 bytes");
  return parts;
}

/** Lays bytes out, in a buffer that grows. */
class Layout {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  start(): void {
    this.#length = 0;
  }

  u8(value: number): void {
    if (value > 255) throw new ProtobufError(`${value} in a transaction does not fit a byte`);
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  u16(value: number): void {
    this.#reserve(2);
    this.#view.setUint16(this.#length, value, true);
    this.#length += 2;
  }

  u32(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  u64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, value, true);
    this.#length += 8;
  }

  /** Solana's compact-u16. */
  count(value: number): void {
    if (value > PARTS_MAX) throw new ProtobufError(`${value} in a transaction does not fit 16 bits`);
    this.#reserve(3);
    for (; value > 127; value >>= 7) this.#bytes[this.#length++] = (value & 127) | 128;
    this.#bytes[this.#length++] = value;
  }

  copy(from: Uint8Array, { start, end }: Span): void {
    this.#reserve(end - start);
    this.#bytes.set(from.subarray(start, end), this.#length);
    this.#length += end - start;
  }

  list(from: Uint8Array, part: Span): void {
    this.count(sizeOf(part));
    this.copy(from, part);
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + more));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

const layout = new Layout();

/**
 * The bytes of a message, in memory of their own, from its protobuf form.
 * @throws {ProtobufError} for what is none.
 */
export function messageFromProtobuf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const parts = parse(bytes, start, end);
  layout.start();
  if (parts.config !== undefined) return layOutV1(parts, parts.config);
  if (parts.isVersioned) layout.u8(V0);
  for (const number of parts.header) layout.u8(number);
  layout.count(parts.keys.length);
  for (const key of parts.keys) layout.copy(bytes, key);
  layout.copy(bytes, parts.blockhash);
  layout.count(parts.instructions.length);
  for (const { program, accounts, data } of parts.instructions) {
    layout.u8(program);
    layout.list(bytes, accounts);
    layout.list(bytes, data);
  }
  if (parts.isVersioned) {
    layout.count(parts.lookups.length);
    for (const { key, writable, readonly } of parts.lookups) {
      if (sizeOf(key) !== KEY_SIZE) throw new ProtobufError("a lookup table's key has not 32 bytes");
      layout.copy(bytes, key);
      layout.list(bytes, writable);
      layout.list(bytes, readonly);
    }
  }
  return layout.finish();
}

function layOutV1(parts: Parts, config: readonly (bigint | undefined)[]): Uint8Array {
  const { bytes } = parts;
  layout.u8(V1);
  for (const number of parts.header) layout.u8(number);
  layout.u32(config.reduce((mask, value, i) => value === undefined ? mask : mask | V1_VALUES[i]!.bits, 0));
  layout.copy(bytes, parts.blockhash);
  layout.u8(parts.instructions.length);
  layout.u8(parts.keys.length);
  for (const key of parts.keys) layout.copy(bytes, key);
  config.forEach((value, i) => {
    if (value === undefined) return;
    if (V1_VALUES[i]!.size === 8) layout.u64(value);
    else layout.u32(Number(BigInt.asUintN(32, value)));
  });
  for (const { program, accounts, data } of parts.instructions) {
    layout.u8(program);
    layout.u8(sizeOf(accounts));
    if (sizeOf(data) > 65_535) throw new ProtobufError("an instruction's data do not fit 16 bits");
    layout.u16(sizeOf(data));
  }
  for (const { accounts, data } of parts.instructions) {
    layout.copy(bytes, accounts);
    layout.copy(bytes, data);
  }
  return layout.finish();
}
